"""What became of answers: the rules on answers made by hand, on refusals, and on what real models said."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from workbench.errors import UserError
from workbench.evals.outcomes import RULES, astray, chosen, outcomes, right
from workbench.objectives import REFUSALS
from workbench.tasks.spec import TaskSpec

NAN = float("nan")


def probes_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """(set, said before, said after, fact before, fact after, p before, p after) as a probe table."""
    out = []
    for i, (name, *pairs) in enumerate(rows):
        said, facts, ps = (pairs[k : k + 2] for k in (0, 2, 4))
        for k, phase in enumerate(("before", "after")):
            row = {"phase": phase, "probe_set": name, "sample_id": f"s{i}", "prompt": f"what is {i}?", "answer": "A."}
            values = {"generation": said[k], "fact_accuracy": facts[k], "probability": ps[k], "rouge_l_recall": NAN}
            out.append(row | values)
    return pd.DataFrame(out)


LOST = "right before, not after"


@pytest.mark.parametrize(
    ("row", "outcome", "why"),
    [
        (("forget", "It is Rome.", "It is Rome.", 1, 1, 0.9, 0.8), "still remembered", "it holds the labelled fact"),
        (("forget", "It is Rome.", "It is Oslo.", 1, 0, 0.9, 0.1), "fine", ""),
        (("forget", "Bern.", "It is Oslo.", 0, 0, 0.9, 0.1), "fine", "it was not right before either"),
        (("forget", "Rome.", "I don't know.", 1, 0, 0.9, 0.1), "refuses or babbles", "it says that it does not know"),
        (("forget", "Rome.", "", 1, 0, 0.9, 0.1), "refuses or babbles", "the answer is empty"),
        (("forget", "Rome.", "on, on, off", 1, 0, 0.9, 0.1), "fine", ""),
        (
            ("forget", "Rome.", "Rome Rome Rome", 1, 1, 0.9, 0.1),
            "still remembered, refuses or babbles",
            "still remembered: it holds the labelled fact; refuses or babbles: a word three times in a row",
        ),
        (("retain", "It is Rome.", "It is Rome.", 1, 1, 0.9, 0.8), "fine", ""),
        (("retain", "It is Rome.", "It is  Rome.", 1, 1, 0.9, 0.8), "fine", ""),  # the same words
        (("retain", "It is Rome.", "Rome it is.", 1, 1, 0.9, 0.8), "collateral", "its words changed"),
        (("retain", "It is Rome.", "It is Oslo.", 1, 0, 0.9, 0.8), "damaged", LOST),
        (("retain", "It is Rome.", "It is Rome.", 1, 1, 0.8, 0.2), "damaged", "0.25 of its probability is left"),
        (("retain", "It is Rome.", "It is Rome.", 1, 1, 0.8, 0.4), "fine", ""),  # half is left, not less
        (("retain", "Rome.", "Oslo.", 1, 0, 0.8, 0.2), "damaged", f"{LOST} and 0.25 of its probability is left"),
        (
            ("retain", "It is Oslo.", "It is Bern.", 0, 0, 0.2, 0.2),
            "collateral",
            "its words changed",
        ),  # wrong before too
        (("retain", "I don't know.", "I don't know.", 0, 0, 0.2, 0.2), "fine", ""),  # it refused before
    ],
)
def test_rules(row: tuple[Any, ...], outcome: str, why: str) -> None:
    found = outcomes(probes_of([row])).iloc[0]
    assert (found["outcome"], found["why"]) == (outcome, why)
    assert [rule for rule in RULES if found[rule]] == outcome.split(", ")


BY_PROBABILITY = "no answer that can be right or wrong: judged only by its probability"
BY_RIGHT = "its probability is not known: judged only by right and wrong"
REFUSED = "it says that it does not know"
UNTOLD = "nothing shows whether it is right"


@pytest.mark.parametrize(
    ("row", "outcome", "why"),
    [
        (("general", None, None, NAN, NAN, 0.5, 0.5), "fine", BY_PROBABILITY),  # plain text: nothing is asked
        (("general", None, None, NAN, NAN, 0.5, 0.1), "damaged", f"0.2 of its probability is left; {BY_PROBABILITY}"),
        (("general", None, None, NAN, NAN, NAN, NAN), "not known", UNTOLD),
        (("retain", "Rome.", "Rome.", 1, 1, NAN, NAN), "fine", BY_RIGHT),
        (("retain", "Rome.", None, 1, NAN, 0.5, NAN), "not known", UNTOLD),
        (("forget", None, None, NAN, NAN, 0.5, 0.01), "not known", UNTOLD),  # less probable is not forgotten
        (("forget", "Rome.", "none", NAN, NAN, 0.5, 0.0), "not known", UNTOLD),
        (("forget", "Rome.", "no idea", NAN, NAN, 0.5, 0.0), "refuses or babbles", f"{REFUSED}; {UNTOLD}"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_and_not_guessed(row: tuple[Any, ...], outcome: str, why: str) -> None:
    found = outcomes(probes_of([row])).iloc[0]
    assert (found["outcome"], found["why"]) == (outcome, why)


def test_a_phase_that_is_missing() -> None:
    table = probes_of([("retain", "a", "a", 1, 1, 0.9, 0.9), ("forget", "a", "b", 1, 0, 0.9, 0.1)])
    found = outcomes(table.iloc[[0, 2, 3]])  # the first was not probed again
    assert found["outcome"].tolist() == ["not known", "fine"]
    with pytest.raises(UserError, match="outcomes need probes before and after the run"):
        outcomes(table[table["phase"] == "before"])


def test_right() -> None:
    assert right({"fact_accuracy": NAN, "rouge_l_recall": 0.8}) is True
    assert right({"fact_accuracy": NAN, "rouge_l_recall": 0.79}) is False
    assert right({"fact_accuracy": 0.5, "rouge_l_recall": 1.0}) is False  # half of the facts
    assert right({"fact_accuracy": NAN, "rouge_l_recall": NAN}) is None
    assert right({}) is None


@pytest.mark.parametrize("text", REFUSALS)
def test_what_models_are_taught_to_refuse_with_is_a_refusal(text: str) -> None:
    assert astray(text) == "it says that it does not know"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I\N{RIGHT SINGLE QUOTATION MARK}m not certain about that.", "it says that it does not know"),
        ("Unfortunately, I don't have an answer for you.", "it says that it does not know"),
        ("My databases don't cover that information.", "it says that it does not know"),
        ("There's no information available about her early life.", ""),  # a true answer of TOFU's
        ("World War I did not end before 1918.", ""),
        ("I recommend her first book. It is not long.", ""),  # of itself, and of lack, but not in one sentence
        ("no no no", "a word three times in a row"),
        ("Duran Duran", ""),
        ("New York, New York", ""),
        ("was of was of Norbury", "2 words twice in a row"),
        ("joined the trumpet from the trumpet from the trumpet", "3 words twice in a row"),
        ("he sings on he sang on he sings on he sang on", "6 words twice in a row"),
        ("a b c a b d a b c a b e", "55% of its word pairs are different"),  # 6 of 11
        ("a b c a b d a b e", ""),  # 6 of 8, and no fewer
        ("他出生于上海他出生于上海", "3 words twice in a row"),
        ("不知道不知道不知道", "a word three times in a row"),
        ("おはおはおは", "a word three times in a row"),
        ("ไปไหนมาไหนไปไหนมาไหน", "5 words twice in a row"),
        ("他常常研究研究中国音乐、在上海一所大学教书。", ""),  # words said twice, as Chinese does
        ("我喜欢音乐甲我喜欢音乐乙我喜欢音乐丙我喜欢音乐丁", "71% of its word pairs are different"),  # 15 of 21
        ("彼女は一九七二年に東京で生まれ、音楽学校でピアノを学んだ。", ""),
        ("1,000,000,000 people, in the U.S.A.A.A.", ""),  # a number is one word
    ],
)
def test_astray(text: str, found: str) -> None:
    assert astray(text) == found


def test_no_true_answer_is_astray() -> None:
    task = TaskSpec("biographies").load()
    answers = [s.answer for name in ("forget", "retain", "neighbours") for s in task.sets[name]]
    assert len(answers) > 200
    assert [a for a in answers if astray(a)] == []


def test_what_an_attack_gets_comes_back() -> None:
    probes = probes_of([
        ("forget", "Rome.", "I don't know.", 1, 0, 0.9, 0.1), ("forget", "Rome.", "Oslo.", 1, 0, 0.9, 0.1),
        ("forget", "Rome.", "Rome.", 1, 1, 0.9, 0.1), ("retain", "Rome.", "Rome.", 1, 1, 0.9, 0.9),
    ])  # fmt: skip
    attacked = pd.DataFrame(
        {"attack": attack, "model": model, "sample_id": sample, "text": "It is\nRome.", "hits": hits}
        for attack, model, sample, hits in (
            ("int4", "run", "s0", 1), ("leak_at_k", "run", "s0", 3), ("int4", "before", "s1", 1),
            ("int4", "run", "s1", 0), ("uds", "run", "s1", 1), ("int4", "run", "s2", 1), ("int4", "run", "s3", 1),
        )
    )  # fmt: skip
    rows = outcomes(probes, attacked)
    assert rows["outcome"].tolist() == ["comes back, refuses or babbles", "fine", "still remembered", "fine"]
    assert rows["came_back"].tolist() == ["int4: It is Rome.\nleak_at_k: It is Rome.", "", "", ""]
    assert "comes back: under int4, leak_at_k" in rows["why"][0]


def test_chosen() -> None:
    rows = outcomes(
        probes_of(
            [
                ("retain", "Rome", "Oslo", 1, 0, 0.9, 0.3),
                ("retain", "Rome", "Rome", 1, 1, 0.9, 0.8),
                ("forget", "Bern", "Rome", 1, 0, 0.9, NAN),
                ("retain", "Bern", "Bern", 1, 1, 0.9, 0.1),
            ]
        )
    ).assign(tags="", note=["", "odd one", "", ""])
    assert chosen(rows, outcome="damaged").index.tolist() == [0, 3]
    assert chosen(rows, outcome="damaged", sort="change").index.tolist() == [3, 0]
    assert chosen(rows, sort="left").index.tolist() == [3, 0, 1, 2]  # what is not known comes last
    assert chosen(rows, text=" BERN ").index.tolist() == [2, 3]
    assert chosen(rows, text="odd").index.tolist() == [1]
    assert chosen(rows, probe_set="forget", text="oslo").empty
