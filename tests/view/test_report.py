"""A run's page: one file, true numbers, nothing fetched, parts that are missing left out."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from pages import SAMPLES, SPANS, Text, scores_of, token_table
from PIL import Image
from widget_page import browser

from workbench.errors import UserError
from workbench.evals.metrics import metric
from workbench.evals.suites import summary
from workbench.view.html.definitions import ARROWS, definitions, range_text
from workbench.view.report import read_run, run_report
from workbench.view.score_pages import scores_page


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "run-1"
    path.mkdir()
    config = {"task": {"name": "biographies"}, "model": "bio-full", "objective": "npo", "weights": "atwu"}
    settings = {"steps": 3, "lr": 0.001, "options": {}}
    (path / "config.json").write_text(json.dumps(config | {"settings": settings, "versions": {"torch": "9.9"}}))
    events = [{"step": s, "forget_nll": float(s), "retain_nll": 0.1, "loss": 0.0} for s in (1, 2, 3)]
    (path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + '{"step": 4, "forg')
    nothing = {"value": None, "reason": "needs labelled spans"}
    metrics = {
        "before": {"forget": {"probability": 0.97, "fact_accuracy": 0.9, "truth_ratio": nothing}},
        "after": {"forget": {"probability": 0.08, "fact_accuracy": 0.1, "truth_ratio": nothing}},
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    total = {"tokens": 100, "flops": 2.5e12, "seconds": 1.0, "calls": 3}
    (path / "cost.json").write_text(
        json.dumps({"phases": {"forget": total}, "total": total, "peak_memory_bytes": 2**30})
    )
    rows = [
        {"run": "r", "step": 0, "phase": phase, "probe_set": "forget", "sample_id": i, "prompt": q, "answer": a}
        | {"generation": a if phase == "before" else "I <b>cannot</b> say."}
        for phase in ("before", "after")
        for i, (q, a) in SAMPLES.items()
    ]
    pd.DataFrame(rows).to_parquet(path / "probes.parquet")
    token_table().to_parquet(path / "tokens.parquet")
    pd.concat([scores_of(SAMPLES, SPANS, step=s) for s in (0, 3)]).to_parquet(path / "scores.parquet")
    (path / "run.json").write_text('{"status": "finished"}')
    return path


def test_report_tells_the_story(run_dir):
    out = run_report(run_dir)
    page = out.read_text(encoding="utf-8")
    assert out == run_dir / "report.html"
    assert "<h1>Forgetting biographies with objective npo</h1>" in page
    assert "3 steps of objective <b>npo</b> with token weights by scorer <b>atwu</b>." in page
    assert "90 % before, <b>10 %</b> after" in page
    assert "<dt>fact accuracy, forget</dt><dd><small>90 % →</small> 10 %</dd>" in page
    assert "∎ is the end of the answer" in page
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == [
        "Two answers, before and after", "What the model knows", "Which tokens the run worked on",
        "What changed in each token", "What the run did", "What the model says", "What it cost", "Configuration",
    ]  # fmt: skip
    assert "2.5 TFLOP" in page
    assert "1,024 MiB" in page
    assert "torch 9.9" in page
    assert "forget 3.00</text>" in page
    assert "&lt;b&gt;cannot&lt;/b&gt;" in page
    Text(page)


def test_report_asks_nothing_of_anyone(run_dir):
    page = run_report(run_dir).read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|src=|<iframe|<object", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]
    assert page.count("<script") == 1


def test_scores_of_several_scorers_come_after_the_weights_of_the_run(run_dir, tmp_path):
    table = pd.concat([scores_of(SAMPLES, SPANS, name) for name in ("surprisal", "amortised")])
    out = run_report(run_dir, table, {"surprisal": {"auroc": 0.75}, "amortised": {"auroc": 0.9}}, tmp_path / "r.html")
    page = out.read_text(encoding="utf-8")
    assert "AUROC <b>0.75</b>" in page
    assert "Do the scores find the labelled facts?" in page
    assert "The token weights of the run, by scorer atwu, at step 3" in page
    assert page.index("Which tokens the run worked on") < page.index("<h2>Which tokens matter")


def test_the_weights_are_shown_not_the_probabilities_recorded_beside_them(run_dir):
    scores = pd.read_parquet(run_dir / "scores.parquet")
    pd.concat([scores.assign(scorer="probability", score=0.123), scores]).to_parquet(run_dir / "scores.parquet")
    page = run_report(run_dir).read_text(encoding="utf-8")
    section = page.split("<h2>Which tokens the run worked on")[1].split("<h2>")[0]
    assert "atwu" in section
    assert "probability" not in section


def test_answers_of_two_sets_may_share_their_ids(run_dir):
    other = {"a": ("Who wrote it?", "Kuwaiti novelists wrote a lot.")}
    probes, tokens = (pd.read_parquet(run_dir / f"{name}.parquet") for name in ("probes", "tokens"))
    rows = probes[probes["sample_id"] == "a"].assign(probe_set="retain", prompt=other["a"][0], answer=other["a"][1])
    pd.concat([probes, rows]).to_parquet(run_dir / "probes.parquet")
    base = scores_of(other, SPANS).drop(columns=["scorer", "score", "segment", "step", "task"])
    base = base.assign(run="r", probe_set="retain", entropy=1.0, logp=-1.0, rank=0, alternatives="[]")
    both = [base.assign(phase=phase) for phase in ("before", "after")]
    pd.concat([tokens, *both]).to_parquet(run_dir / "tokens.parquet")
    section = run_report(run_dir).read_text(encoding="utf-8").split("What changed in each token")[1]
    assert section.split("What the run did")[0].count("Who wrote it?") == 1


def test_the_two_answers_first_are_those_whose_facts_are_gone(run_dir):
    probes = pd.read_parquet(run_dir / "probes.parquet")
    more = [probes.assign(sample_id=probes["sample_id"] + str(i), fact_accuracy=1.0) for i in range(3)]
    table = pd.concat(more, ignore_index=True)
    kept = (table["phase"] == "after") & ~table["sample_id"].isin(["b1", "a2", "b2"])
    table.loc[kept, "generation"] = table.loc[kept, "answer"]
    table.loc[(table["phase"] == "after") & ~kept, "fact_accuracy"] = 0.0
    table.to_parquet(run_dir / "probes.parquet")
    section = run_report(run_dir).read_text(encoding="utf-8").split("Two answers, before and after")[1].split("<h2>")[0]
    assert "These are the first two of 3 answers whose facts are gone, out of 6." in section
    assert section.count("wb-row") == 2
    assert section.count("<del>") >= 2


def test_the_weights_are_those_of_the_last_step_and_then_of_the_first(run_dir):
    def section():
        page = run_report(run_dir).read_text(encoding="utf-8")
        return page.split("<h2>Which tokens the run worked on")[1].split("<h2>")[0]

    assert section().index("by scorer atwu, at step 3") < section().index("The same at step 0")
    scores = pd.read_parquet(run_dir / "scores.parquet")
    scores.assign(score=scores["score"].where(scores["step"] == 3, 1.0)).to_parquet(run_dir / "scores.parquet")
    assert "At step 0 all tokens weighed the same." in section()
    assert "The same at step 0" not in section()


def test_the_rest_is_shown_after_the_two_answers(run_dir):
    probes = pd.read_parquet(run_dir / "probes.parquet")
    pd.concat([probes, probes.assign(probe_set="retain")]).to_parquet(run_dir / "probes.parquet")
    headings = re.findall("<h2>(.*?)</h2>", run_report(run_dir).read_text(encoding="utf-8"))
    assert headings[:2] == ["Two answers, before and after", "What happened to the rest"]


def test_printing_keeps_the_colours(run_dir, tmp_path):
    """Browsers print without grounds unless a page asks for them."""
    if shutil.which("pdftoppm") is None:
        pytest.skip("pdftoppm (poppler-utils) is not installed")
    with browser() as chromium:
        sheet = chromium.new_page()
        sheet.goto(run_report(run_dir).as_uri())
        sheet.pdf(path=tmp_path / "r.pdf")  # without print_background: as a reader would print it
    subprocess.run(["pdftoppm", "-r", "60", "-png", tmp_path / "r.pdf", tmp_path / "p"], check=True)
    pages = [np.asarray(Image.open(path).convert("RGB"), dtype=int) for path in sorted(tmp_path.glob("p*.png"))]
    orange = sum(int(((p[..., 0] - p[..., 2] > 40) & (p.min(2) > 60)).sum()) for p in pages)
    assert orange > 2000


def test_another_measure_in_the_first_paragraph_is_named(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for phase, value in (("before", 1.0), ("after", 0.8)):
        metrics[phase]["retain"] = {"exact_memorization": value}
        metrics[phase]["neighbours"] = {"exact_memorization": value}
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    page = run_report(run_dir).read_text(encoding="utf-8")
    assert "the answers to forget, where the greedy answer holds every labelled fact: 90 %" in page
    assert "the answers to keep, where the model&#39;s first choice is the right token: 100 %" in page
    assert "their neighbours: 100 %" in page


def test_names_are_escaped_once(run_dir):
    named = run_dir.rename(run_dir.with_name("a&b"))
    page = run_report(named).read_text(encoding="utf-8")
    assert "Run a&amp;b." in page
    assert "&amp;amp;" not in page + scores_page(scores_of(SAMPLES, SPANS, "x&y"), SAMPLES)


def test_an_unfinished_run_says_so_and_shows_what_there_is(run_dir):
    for name in ("run.json", "scores.parquet", "tokens.parquet", "cost.json", "metrics.json"):
        (run_dir / name).unlink()
    page = run_report(run_dir).read_text(encoding="utf-8")
    assert "The run is not finished." in page
    assert "What the run did" in page
    assert "What changed in each token" not in page
    assert "What it cost" not in page


def test_a_torn_last_event_is_left_out(run_dir):
    assert [e["step"] for e in read_run(run_dir).events] == [1, 2, 3]


def test_no_run_directory(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        run_report(tmp_path)


def test_every_metric_and_summary_is_defined():
    defined = definitions()
    assert list(defined) == list(dict.fromkeys([*metric, *summary]))
    fields = ("direction", "range", "split", "description", "formula", "source")
    assert [(name, key) for name, d in defined.items() for key in fields if not d[key]] == []
    assert all(d["direction"] in ARROWS for d in defined.values())
    assert all("\n" not in d["formula"] and d["formula"].startswith(d["description"]) for d in defined.values())


def test_a_name_of_both_registries_has_the_definition_asked_for():
    assert definitions()["fluency"] == definitions(metric)["fluency"]
    assert definitions(summary)["fluency"]["split"] == summary["fluency"].split
    assert list(definitions(metric)) == list(metric)
    assert "end token" in definitions()["exact_memorization"]["differs"]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0, 1, "0 to 1"),
        (1, None, "1 and up"),
        (-100, None, "\u2212100 and up"),
        (None, 0, "up to 0"),
        (None, None, "any number"),
    ],
)
def test_range_text(low, high, text):
    assert range_text(low, high) == text


def test_metrics_of_the_report_are_defined(run_dir):
    section = run_report(run_dir).read_text(encoding="utf-8").split("What the model knows")[1].split("<h2>")[0]
    for name in ("probability", "fact_accuracy", "truth_ratio"):
        formula = escape(definitions()[name]["formula"])
        assert section.count(formula) == 2  # on hover, and in the list


def test_suites_have_a_section(run_dir):
    assert "What the suites say" not in run_report(run_dir).read_text(encoding="utf-8")
    (run_dir / "suites").mkdir()
    basic = {"suite": "basic", "summary": {}, "parts": {}, "curve": []}
    (run_dir / "suites" / "basic.json").write_text(json.dumps(basic))
    assert "What the suites say" not in run_report(run_dir).read_text(encoding="utf-8")
    values = {"model_utility": {"value": None, "reason": "needs <wrong> answers"}, "mia_loss": 0.625}
    tofu = {"suite": "tofu", "summary": values, "parts": {"mia_loss": {"forget_samples": 40}}}
    (run_dir / "suites" / "tofu.json").write_text(json.dumps(tofu))
    page = run_report(run_dir).read_text(encoding="utf-8")
    section = page.split("What the suites say")[1].split("<h2>")[0]
    assert "needs &lt;wrong&gt; answers" in section
    assert "<b>0.62</b>" in section
    assert escape(definitions()["mia_loss"]["formula"]) in section
    Text(page)


def test_large_tables_stay_small(tmp_path):
    words = " ".join(f"word{i}" for i in range(45))
    samples = {f"s{i}": (f"Question {i}?", f"{words} {i}.") for i in range(48)}
    random = np.random.default_rng(0)
    tables = [scores_of(samples, {}, f"integrated_gradients_{i}") for i in range(9)]
    table = pd.concat([t.assign(score=random.normal(size=len(t))) for t in tables])
    assert len(scores_page(table, samples).encode()) < 2e6


def test_scores_page_is_whole():
    page = scores_page(scores_of(SAMPLES, SPANS), SAMPLES)
    assert page.startswith("<!doctype html>")
    Text(page)
