"""Scores against labels: scikit-learn, all ways to break ties, and what cannot be said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from tables import random_table, table_of

from workbench.errors import UserError
from workbench.evals.alignment import alignment, label, membership
from workbench.evals.ranking import auroc, average_precision
from workbench.scorers import read_columns, read_scores

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


@pytest.mark.oracle
def test_ranking_is_scikit_learn_s_to_the_last_bit(compare: Callable[..., None]) -> None:
    random = np.random.default_rng(0)
    for draw in (random.normal, lambda size: random.integers(0, 4, size).astype(float), random.random):
        pairs = [(random.random(n) < 0.3, draw(size=n)) for n in (2, 3, 10, 1000) for _ in range(20)]
        pairs = [(labels, scores) for labels, scores in pairs if labels.any() and not labels.all()]
        for ours, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
            values, expected = ([function(*pair) for pair in pairs] for function in (ours, theirs))
            assert values == expected
            compare(ours.__name__, values, expected, rel=0, abs=0)


def test_a_file_s_columns_give_what_its_table_gives(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    prompts = table.assign(segment="prompt", span=pd.NA)
    whole = pd.concat([prompts, table.assign(step=1), table.assign(score=0.0)], ignore_index=True)
    for kind in (whole, whole.astype({"step": "int32", "score": "float32"})):
        kind.to_parquet(path)
        assert alignment(read_columns(path)) == alignment(read_scores(path))
    assert alignment(read_columns(path))["x0"] == alignment(table.astype({"score": "float32"}))["x0"]


@pytest.mark.parametrize("read", [read_columns, read_scores])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": "high"}, "column score holds .*, not numbers"),
        ({"span": 0.5}, "column span holds .*, not true, false or nothing"),
        ({"start": 0.5}, "column start holds .*, not whole numbers"),
        ({"step": pd.array([pd.NA], dtype="Int64")[0]}, "column step holds .*, not whole numbers"),
        ({"scorer": 3}, "column scorer holds .*, not text"),
        ({"segment": pd.Categorical(["answer"] * 406)}, "column segment holds .*, not text"),
    ],
)
def test_columns_of_another_kind(
    read: Callable[[Path], Any], changes: dict[str, Any], message: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "scores.parquet"
    table.assign(**changes).to_parquet(path)
    with pytest.raises(UserError, match=f"no score table: its {message}"):
        read(path)
    table.drop(columns="span").to_parquet(path)
    with pytest.raises(UserError, match="it lacks span"):
        read(path)
    path.write_bytes(b"PAR1 junk")
    with pytest.raises(UserError, match="not parquet"):
        read(path)
    with pytest.raises(UserError, match="a directory"):
        read(tmp_path)


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
    parts = [list(map(float, scores[:2])), list(map(float, scores[2:]))]  # two answers: one says nothing
    found = alignment(table_of({"a": parts}, [spans[:2], spans[2:]]), budget=budget)["a"]
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
    assert found["partly"]["answers"] == 3  # one has no score at all
    assert found["x0"]["tokens"] == 54
    assert all("left_out" not in found[name] for name in found)


def test_what_alignment_cannot_say_has_a_reason(table: pd.DataFrame) -> None:
    part = table[table["scorer"] == "partly"]

    def reasons(changed: pd.DataFrame) -> set[str]:
        found = alignment(changed)["partly"]
        assert all(found[key]["value"] is None for key in ALIGNED)
        return {found[key]["reason"] for key in ALIGNED}

    assert set(alignment(table)["infinite"]) == {*ALIGNED, "answers", "tokens", "in_spans"}
    assert alignment(table)["infinite"]["ap"] == {"value": None, "reason": "some scores are not finite"}
    assert reasons(part.assign(score=part["score"] * 0)) == {"all scores are equal"}
    assert alignment(part.assign(score=part["score"] * 0))["partly"]["left_out"] == part["score"].isna().sum()
    assert reasons(part.assign(score=math.nan)) == {"no token has a score"}
    assert reasons(part.assign(span=True)) == {"all tokens are on one side of the labels"}
    halves = part.assign(span=pd.array(part["sample_id"].isin(["s0", "s1"]), dtype="boolean"))
    found = alignment(halves)["partly"]
    assert found["auroc_per_sample"]["reason"] == "no answer has tokens inside and outside its spans"
    assert isinstance(found["auroc"], float)
    with pytest.raises(UserError, match="no token has a span label"):
        alignment(part.assign(span=pd.NA))
    with pytest.raises(UserError, match="budget is a share of the tokens"):
        alignment(part, budget=0)


def test_one_answer_says_nothing_of_a_scorer() -> None:
    table = table_of({"a": [[3.0, 1.0, 2.0], [1.0, 2.0]]}, [[True, False, False], [False, False]])
    alone = alignment(table[table["sample_id"] == "s0"])["a"]
    assert {alone[key]["reason"] for key in ALIGNED} == {"one answer, of 3 tokens, says nothing about a scorer"}
    assert (alone["answers"], alone["tokens"], alone["in_spans"]) == (1, 3, 1)
    both = alignment(table)["a"]
    assert both["auroc"] == 1
    assert both["auroc_per_sample"]["reason"] == "only one answer has tokens inside and outside its spans"
    assert both["answers_divided"] == 1


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
