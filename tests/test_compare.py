"""Comparisons of scores: against definitions called pair by pair, slow loops, and what must not change them."""

from __future__ import annotations

import json
import math
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from workbench import report
from workbench.cli import main
from workbench.compare import agreement, alignment, disagreement, label
from workbench.compare.alignment import membership
from workbench.registry import UserError
from workbench.scorers.table import COLUMNS

MEASURES = ("spearman", "kendall", "top_k_overlap")
ALIGNED = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")


def table_of(scores: dict[str, list[list[float]]], spans: list[list[bool]] | None = None) -> pd.DataFrame:
    """A score table of `scores[scorer][sample][token]`; every answer ends with a token that stands for no text."""
    rows = []
    for name, samples in scores.items():
        for i, values in enumerate(samples):
            for place, value in enumerate([*values, 9.0]):
                end = place if place == len(values) else place + 1
                row = {"task": "t", "sample_id": f"s{i}", "position": place, "token_id": place, "segment": "answer"}
                row |= {"token": "ab"[place % 2] if end > place else "", "start": place, "end": end, "step": 0}
                inside = None if spans is None else end > place and spans[i][place]
                rows.append(row | {"scorer": name, "score": value, "span": inside})
    table = pd.DataFrame(rows)[COLUMNS]
    return table.assign(span=table["span"].astype("boolean"), score=table["score"].astype(float))


def random_table(lengths: tuple[int, ...] = (12, 7, 30, 5), scorers: int = 4, seed: int = 0) -> pd.DataFrame:
    """Scorers that are related, with ties and with scores that are missing or infinite."""
    random = np.random.default_rng(seed)
    base = [random.normal(size=n) for n in lengths]
    scores = {f"x{k}": [b * k + random.normal(size=len(b)) for b in base] for k in range(scorers)}
    scores["tied"] = [np.round(b) for b in base]
    scores["partly"] = [np.where(random.random(len(b)) < 0.2, np.nan, b) for b in base]
    scores["partly"][1][:] = np.nan
    scores["infinite"] = [np.where(random.random(len(b)) < 0.1, np.inf, b) for b in base]
    spans = [list(random.random(n) < 0.3) for n in lengths]
    return table_of({name: [list(v) for v in samples] for name, samples in scores.items()}, spans)


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


# Agreement ----------------------------------------------------------------------------------------------------------


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


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == pytest.approx(b, abs=1e-12) if isinstance(a, float) else a == b


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


# Disagreement -------------------------------------------------------------------------------------------------------


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


# Alignment ----------------------------------------------------------------------------------------------------------


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


# Command and page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def file(table: pd.DataFrame, tmp_path: Path) -> str:
    path = tmp_path / "scores.parquet"
    flat = table[table["scorer"] == "x0"].assign(scorer="flat", score=1.0)
    pd.concat([table, flat], ignore_index=True).to_parquet(path)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], Any]:
    """The lines for people, and the object."""
    assert main([*words, "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("words", "level"), [([], "pooled"), (["--per-sample"], "per_sample")])
def test_agree_prints_the_matrix(
    capsys: pytest.CaptureFixture[str], file: str, measure: str, words: list[str], level: str
) -> None:
    lines, found = run(capsys, "agree", file, "--measure", measure, "--top", "0.3", *words)
    table = pd.read_parquet(file)
    disputed = found.pop("disagreement")
    assert same(found, agreement(table, top=0.3))
    assert [row["sample_id"] for row in disputed] == list(disagreement(table)["sample_id"])
    assert [row["disagreement"] for row in disputed] == list(disagreement(table)["disagreement"])
    header, *rows = (line.split() for line in lines[: len(found["scorers"]) + 1])
    assert header == [measure, *found["scorers"]]
    for name, *cells in rows:
        values = found[measure][level][name].values()
        assert cells == [f"{v:.3f}" if isinstance(v, float) else "-" for v in values]
    assert "-: not available: all scores of 'flat' are equal" in lines


def test_agree_on_samples_that_cannot_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    table_of({"a": [[1.0, 2.0]], "b": [[1.0, 2.0]]}).to_parquet(path)
    lines, found = run(capsys, "agree", str(path))
    none = {"value": None, "reason": "no two scorers can be compared in this answer"}
    assert found["disagreement"] == [{"sample_id": "s0", "disagreement": none, "most_apart": ""}]
    assert not any("most disputed" in line for line in lines)


def test_mistakes_of_agree_are_one_line(
    capsys: pytest.CaptureFixture[str], file: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    assert "no such file" in refused(capsys, "agree", "none.parquet")
    assert "above 0 and at most 1, not 2" in refused(capsys, "agree", file, "--top", "2")
    assert "invalid choice: 'pearson'" in refused(capsys, "agree", file, "--measure", "pearson")
    assert "did you mean --measure" in refused(capsys, "agree", file, "--mesure", "kendall")
    assert "is a directory" in refused(capsys, "agree", file, "--html", str(tmp_path))
    path = tmp_path / "one.parquet"
    table[table["scorer"] == "x0"].to_parquet(path)
    assert "only 'x0'" in refused(capsys, "agree", str(path))


def test_align_prints_precision_and_what_is_left_out(capsys: pytest.CaptureFixture[str], file: str) -> None:
    lines, found = run(capsys, "align", file)
    assert lines[0].split()[-1] == "precision"
    assert lines[1].split() == ["x0", *(f"{found['x0'][key]:.3f}" for key in ALIGNED)]
    assert f"partly: {found['partly']['left_out']} tokens without a score left out" in lines


def test_texts_are_put_together_from_their_tokens(table: pd.DataFrame) -> None:
    prompt = table[table["sample_id"] == "s1"].assign(segment="prompt", token="q")
    texts = report._texts(pd.concat([prompt, table]).sample(frac=1, random_state=0))
    assert texts["s1"] == ("q" * 8, "abababa")
    assert texts["s3"] == ("", "ababa")


def test_the_page_has_the_matrix_the_ranking_and_the_texts(
    capsys: pytest.CaptureFixture[str], file: str, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    run(capsys, "agree", file, "--measure", "kendall", "--html", str(out))
    page = out.read_text(encoding="utf-8")
    places = [page.index(f"<h2>{heading}</h2>") for heading in (
        "Do the scorers agree?", "Where they disagree most", "Do the scores find the labelled facts?",
    )]  # fmt: skip
    assert places == sorted(places)
    table = pd.read_parquet(file).assign(span=pd.array([None] * len(pd.read_parquet(file)), dtype="boolean"))
    assert "labelled facts" not in report.comparison_page(table, {})
