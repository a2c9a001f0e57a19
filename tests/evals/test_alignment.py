"""Scores against labels: scikit-learn, all ways to break ties, and what cannot be said."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from tables import random_table, table_of

from workbench.errors import UserError
from workbench.evals.alignment import alignment, label, membership

ALIGNED = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return random_table()


def test_alignment_equals_scikit_learn(table: pd.DataFrame) -> None:
    found = alignment(table)
    for name in ("x0", "x3", "tied", "partly"):
        part = table[(table["scorer"] == name) & (table["end"] > table["start"]) & table["score"].notna()]
        assert found[name]["auroc"] == pytest.approx(roc_auc_score(part["span"].astype(bool), part["score"]))
        assert found[name]["ap"] == pytest.approx(average_precision_score(part["span"].astype(bool), part["score"]))
        groups = [g for _, g in part.groupby("sample_id") if 0 < g["span"].sum() < len(g)]
        each = [roc_auc_score(g["span"].astype(bool), g["score"]) for g in groups]
        assert found[name]["auroc_per_sample"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("budget", [0.2, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(
    "scores", [[3, 1, 2, 2, 2], [1, 1, 0, 0, 0], [5, 4, 3, 2, 1], [0, 0, 0, 0, 7], [2, 2, 2, 1, 2]]
)
def test_precision_is_expected_under_random_tie_breaking(scores: list[float], budget: float) -> None:
    """Every order of the tokens breaks the ties once."""
    spans = [True, False, True, False, False]
    k = math.ceil(budget * 5)
    every = []
    for order in permutations(range(5)):
        ranked = sorted(order, key=lambda i: -scores[i])  # stable: `order` breaks ties
        every.append(sum(spans[i] for i in ranked[:k]) / k)
    found = alignment(table_of({"a": [list(map(float, scores))]}, [spans]), budget=budget)["a"]
    assert found["precision_at_budget"] == pytest.approx(np.mean(every))


def test_membership_takes_as_many_as_the_share() -> None:
    random = np.random.default_rng(0)
    for length in (1, 2, 7, 100):
        for share in (1e-12, 0.07, 0.1, 0.2, 1 / 3, 1.0):
            scores = random.integers(0, 4, length).astype(float)
            expected = max(math.ceil(round(share * length, 9)), 1)
            assert membership(scores, share).sum() == pytest.approx(expected)


def test_tokens_without_a_score_are_left_out(table: pd.DataFrame) -> None:
    missing = table["score"].isna() & (table["scorer"] == "partly")
    found = alignment(table)
    assert found["partly"].pop("left_out") == missing.sum() > 7
    assert found["partly"] == alignment(table[~missing])["partly"]
    assert all("left_out" not in found[name] for name in found)


def test_what_alignment_cannot_say_has_a_reason(table: pd.DataFrame) -> None:
    part = table[table["scorer"] == "partly"]

    def reasons(changed: pd.DataFrame) -> set[str]:
        found = alignment(changed)["partly"]
        assert all(found[key]["value"] is None for key in ALIGNED)
        return {found[key]["reason"] for key in ALIGNED}

    assert set(alignment(table)["infinite"]) == set(ALIGNED)
    assert alignment(table)["infinite"]["ap"] == {"value": None, "reason": "some scores are not finite"}
    assert reasons(part.assign(score=part["score"] * 0)) == {"all scores are equal"}
    assert alignment(part.assign(score=part["score"] * 0))["partly"]["left_out"] == part["score"].isna().sum()
    assert reasons(part.assign(score=math.nan)) == {"no token has a score"}
    assert reasons(part.assign(span=True)) == {"all tokens are on one side of the labels"}
    halves = part.assign(span=pd.array(part["sample_id"].isin(["s0", "s1"]), dtype="boolean"))
    found = alignment(halves)["partly"]
    assert found["auroc_per_sample"]["reason"] == "no sample has tokens inside and outside its spans"
    assert isinstance(found["auroc"], float)
    with pytest.raises(UserError, match="no token has a span label"):
        alignment(part.assign(span=pd.NA))
    with pytest.raises(UserError, match="budget is a share of the tokens"):
        alignment(part, budget=0)


def test_labels_leave_prompts_unlabelled(tmp_path: Path) -> None:
    table = table_of({"a": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]]})
    prompts = table.assign(segment="prompt")
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": "abab", "spans": [[1, 3]]}) + "\n")
    whole = pd.concat([prompts, table])
    found = label(whole, path)
    pd.testing.assert_frame_equal(found.drop(columns="span"), whole.drop(columns="span").reset_index(drop=True))
    labelled = found[found["span"].notna()]
    assert set(labelled["segment"]) == {"answer"}
    assert list(labelled["sample_id"]) == ["s1"] * 5
    assert list(labelled["span"]) == [False, True, True, False, False]
    path.write_text(json.dumps({"question": "?", "answer": "other", "spans": [[1, 3]]}) + "\n")
    with pytest.raises(UserError, match="labels no answer of the table"):
        label(whole, path)
