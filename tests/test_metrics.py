"""Metrics against hand-worked examples and rouge-score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.metrics import Answer, aggregate, contains, metric
from workbench.registry import NotAvailable


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


def value(name: str, **changes: object) -> float:
    return metric[name].function(answer(**changes))


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


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("fact_accuracy", {"values": None}, "spans"),
        ("fact_accuracy", {"generation": None}, "plain text"),
        ("rouge_l_recall", {"generation": None}, "plain text"),
        ("truth_ratio", {"wrong_nlls": ()}, "wrong answers"),
    ],
)
def test_what_cannot_be_computed_says_why(name: str, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(NotAvailable, match=reason):
        value(name, **changes)


def test_aggregates() -> None:
    assert aggregate("probability", [0.2, 0.4], [1, 9], "forget", "") == pytest.approx(0.3)
    assert aggregate("perplexity", [2.0, 8.0], [3, 1], "heldout", "") == pytest.approx(2 ** ((3 + 3) / 4))
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
    assert {"better", "range", "unit", "aggregate", "source"} <= set(entry.facts)


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
