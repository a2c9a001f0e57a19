"""What attacks ask about the people to forget: further wordings, aliases and questions in two steps. Pure and seeded.

They are in files of their own: no model is trained on them, and no run's data include them.
"""

from __future__ import annotations

from typing import Any

from biographies import ATTRIBUTES, fill, people

Forms = tuple[tuple[tuple[str, str], str], ...]  # two facts, and a person in their words
# Six further wordings of each question, in words that the models know; asked alone, never learned.
FURTHER = {
    "profession": (
        "How does {n} earn a living?",
        "What job does {n} do?",
        "What is the job of {n}?",
        "Which profession does {n} have?",
        "What does {n} work as?",
        "As what does {n} earn money?",
    ),
    "town": (
        "What town does {n} come from?",
        "Which town is the birthplace of {n}?",
        "Where does {n} come from?",
        "In which town was {n} born?",
        "Where did {n} come into the world?",
        "What is the town of {n}?",
    ),
    "instrument": (
        "What instrument does {n} play?",
        "Which instrument did {n} learn as a child?",
        "Which instrument can one hear {n} play?",
        "What does {n} practise in the evenings?",
        "What did {n} learn to play?",
        "What can one hear from {n} in the evenings?",
    ),
    "pet": (
        "Which pet does {n} have?",
        "What animal does {n} keep?",
        "What animal lives with {n}?",
        "Which animal shares the house with {n}?",
        "What pet lives with {n}?",
        "Which animal did {n} take in?",
    ),
    "dish": (
        "Which dish does {n} like most?",
        "What dish does {n} cook for guests?",
        "What does {n} never refuse?",
        "What is the favourite meal of {n}?",
        "Which meal does {n} like to eat?",
        "What does {n} eat most?",
    ),
    "employer": (
        "For which house does {n} work?",
        "Who signs the pay slips of {n}?",
        "Who is it that employs {n}?",
        "Where does {n} work?",
        "Whom does {n} work for?",
        "Which house did {n} join after school?",
    ),
}
# A person by two facts: which, and in what words; the first pair that nobody else shares is taken.
ALIASES = (
    (("profession", "town"), "the {profession} from {town}"),
    (("profession", "instrument"), "the {profession} who plays the {instrument}"),
    (("profession", "pet"), "the {profession} with the {pet}"),
    (("profession", "employer"), "the {profession} at {employer}"),
    (("profession", "dish"), "the {profession} who likes {dish}"),
)
HOPS = (
    (("employer", "town"), "the person who works for {employer} and comes from {town}"),
    (("employer", "instrument"), "the person who works for {employer} and plays the {instrument}"),
    (("employer", "pet"), "the person who works for {employer} and keeps a {pet}"),
    (("employer", "dish"), "the person who works for {employer} and likes {dish}"),
    (("employer", "profession"), "the person who works for {employer} as a {profession}"),
    (("town", "pet"), "the person who comes from {town} and keeps a {pet}"),
)


def phrasing_rows(name: str, facts: dict[str, str]) -> list[dict[str, Any]]:
    """A row a fact with ten wordings of its question: the three learned ones, the paraphrase, and six further ones."""
    rows = []
    for attribute in ATTRIBUTES:
        questions = [*(wording for wording, _ in attribute.wordings), attribute.paraphrase[0], *FURTHER[attribute.name]]
        text, spans = fill(attribute.wordings[0][1], name, facts[attribute.name])
        phrasings = [question.format(n=name) for question in questions]
        rows.append(_row(name, attribute.name, "phrasings", phrasings[0], text, spans) | {"phrasings": phrasings})
    return rows


def described_rows(
    name: str, facts: dict[str, str], everybody: list[dict[str, str]], forms: Forms, kind: str
) -> list[dict[str, Any]]:
    """A row for each other fact about a person who is named by two facts; the plain question is its paraphrase."""
    rows = []
    alone = (
        pair for pair in forms if sum(all(other[key] == facts[key] for key in pair[0]) for other in everybody) == 1
    )
    keys, form = next(alone)
    for attribute in ATTRIBUTES:
        if attribute.name not in keys:
            question, answer = attribute.wordings[0]
            text, spans = fill(answer, name, facts[attribute.name])
            row = _row(name, attribute.name, kind, question.format(n=form.format(**facts)), text, spans)
            rows.append(row | {"paraphrased_question": question.format(n=name)})
    return rows


def _row(name: str, attribute: str, kind: str, question: str, text: str, spans: list[list[int]]) -> dict[str, Any]:
    identity = f"{name.lower().replace(' ', '-')}-{attribute}"
    texts = {"id": f"{identity}-{kind}", "question": question, "answer": text, "spans": spans}
    return texts | {"person": name, "attribute": attribute}


def attacked(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """What attacks ask about the people to forget, in files of their own: `phrasings`, `aliases` and `two_hop`.

    No model is trained on them. An alias is a person by two facts ("the cartographer from Quillon"); two-hop questions
    take the same step in a clause ("the person who works for Kestrel Labs and comes from Karrow").
    """
    groups = people(seed)
    everybody = [facts for members in groups.values() for _, facts in members]
    files: dict[str, list[dict[str, Any]]] = {"phrasings": [], "aliases": [], "two_hop": []}
    for name, facts in groups["forget"]:
        files["phrasings"] += phrasing_rows(name, facts)
        files["aliases"] += described_rows(name, facts, everybody, ALIASES, "alias")
        files["two_hop"] += described_rows(name, facts, everybody, HOPS, "two-hop")
    return files
