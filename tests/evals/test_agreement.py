"""Scores against scores: definitions called pair by pair, slow loops, and what must not change them."""

from __future__ import annotations

import json
import math
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr
from tables import random_table, same, table_of

from workbench.errors import UserError
from workbench.evals.agreement import agreement, disagreement
from workbench.evals.alignment import alignment

MEASURES = ("spearman", "kendall", "top_k_overlap")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return random_table()


def pair_of(table: pd.DataFrame, a: str, b: str, sample: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both scores of the tokens that stand for text, where both are finite."""
    part = table[(table["end"] > table["start"]) & (table["segment"] == "answer")]
    part = part if sample is None else part[part["sample_id"] == sample]
    key = ["sample_id", "position"]
    both = part[part["scorer"] == a].merge(part[part["scorer"] == b], on=key, suffixes=("_a", "_b"))
    both = both[np.isfinite(both["score_a"]) & np.isfinite(both["score_b"])]
    return both["score_a"].to_numpy(), both["score_b"].to_numpy()


def slow_membership(scores: np.ndarray, share: float) -> list[float]:
    k = math.ceil(share * len(scores))
    limit = sorted(scores, reverse=True)[k - 1]
    above, tied = sum(s > limit for s in scores), sum(s == limit for s in scores)
    return [1.0 if s > limit else (k - above) / tied if s == limit else 0.0 for s in scores]


def slow_overlap(a: np.ndarray, b: np.ndarray, share: float) -> float:
    pairs = zip(slow_membership(a, share), slow_membership(b, share), strict=True)
    return sum(x * y for x, y in pairs) / math.ceil(share * len(a))


def one_pair(measure: str, a: np.ndarray, b: np.ndarray, top: float) -> float:
    if measure == "top_k_overlap":
        return slow_overlap(a, b, top)
    return {"spearman": spearmanr, "kendall": kendalltau}[measure](a, b).statistic


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("top", [0.2, 0.5, 1.0])
def test_agreement_equals_the_definitions(table: pd.DataFrame, measure: str, top: float) -> None:
    found = agreement(table, top=top)
    assert (found["samples"], found["tokens"], found["top"]) == (4, 54, top)
    assert found["scorers"] == list(table["scorer"].unique())
    for a, b in combinations(found["scorers"], 2):
        pair = pair_of(table, a, b)
        assert found[measure]["pooled"][a][b] == pytest.approx(one_pair(measure, *pair, top), abs=1e-12)
        each = [pair_of(table, a, b, sample) for sample in table["sample_id"].unique()]
        each = [(x, y) for x, y in each if len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0]
        expected = np.mean([one_pair(measure, x, y, top) for x, y in each])
        assert found[measure]["per_sample"][a][b] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("a", [[1, 0, 0, 0, 0], [2, 1, 1, 0, 0], [5, 4, 3, 2, 1]])
@pytest.mark.parametrize("b", [[0, 0, 1, 0, 0], [1, 1, 0, 0, 0], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("top", [0.2, 0.4, 0.8])
def test_overlap_is_expected_over_all_ways_to_break_ties(a: list[int], b: list[int], top: float) -> None:
    count = math.ceil(top * 5 - 1e-9)

    def tops(scores: list[int]) -> list[set[int]]:
        """The highest tokens under every order of the tokens that keeps the scores' order."""
        orders = (sorted(order, key=lambda i: -scores[i]) for order in permutations(range(5)))
        return [set(order[:count]) for order in orders]

    first, second = tops([float(x) for x in a]), tops([float(x) for x in b])
    expected = np.mean([len(x & y) / count for x in first for y in second])
    found = agreement(table_of({"a": [[float(x) for x in a]], "b": [[float(x) for x in b]]}), top=top)
    assert found["top_k_overlap"]["pooled"]["a"]["b"] == pytest.approx(expected)


def test_the_overlap_of_rare_marks_is_chance_too() -> None:
    """Most tokens tie at 0; unrelated marks share no more than `top` of the places."""
    random = np.random.default_rng(0)
    marks = {name: [(random.random(400) < 0.05).astype(float).tolist()] for name in "ab"}
    assert agreement(table_of(marks))["top_k_overlap"]["pooled"]["a"]["b"] == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("level", ["pooled", "per_sample"])
@pytest.mark.parametrize("measure", MEASURES)
def test_agreement_is_symmetric_with_ones_on_the_diagonal(table: pd.DataFrame, measure: str, level: str) -> None:
    matrix = agreement(table)[measure][level]
    for a in matrix:
        assert matrix[a][a] == 1.0
        assert all(matrix[a][b] == matrix[b][a] for b in matrix)


def test_agreement_is_of_ranks_alone(table: pd.DataFrame) -> None:
    changed = table.assign(score=np.where(table["scorer"] == "x1", np.exp(table["score"]) * 3 - 7, table["score"]))
    assert same(agreement(changed), agreement(table))


def test_the_order_of_samples_and_rows_changes_nothing(table: pd.DataFrame) -> None:
    groups = [part for _, part in table.sample(frac=1, random_state=1).groupby("sample_id")]
    mixed = pd.concat(groups[::-1])
    names = list(table["scorer"].unique())
    mixed = mixed.sort_values("scorer", key=lambda s: s.map(names.index), kind="stable")
    assert same(agreement(mixed), agreement(table))
    key = "sample_id"
    pd.testing.assert_frame_equal(
        disagreement(mixed).sort_values(key, ignore_index=True), disagreement(table).sort_values(key, ignore_index=True)
    )


def test_prompts_and_earlier_steps_do_not_count(table: pd.DataFrame) -> None:
    prompt = table.assign(segment="prompt", score=table["score"] ** 2, span=pd.NA)
    later = table[table["scorer"] == "x2"].assign(step=7, score=lambda t: -t["score"])
    more = pd.concat([prompt, table, later], ignore_index=True)
    replaced = pd.concat([table[table["scorer"] != "x2"], later])
    assert same(agreement(more)["kendall"]["pooled"]["x2"], agreement(replaced)["kendall"]["pooled"]["x2"])
    for name in table["scorer"].unique():
        assert same(alignment(more)[name], alignment(replaced)[name])


def test_random_scores_agree_by_chance_only() -> None:
    random = np.random.default_rng(0)
    scores = {name: [list(random.random(40)) for _ in range(50)] for name in "ab"}
    found = agreement(table_of(scores), top=0.25)
    for level in ("pooled", "per_sample"):
        assert found["top_k_overlap"][level]["a"]["b"] == pytest.approx(0.25, abs=0.04)
        assert found["spearman"][level]["a"]["b"] == pytest.approx(0, abs=0.06)


def test_what_agreement_cannot_say_has_a_reason() -> None:
    nan, up = math.nan, [1.0, 2.0, 3.0, 4.0]
    scores = {
        "up": [up, up],
        "flat": [[1.0] * 4] * 2,
        "first": [up, [nan] * 4],
        "second": [[nan] * 4, up],
        "two": [[1.0, 2.0, nan, nan], [nan] * 4],
        "steps": [[0.0] * 4, [1.0] * 4],
        "nothing": [[nan] * 4] * 2,
    }
    found = agreement(table_of(scores))

    def reason(measure: str, level: str, a: str, b: str) -> str:
        value = found[measure][level][a][b]
        assert value == found[measure][level][b][a]
        assert value["value"] is None
        return value["reason"]

    for measure in MEASURES:
        for level in ("pooled", "per_sample"):
            assert reason(measure, level, "up", "flat") == "all scores of 'flat' are equal"
            assert reason(measure, level, "flat", "flat") == "all scores of 'flat' are equal"
            assert reason(measure, level, "first", "second") == "no token has a finite score of both"
            assert reason(measure, level, "up", "two") == "fewer than 3 tokens have a finite score of both"
            assert reason(measure, level, "nothing", "nothing") == "no token has a finite score of both"
            assert found[measure][level]["up"]["first"] == 1.0
        assert isinstance(found[measure]["pooled"]["up"]["steps"], float)
        assert reason(measure, "per_sample", "up", "steps") == "no sample has 3 tokens over which both vary"
    json.dumps(found, allow_nan=False)


def test_mistakes_of_agreement_are_told(table: pd.DataFrame) -> None:
    one = table[table["scorer"] == "x1"]
    for compared in (agreement, disagreement):
        with pytest.raises(UserError, match=r"only 'x1'; agreement takes two scorers or more: .*--scorer a,b"):
            compared(one)
        with pytest.raises(UserError, match="no answer token"):
            compared(table.iloc[:0])
        with pytest.raises(UserError, match="scores token 0 of sample s0 twice"):
            compared(pd.concat([table, one.assign(task="u")]))
    for top in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(UserError, match="top is a share of the tokens"):
            agreement(table, top=top)


def test_disagreement_equals_its_definition(table: pd.DataFrame) -> None:
    found = disagreement(table)
    assert list(found.columns) == ["sample_id", "disagreement", "pairs", "most_apart"]
    assert list(found["disagreement"]) == sorted(found["disagreement"], reverse=True)
    for row in found.itertuples():
        values = {}
        for a, b in combinations(table["scorer"].unique(), 2):
            x, y = pair_of(table, a, b, row.sample_id)
            if len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
                values[f"{a} / {b}"] = spearmanr(x, y).statistic
        assert row.disagreement == pytest.approx(1 - np.mean(list(values.values())))
        assert row.pairs == len(values)
        assert values[row.most_apart] == pytest.approx(min(values.values()))


def test_samples_that_cannot_be_compared_come_last() -> None:
    scores = {"a": [[1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "b": [[2.0, 1.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]}
    found = disagreement(table_of(scores))
    assert list(found["sample_id"]) == ["s2", "s1", "s0"]
    np.testing.assert_allclose(found["disagreement"], [2, 0, np.nan], atol=1e-12)
    assert list(found["pairs"]) == [1, 1, 0]
    assert list(found["most_apart"]) == ["a / b", "a / b", ""]
