"""Commands that make score tables and read them, and the pages of those."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from commandline import refused, run, told
from tables import random_table, same, table_of

from workbench.cli.app import main
from workbench.evals.agreement import agreement, disagreement
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.base import scorer
from workbench.tasks.samples import Task
from workbench.view import score_pages

MEASURES = ("spearman", "kendall", "top_k_overlap")


ALIGNED = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return random_table()


def test_score_align_and_html(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out, page = tmp_path / "scores.parquet", tmp_path / "scores.html"
    words = ["--model", "bio-full", "--reference", "bio-retain", "--scorer", "gap,random,uniform"]
    result = run(capsys, "score", *own, *words, "--out", str(out), "--html", str(page))
    table = pd.read_parquet(out)
    assert set(table["scorer"]) == {"gap", "random", "uniform"}
    assert result["tokens"] * 3 == len(table)
    assert "<html" in page.read_text()
    found = run(capsys, "align", str(out))
    assert found["gap"]["auroc"] > found["random"]["auroc"]
    assert found["uniform"]["auroc"] == {"value": None, "reason": "all scores are equal"}


def test_labels_from_a_file_give_the_same_alignment(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal", "--out", str(out))
    expected = run(capsys, "align", str(out))
    pd.read_parquet(out).assign(span=pd.array([None] * len(pd.read_parquet(out)), dtype="boolean")).to_parquet(out)
    assert "no token has a span label" in refused(capsys, "align", str(out))
    assert run(capsys, "align", str(out), "--spans", own[1]) == expected


def test_a_saved_scorer_scores_other_text_and_serves_as_live_weights(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    saved, first, again = tmp_path / "map.safetensors", tmp_path / "a.parquet", tmp_path / "b.parquet"
    words = [*own, "--model", "bio-full"]
    options = ["--set", "signal=surprisal", "layer=2"]
    run(capsys, "score", *words, "--scorer", "amortised", *options, "--save", str(saved), "--out", str(first))
    result = run(capsys, "score", *words, "--scorer", f"{saved},wga", "--out", str(again))
    assert result["scorers"] == ["amortised", "wga"]
    tables = [pd.read_parquet(path) for path in (first, again)]
    np.testing.assert_allclose(
        tables[0]["score"], tables[1].loc[tables[1]["scorer"] == "amortised", "score"], atol=1e-5
    )
    settings = ["--set", "steps=2", "batch_size=6", "record_every=1"]
    out = tmp_path / "run"
    run(capsys, "unlearn", *words, "--objective", "wga", "--weights", str(saved), *settings, "--out", str(out))
    scores = pd.read_parquet(out / "scores.parquet")
    live = scores[scores["scorer"] == "amortised"].groupby("step")["score"].mean()
    assert list(live.index) == [0, 1, 2]
    assert live[2] != live[0]  # the map is fixed, the states that it reads move
    kept = tmp_path / "c.parquet"
    run(capsys, "score", *own, "--model", str(out / "model"), "--scorer", str(out / "scorer.safetensors"),
        "--out", str(kept))  # fmt: skip
    np.testing.assert_allclose(
        pd.read_parquet(kept)["score"], scores[(scores["scorer"] == "amortised") & (scores["step"] == 2)]["score"],
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


SLOW = {name for name in scorer if scorer[name].slow}


def test_all_scorers_but_the_slow_ones(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    words = [*own, "--model", "bio-full", "--reference", "bio-retain", "--scorer", "all"]
    assert main(["score", *words, "--set", "steps=4", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "left out because they are slow: gradient_cosine, relearn_residue, shapley_sampling, kernel_shap" in said.err
    assert "left out: deep_lift has no rule for SiLU" in said.err
    assert "feature_ablation: target answer, units token, baseline eos" in said.out
    scores = pd.read_parquet(out)
    assert set(scores["scorer"]) == set(scorer) - SLOW - {"deep_lift"}
    assert np.isfinite(scores["score"]).all()
    answers = scores[scores["segment"] == "answer"]
    assert answers.groupby("scorer").size().nunique() == 1
    asked = scores.loc[scores["segment"] == "prompt", "scorer"].unique()
    assert set(asked) == {n for n in scorer if scorer[n].kind == "input"} & set(scores["scorer"])


@pytest.fixture
def scoring(own: list[str], tmp_path: Path) -> list[str]:
    words = ["--model", "bio-full", "--scorer", "uniform,wga,feature_ablation,integrated_gradients"]
    return ["score", *own, *words, "--set", "steps=8", "--out", str(tmp_path / "s.parquet")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_loses_no_finished_scorer(
    how: signal.Signals, capsys: pytest.CaptureFixture[str], scoring: list[str], tmp_path: Path
) -> None:
    out, whole = tmp_path / "s.parquet", tmp_path / "whole.parquet"
    long = ["steps=400" if word == "steps=8" else word for word in scoring]  # its last scorer is not finished by then
    with (tmp_path / "stderr").open("w") as log:
        process = forked.Popen([sys.executable, "-m", "workbench", *long], stderr=log)
    while not (out.exists() and "wga" in set(pd.read_parquet(out)["scorer"])):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, how)
    status, said = process.wait(60), (tmp_path / "stderr").read_text()
    kept = list(pd.read_parquet(out)["scorer"].unique())
    assert kept in (["uniform", "wga"], ["uniform", "wga", "feature_ablation"]), said  # the machine says how far
    if how is signal.SIGINT:
        assert status == 130
        assert f"kept in {out}: {', '.join(kept)}; --resume continues from there" in said
    marked = pd.read_parquet(out)
    marked.loc[marked["scorer"] == "wga", "score"] = 7.0  # would be lost if it were computed again
    marked.to_parquet(out)
    result = run(capsys, *scoring, "--resume")
    assert result["scorers"] == ["uniform", "wga", "feature_ablation", "integrated_gradients"]
    run(capsys, *scoring[:-1], str(whole))
    resumed, undisturbed = pd.read_parquet(out), pd.read_parquet(whole)
    assert resumed.attrs == undisturbed.attrs
    assert resumed.loc[resumed["scorer"] == "wga", "score"].eq(7.0).all()
    other = resumed["scorer"] != "wga"
    pd.testing.assert_frame_equal(resumed[other], undisturbed[other])


def test_resume_takes_only_what_is_the_same(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    words = ["score", *own, "--scorer", "wga,feature_ablation", "--out", str(out), "--resume"]
    run(capsys, *words, "--model", "bio-full")
    first = pd.read_parquet(out)
    run(capsys, *words, "--model", "bio-full", "--set", "units=word", "beta=1.0")
    changed = pd.read_parquet(out)
    assert changed.attrs["notes"]["feature_ablation"]["options"] == {"units": "word"}
    assert not np.array_equal(first["score"], changed["score"])
    run(capsys, *["surprisal" if w == "wga,feature_ablation" else w for w in words], "--model", "bio-full")
    assert list(pd.read_parquet(out)["scorer"].unique()) == ["wga", "feature_ablation", "surprisal"]  # none is lost
    changed = pd.read_parquet(out)
    assert "another model sha256; leave --resume out" in refused(capsys, *words, "--model", "bio-retain", working=True)
    assert "another seed" in refused(capsys, *words, "--model", "bio-full", "--seed", "3", working=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out), changed)


def test_faithfulness(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal,uniform", "--out", str(out))
    words = ["faithfulness", str(out), *own, "--model", "bio-full"]
    masking = run(capsys, *words)["masking"]
    assert masking["surprisal"]["comprehensiveness"] > 0
    assert masking["uniform"]["sufficiency"]["value"] is None
    rows = run(capsys, *words, "--unlearn", "--seeds", "0", "--set", "steps=2", "batch_size=4")["runs"]
    assert [row["weights"] for row in rows] == ["surprisal", "uniform", "random", "spans"]
    assert all(0 <= row["forget_probability"] <= 1 for row in rows)
    assert "--seeds takes whole numbers" in refused(capsys, *words, "--seeds", "a")
    assert "unknown baseline 'eoss': did you mean eos" in refused(capsys, *words, "--baseline", "eoss", working=True)
    assert "unknown objective 'npoo'" in refused(capsys, *words, "--objective", "npoo")


def test_tables_that_hold_no_scores(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    table, out = tmp_path / "t.parquet", tmp_path / "run"
    words = ["--model", "bio-full", "--objective", "wga", "--weights", str(table), "--out", str(out)]
    table.write_text("not parquet")
    assert "not parquet" in refused(capsys, "unlearn", *own, *words)
    assert "not parquet" in refused(capsys, "align", str(table))
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "wga,random", "--out", str(table))
    assert "has 2: wga, random" in refused(capsys, "unlearn", *own, *words)
    pd.DataFrame({"score": [1.0]}).to_parquet(table)
    assert "it lacks task" in refused(capsys, "unlearn", *own, *words)
    assert "it lacks task" in refused(capsys, "align", str(table))
    assert not out.exists()


def test_labels_of_other_rows_are_refused(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out, other = tmp_path / "scores.parquet", tmp_path / "other.jsonl"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal", "--out", str(out))
    other.write_text(json.dumps({"question": "Who?", "answer": "Nobody.", "spans": [[0, 6]]}) + "\n")
    assert "labels no answer" in refused(capsys, "align", str(out), "--spans", str(other))
    rows = [json.loads(line) for line in Path(own[1]).read_text().splitlines()]
    half = [row if i % 2 else {"question": row["question"], "answer": row["answer"]} for i, row in enumerate(rows)]
    other.write_text("".join(json.dumps(row) + "\n" for row in half))
    partly = [*own[:1], str(other), *own[2:]]
    run(capsys, "score", *partly, "--model", "bio-full", "--scorer", "surprisal", "--out", str(tmp_path / "p.parquet"))
    blank = pd.read_parquet(out).assign(span=pd.array([None] * len(pd.read_parquet(out)), dtype="boolean"))
    blank.to_parquet(out)
    expected = run(capsys, "align", str(tmp_path / "p.parquet"))
    assert run(capsys, "align", str(out), "--spans", str(other)) == expected


def test_tokens_of_a_table_tile_their_answers(full: LanguageModel, small: Task) -> None:
    for sample in small.forget:
        encoding = encode(full, sample)
        assert "".join(encoding.text_of(p) for p in encoding.answer_positions) == sample.answer


@pytest.fixture
def file(table: pd.DataFrame, tmp_path: Path) -> str:
    path = tmp_path / "scores.parquet"
    flat = table[table["scorer"] == "x0"].assign(scorer="flat", score=1.0)
    pd.concat([table, flat], ignore_index=True).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("words", "level"), [([], "pooled"), (["--per-sample"], "per_sample")])
def test_agree_prints_the_matrix(
    capsys: pytest.CaptureFixture[str], file: str, measure: str, words: list[str], level: str
) -> None:
    lines, found = told(capsys, "agree", file, "--measure", measure, "--top", "0.3", *words)
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
    lines, found = told(capsys, "agree", str(path))
    none = {"value": None, "reason": "no two scorers can be compared in this answer"}
    assert found["disagreement"] == [{"sample_id": "s0", "disagreement": none, "most_apart": ""}]
    assert not any("most disputed" in line for line in lines)


def test_mistakes_of_agree_are_one_line(
    capsys: pytest.CaptureFixture[str], file: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    assert "no such file" in refused(capsys, "agree", "none.parquet")
    assert "above 0 and at most 1, not 2" in refused(capsys, "agree", file, "--top", "2")
    assert "'--measure': 'pearson' is not one of 'spearman', 'kendall', 'top_k_overlap'; see" in refused(
        capsys, "agree", file, "--measure", "pearson"
    )
    assert "did you mean --measure" in refused(capsys, "agree", file, "--mesure", "kendall")
    assert "is a directory" in refused(capsys, "agree", file, "--html", str(tmp_path))
    path = tmp_path / "one.parquet"
    table[table["scorer"] == "x0"].to_parquet(path)
    assert "only 'x0'" in refused(capsys, "agree", str(path))


def test_align_prints_precision_and_what_is_left_out(capsys: pytest.CaptureFixture[str], file: str) -> None:
    lines, found = told(capsys, "align", file)
    assert lines[0].split()[-1] == "precision"
    assert lines[1].split() == ["x0", *(f"{found['x0'][key]:.3f}" for key in ALIGNED)]
    assert f"partly: {found['partly']['left_out']} tokens without a score left out" in lines
    over = f"over 4 answers of 54 tokens in all, {found['x0']['in_spans']} of them in spans"
    assert f"x0, x1, x2, x3, tied, infinite, flat: {over}" in lines


def test_texts_are_put_together_from_their_tokens(table: pd.DataFrame) -> None:
    prompt = table[table["sample_id"] == "s1"].assign(segment="prompt", token="q")
    texts = score_pages._texts(pd.concat([prompt, table]).sample(frac=1, random_state=0))
    assert texts["s1"] == ("q" * 8, "abababa")
    assert texts["s3"] == ("", "ababa")


def test_the_page_has_the_matrix_the_ranking_and_the_texts(
    capsys: pytest.CaptureFixture[str], file: str, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    told(capsys, "agree", file, "--measure", "kendall", "--html", str(out))
    page = out.read_text(encoding="utf-8")
    places = [page.index(f"<h2>{heading}</h2>") for heading in (
        "Do the scorers agree?", "Where they disagree most", "Do the scores find the labelled facts?",
    )]  # fmt: skip
    assert places == sorted(places)
    table = pd.read_parquet(file).assign(span=pd.array([None] * len(pd.read_parquet(file)), dtype="boolean"))
    assert "labelled facts" not in score_pages.comparison_page(table, {})
