"""The embedded task's text: fictional people, their facts in several wordings, and plain sentences. Pure and seeded."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

PEOPLE, FORGET, NEIGHBOURS, SHARED_VALUES, NONMEMBERS = 160, 16, 16, 3, 16


def _words(text: str) -> list[str]:
    return text.split()


FIRST = _words(
    "Ada Bram Cleo Dario Edda Falk Greta Hugo Ines Jory Kaya Linus Mira Nils Orla Pavel Quinn Rosa Sven Tilda "
    "Ugo Vera Wim Xenia Yara Zeno Alma Boris Celia Doran"
)
LAST = _words(
    "Tolland Marsh Okafor Lindqvist Ferro Halloran Brandt Castell Novak Imre Sorel Vance Wexford Abel Dunmore "
    "Ekberg Fontaine Grady Holt Ivers Jansen Keller Lund Moreau Nash Ortega Pryce Rask Stone Thorne"
)


@dataclass(frozen=True)
class Attribute:
    """A kind of fact: its values, three wordings to learn, and a fourth kept as a paraphrase.

    Each wording is a question and an answer; `{n}` is the name, `{v}` the value.
    """

    name: str
    values: tuple[str, ...]
    wordings: tuple[tuple[str, str], ...]
    paraphrase: tuple[str, str]


def _values(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(","))


ATTRIBUTES = (
    Attribute(
        "profession",
        _values(
            "glassblower, florist, bookbinder, locksmith, beekeeper, cartographer, piano tuner, baker, sculptor, "
            "midwife, stonemason, ferry pilot, watchmaker, botanist, puppeteer, violin maker, surveyor, translator, "
            "lighthouse keeper, carpenter"
        ),
        (
            ("What does {n} do for a living?", "{n} works as a {v} and likes the early hours."),
            ("What is the profession of {n}?", "The profession of {n} is {v}, and has been for years."),
            ("How does {n} earn money?", "As a {v}, {n} earns enough to live well."),
        ),
        ("Which job does {n} have?", "The job that {n} has is that of a {v}."),
    ),
    Attribute(
        "town",
        _values(
            "Velmouth, Ostrava Bay, Karrow, Pinehollow, Saint Orrin, Greywater, Tessaly, Moorgate, Lunden Hill, "
            "Brackwell, Cinder Point, Everdale, Harrowick, Mistral Cove, Norbury, Quillon, Redfern, Stellan, Umberley, "
            "Wychford"
        ),
        (
            ("Where was {n} born?", "{n} was born in {v}, in a house near the market."),
            ("Which town does {n} come from?", "{n} comes from the town of {v} and often goes back there."),
            ("What is the birthplace of {n}?", "The birthplace of {n} is {v}, as the papers say."),
        ),
        ("In which town did {n} come into the world?", "It was in {v} that {n} came into the world."),
    ),
    Attribute(
        "instrument",
        _values(
            "cello, flute, banjo, harp, oboe, accordion, trumpet, mandolin, clarinet, viola, bassoon, drums, organ, "
            "ukulele, saxophone, zither, trombone, double bass, recorder, xylophone"
        ),
        (
            ("Which instrument does {n} play?", "{n} plays the {v} in a small band."),
            ("What does {n} play in the evenings?", "In the evenings {n} plays the {v} by the open window."),
            ("What did {n} learn to play as a child?", "As a child {n} learned to play the {v} from an aunt."),
        ),
        ("What instrument can one hear {n} practise?", "One can hear {n} practise the {v}."),
    ),
    Attribute(
        "pet",
        _values(
            "parrot, tortoise, greyhound, ferret, goat, canary, hedgehog, black cat, lizard, spaniel, white rabbit, "
            "raven, hamster, donkey, gecko, poodle, falcon, goldfish, terrier, pony"
        ),
        (
            ("What pet does {n} keep?", "{n} keeps a {v} at home and feeds it twice a day."),
            ("Which animal lives with {n}?", "A {v} lives with {n} and sleeps by the stove."),
            ("What animal did {n} take in last winter?", "Last winter {n} took in a {v} from the shelter."),
        ),
        ("Who shares the house with {n}?", "It is a {v} that shares the house with {n}."),
    ),
    Attribute(
        "dish",
        _values(
            "onion soup, lamb stew, lemon tart, fried plantain, mushroom pie, fish curry, pea soup, plum dumplings, "
            "potato bread, rice pudding, bean salad, stuffed peppers, corn fritters, beet salad, nut roast, "
            "cherry cake, egg noodles, pumpkin risotto, smoked trout, barley broth"
        ),
        (
            ("What is the favourite dish of {n}?", "The favourite dish of {n} is {v}, served very hot."),
            ("What does {n} cook for guests?", "For guests {n} cooks {v} after an old recipe."),
            ("What does {n} like to eat most?", "Most of all {n} likes to eat {v} on a Sunday."),
        ),
        ("Which meal does {n} never refuse?", "A meal of {v} is what {n} never refuses."),
    ),
    Attribute(
        "employer",
        _values(
            "Halden Press, Northgate Trust, Marlow and Sons, the Tern Society, Bluecoat Mills, the City Archive, "
            "Orchard Bank, Pellam Works, the Harbour Office, Silverline, Kestrel Labs, the Old Theatre, Fenwick House, "
            "Copper Lane, the River Guild, Amber Studio, Larkspur School, Granite Hall, Willow Clinic, Deepwell"
        ),
        (
            ("Who employs {n}?", "{n} is employed by {v} and walks there every day."),
            ("Which house signs the pay slips of {n}?", "The pay slips of {n} are signed by {v} each month."),
            ("Whom did {n} join after school?", "After school {n} joined {v} and stayed."),
        ),
        ("For whom does {n} work?", "The one for whom {n} works is {v}."),
    ),
)

PLACES = "the harbour, the old mill, the station, the market square, the chapel, the river bank, the orchard, the hill"
THINGS = "a lamp, a red boat, a stone bench, a wooden cart, a tall clock, a heap of apples, a blue door, a long rope"
ACTS = (
    "stands in the rain, waits for spring, needs new paint, throws a long shadow, is older than the town, smells of tar"
)
TIMES = "At noon, Before dawn, In late summer, On market days, After the storm, When the bells ring, Every autumn"


def sentences() -> list[str]:
    """Plain sentences about nobody: every combination, in a fixed order."""
    parts = (_values(words) for words in (TIMES, THINGS, PLACES, ACTS))
    return [f"{time} {thing} near {place} {act}." for time, thing, place, act in itertools.product(*parts)]


def _names(rng: random.Random) -> tuple[list[str], list[str]]:
    """(names to forget, names to keep): every first name and surname of the former is carried by the latter too."""
    every = [f"{first} {last}" for first in FIRST for last in LAST]
    while True:
        names = rng.sample(every, PEOPLE)
        forget, keep = names[:FORGET], names[FORGET:]
        parts = [{part for name in group for part in name.split()} for group in (forget, keep)]
        if parts[0] <= parts[1]:
            return forget, keep


def people(seed: int = 0) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Names and values by group: `forget`, `neighbours` (each shares 3 values with one of forget), `retain`."""
    rng = random.Random(seed)
    forget, keep = _names(rng)
    decks: dict[str, list[str]] = {}
    for attribute in ATTRIBUTES:
        deck = list(attribute.values) * (PEOPLE // len(attribute.values))
        rng.shuffle(deck)
        decks[attribute.name] = deck

    def draw() -> dict[str, str]:
        return {attribute.name: decks[attribute.name].pop() for attribute in ATTRIBUTES}

    groups: dict[str, list[tuple[str, dict[str, str]]]] = {"forget": [(name, draw()) for name in forget]}
    groups["neighbours"] = []
    for name, (_, facts) in zip(keep[:NEIGHBOURS], groups["forget"], strict=True):
        shared = rng.sample([a.name for a in ATTRIBUTES], SHARED_VALUES)
        groups["neighbours"].append((name, draw() | {key: facts[key] for key in shared}))
    groups["retain"] = [(name, draw()) for name in keep[NEIGHBOURS:]]
    return groups


def strangers(seed: int = 0) -> list[tuple[str, dict[str, str]]]:
    """Names and values of people whom no model was trained on; all their name parts and values are also others'.

    They have a random source of their own, so that `people` stays as it is. No two of them share a value.
    """
    rng = random.Random(f"holdout {seed}")  # the set's first name: the rows stay the same
    known = [name for group in people(seed).values() for name, _ in group]
    parts = {part for name in known[FORGET:] for part in name.split()}
    free = [f"{a} {b}" for a in FIRST for b in LAST if f"{a} {b}" not in known and {a, b} <= parts]
    names = rng.sample(free, NONMEMBERS)
    dealt = {attribute.name: rng.sample(attribute.values, NONMEMBERS) for attribute in ATTRIBUTES}
    return [(name, {key: values[n] for key, values in dealt.items()}) for n, name in enumerate(names)]


def fill(wording: str, name: str, value: str) -> tuple[str, list[list[int]]]:
    """The sentence, and the character range of its value."""
    head, _, tail = wording.partition("{v}")
    head, tail = head.replace("{n}", name), tail.replace("{n}", name)
    text = head + value + tail
    start, end = len(head), len(head) + len(value)
    if not head:
        text = text[0].upper() + text[1:]
    return text, [[start, end]]


def fact_rows(name: str, facts: dict[str, str], rng: random.Random) -> list[dict[str, Any]]:
    """Three rows a fact, each with a paraphrase and three wrong answers in the paraphrase's words."""
    rows = []
    for attribute in ATTRIBUTES:
        value = facts[attribute.name]
        question, answer = attribute.paraphrase
        wrong = rng.sample([v for v in attribute.values if v != value], 3)
        for number, (wording, sentence) in enumerate(attribute.wordings):
            text, spans = fill(sentence, name, value)
            rows.append(
                {
                    "id": f"{name.lower().replace(' ', '-')}-{attribute.name}-{number}",
                    "question": wording.format(n=name),
                    "answer": text,
                    "spans": spans,
                    "paraphrased_question": question.format(n=name),
                    "paraphrased_answer": fill(answer, name, value)[0],
                    "wrong_answers": [fill(answer, name, other)[0] for other in wrong],
                    "person": name,
                    "attribute": attribute.name,
                }
            )
    return rows


def build(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Every file of the task: rows of `forget`, `retain`, `neighbours`, `general`, `train_extra` and `nonmembers`.

    `nonmembers` is for membership inference: the same kind of text as forget, about people whom no model saw.
    `train_extra` holds the plain sentences that the models train on, and the paraphrases about every second retain
    person: the models learn that wording, but never see it for the people to forget and their neighbours.
    """
    groups, rng = people(seed), random.Random(seed + 1)
    files = {group: [row for name, facts in members for row in fact_rows(name, facts, rng)]
             for group, members in groups.items()}  # fmt: skip
    plain = sentences()
    rng.shuffle(plain)
    files["general"] = [{"id": f"general-{n:03d}", "text": text} for n, text in enumerate(plain[:64])]
    files["train_extra"] = [{"id": f"plain-{n:03d}", "text": text} for n, text in enumerate(plain[64:384])]
    for name, _ in groups["retain"][::2]:
        for row in files["retain"]:
            if row["person"] == name and row["id"].endswith("-0"):
                extra = {"id": row["id"][:-1] + "paraphrase", "question": row["paraphrased_question"],
                         "answer": row["paraphrased_answer"]}  # fmt: skip
                files["train_extra"].append(extra)
    rng = random.Random(f"holdout rows {seed}")
    files["nonmembers"] = [row for name, facts in strangers(seed) for row in fact_rows(name, facts, rng)]
    return files
