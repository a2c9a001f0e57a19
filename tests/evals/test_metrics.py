"""Metrics against hand-worked examples and rouge-score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.errors import NotAvailable, UserError
from workbench.evals.attacks import recovery
from workbench.evals.metrics import contains, metric
from workbench.evals.spec import CONVENTIONS, TRUST, Answer, aggregate, convention_options
from workbench.evals.summaries import summary


def answer(**changes: object) -> Answer:
    given: dict[str, object] = {
        "logp": np.log([0.5, 0.25, 1.0, 0.5]),
        "rank": np.array([0, 3, 0, 0]),
        "text": "Ada works as a baker.",
        "values": ("baker",),
        "generation": "Ada works as a Baker in town.",
        "true_nll": 0.5,
        "wrong_nlls": (1.0, 2.0),
    }
    return Answer(**{**given, **changes})  # type: ignore[arg-type]


def value(name: str, convention: str = "ours", **changes: object) -> float:
    return metric[name].function(answer(**changes), **convention_options(convention, name))


def test_by_hand() -> None:
    assert value("probability") == pytest.approx((0.5 * 0.25 * 1.0 * 0.5) ** 0.25)
    assert value("perplexity") == pytest.approx((0.5 * 0.25 * 1.0 * 0.5) ** -0.25)
    assert value("exact_memorization") == 0.75
    assert value("extraction_strength") == 0.5  # the argmax is right from the third token on
    assert value("extraction_strength", rank=np.zeros(4, dtype=int)) == 1
    assert value("extraction_strength", rank=np.array([0, 0, 0, 1])) == 0
    assert value("truth_ratio") == pytest.approx(math.exp(-1.5) / math.exp(-0.5))
    assert value("fact_accuracy") == 1
    assert value("fact_accuracy", generation="Ada works as a tailor.") == 0
    assert value("fact_accuracy", values=("baker", "Ada", "moon")) == 0


def test_rouge_is_the_library_s_recall() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    said = "Ada works with bakers"
    expected = RougeScorer(["rougeL"], use_stemmer=True).score("Ada works as a baker.", said)["rougeL"].recall
    assert value("rouge_l_recall", generation=said) == expected == pytest.approx(3 / 5)


def test_rouge_f1_is_the_library_s_without_stems() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    said = "Ada works with bakers, as a baker"
    for stem, convention in ((False, "ours"), (True, "open-unlearning")):
        scorer = RougeScorer(["rougeL"], use_stemmer=stem)
        expected = scorer.score("Ada works as a baker.", said)["rougeL"].fmeasure
        assert value("rouge_l_f1", convention, generation=said) == expected
    assert value("rouge_l_f1", generation="He work as a bakers") < value(
        "rouge_l_f1", "open-unlearning", generation="He work as a bakers"
    )


def test_probability_with_options_by_hand() -> None:
    right = (0.5 * 0.25 * 1.0 * 0.5) ** 0.25
    expected = right / (right + math.exp(-1) + math.exp(-2))
    assert value("probability_with_options") == pytest.approx(expected)
    assert value("probability_with_options", "open-unlearning") == pytest.approx(expected, abs=1e-9)
    hopeless = {"logp": np.array([-900.0]), "wrong_nlls": (900.0, 900.0)}
    assert value("probability_with_options", **hopeless) == pytest.approx(1 / 3)  # no underflow
    assert value("probability_with_options", "open-unlearning", **hopeless) == 0


def test_fluency_by_hand() -> None:
    assert value("fluency", generation="a b a b a") == pytest.approx((2 / 3 * 1 + 4 / 3 * entropy(2, 1)) / 2)
    assert value("fluency", generation="a b c d e") == pytest.approx((2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2)
    assert value("fluency", generation="no no no no no no") == 0
    assert value("fluency", generation="a") == value("fluency", generation="") == 0


def entropy(*counts: int) -> float:
    return -sum(n / sum(counts) * math.log2(n / sum(counts)) for n in counts)


def test_the_other_convention_by_hand() -> None:
    theirs = "open-unlearning"
    assert value("extraction_strength", theirs) == pytest.approx(1 / 3)  # of three tokens, the end token aside
    assert value("extraction_strength", theirs, rank=np.array([0, 0, 1, 0])) == pytest.approx(1 / 3)  # the floor
    assert value("extraction_strength", rank=np.array([0, 0, 1, 0])) == pytest.approx(1 / 4)
    assert metric["extraction_strength"].function(answer(rank=np.array([0, 1])), floor=True) == 0.5
    assert value("exact_memorization", theirs) == pytest.approx(2 / 3)
    assert value("truth_ratio", theirs, true_nll=40.0) == pytest.approx(math.exp(-1.5) / (math.exp(-40) + 1e-10))
    assert value("truth_ratio", true_nll=40.0) == pytest.approx(math.exp(38.5))
    with pytest.raises(UserError, match="did you mean open-unlearning"):
        convention_options("openunlearning", "truth_ratio")


def test_conventions_set_options_that_there_are() -> None:
    from workbench.evals.mia import attack

    for name, options in CONVENTIONS["open-unlearning"].items():
        entry = (metric if name in metric else attack)[name]
        assert set(options) <= set(entry.options)
        assert entry.differs


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("fact_accuracy", {"values": None}, "spans"),
        ("fact_accuracy", {"generation": None}, "plain text"),
        ("rouge_l_recall", {"generation": None}, "plain text"),
        ("truth_ratio", {"wrong_nlls": ()}, "wrong answers"),
        ("probability_with_options", {"wrong_nlls": ()}, "wrong answers"),
        ("rouge_l_f1", {"generation": None}, "plain text"),
        ("fluency", {"generation": None}, "plain text"),
    ],
)
def test_what_cannot_be_computed_says_why(name: str, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(NotAvailable, match=reason):
        value(name, **changes)


def test_aggregates() -> None:
    assert aggregate("probability", [0.2, 0.4], [1, 9], "forget", "") == pytest.approx(0.3)
    assert aggregate("perplexity", [2.0, 8.0], [3, 1], "general", "") == pytest.approx(2 ** ((3 + 3) / 4))
    assert aggregate("truth_ratio", [0.5, 4.0], [1, 1], "forget", "") == pytest.approx((0.5 + 0.25) / 2)
    assert aggregate("truth_ratio", [0.5, 4.0], [1, 1], "retain", "") == pytest.approx((0.5 + 0) / 2)
    assert aggregate("truth_ratio", [math.nan], [1], "forget", "needs wrong answers") == {
        "value": None,
        "reason": "needs wrong answers",
    }


@pytest.mark.parametrize("name", list(metric))
def test_every_metric_says_what_it_is(name: str) -> None:
    entry = metric[name]
    assert entry.function.__doc__
    assert entry.aggregate is not None
    assert entry.split


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("She is female.", "male", False),
        ("He is male.", "male", True),
        ("Male!", "male", True),
        ("born in 1958", "195", False),
        ("born in 1958", "1958", True),
        ("female or male", "male", True),
        ("in Los Angeles, yes", "los angeles", True),
        ("élève", "lève", False),
        ("他住在北京市", "北京", True),
        ("the C++ book", "C++", True),
    ],
)
def test_values_are_found_as_whole_words(text: str, value: str, found: bool) -> None:
    assert contains(text, value) is found


def test_every_metric_says_how_far_to_believe_it() -> None:
    assert metric["truth_ratio"].trust == "faithfulness 0.947, robustness 0.379 (arXiv 2605.24614)"
    assert summary["mia_min_k"].trust == "faithfulness 0.907, robustness not assessed (arXiv 2605.24614)"
    assert metric["fact_accuracy"].trust == "not assessed in arXiv 2605.24614"
    assert set(TRUST) <= {*metric, *summary, *recovery}
