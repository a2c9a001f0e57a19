"""Runs side by side: what is shown is in their files, a damaged one is named, and a point opens its run's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pages import SAMPLES, Text
from widget_page import browser, open_widget

from workbench import CompareRuns
from workbench.cli.app import main
from workbench.errors import UserError
from workbench.runs import Job, RunDirectory
from workbench.view.compared_html import compared_page
from workbench.view.compared_runs import differing_settings, read_runs, shared_answers
from workbench.view.html import wanted


def make_run(path: Path, objective: str, after: float, kept: float, steps: int = 3) -> Path:
    path.mkdir()
    config = {"task": {"name": "biographies"}, "model": "bio-full", "objective": objective, "weights": "atwu"}
    (path / "config.json").write_text(json.dumps(config | {"settings": {"steps": steps, "lr": 0.001}}))
    (path / "events.jsonl").write_text('{"step": 1, "loss": 0.0}\n')
    metrics = {
        "before": {"forget": {"fact_accuracy": 0.9, "perplexity": 1.5}, "retain": {"fact_accuracy": 0.95}},
        "after": {"forget": {"fact_accuracy": after, "perplexity": 9.0}, "retain": {"fact_accuracy": kept}},
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    total = {"tokens": 100, "flops": 2.5e12, "seconds": 12.5, "calls": 3}
    (path / "cost.json").write_text(
        json.dumps({"phases": {"forget": total}, "total": total, "peak_memory_bytes": 2**30})
    )
    rows = [
        {"run": "r", "step": 0, "phase": phase, "probe_set": "forget", "sample_id": i, "prompt": q, "answer": a}
        | {"generation": a if phase == "before" else f"{objective} says nothing."}
        for phase in ("before", "after")
        for i, (q, a) in SAMPLES.items()
    ]
    pd.DataFrame(rows).to_parquet(path / "probes.parquet")
    (path / "run.json").write_text('{"status": "finished", "steps": 3}')
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path / n, n, a, k) for n, a, k in (("npo", 0.1, 0.6), ("wga", 0.4, 0.9))]


def test_every_part_is_there(runs: list[Path]) -> None:
    page = compared_page(read_runs(runs))
    for words in (
        "Forgetting against damage",
        "The same answers",
        "Settings that differ",
        "12.5",
        "2.5 TFLOP",
        "1,024 MiB",
    ):
        assert words in page
    assert "<ins>npo says nothing.</ins>" in page
    assert "<small>0.90 →</small> <b>0.10</b>" in page  # the best of the forget set is the lowest
    assert "<small>0.95 →</small> <b>0.90</b>" in page  # of the retain set the highest
    Text(page)


def test_only_settings_that_differ_are_shown(runs: list[Path]) -> None:
    assert differing_settings(read_runs(runs)) == {"objective": ["npo", "wga"]}


def test_which_end_is_wanted() -> None:
    assert wanted("forget", "fact_accuracy") == "lower"
    assert wanted("retain", "fact_accuracy") == "higher"


def test_runs_are_taken_in_every_form(runs: list[Path]) -> None:
    forms = [str(runs[0]), RunDirectory(runs[1])]
    assert [run.name for run in read_runs(forms)] == ["npo", "wga"]
    assert [run.letter for run in read_runs([Job(runs[0]), runs[1]])] == ["A", "B"]


def test_what_is_no_comparison_is_one_line(runs: list[Path], tmp_path: Path) -> None:
    for bad, words in (([runs[0]], "two runs or more"), ([runs[0], str(runs[0])], "named twice"), ("x", "a list"),
                       ([runs[0], tmp_path / "none"], "no run directory"), (runs[0], "a list")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            CompareRuns(bad)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown metric"):
        CompareRuns(runs, metric="speed")


@pytest.mark.parametrize("name", ["metrics.json", "config.json", "probes.parquet", "cost.json", "run.json"])
def test_a_damaged_run_is_named_and_the_others_go_on(runs: list[Path], tmp_path: Path, name: str) -> None:
    damaged = make_run(tmp_path / "hurt", "gd", 0.2, 0.3)
    (damaged / name).write_bytes(b'{"torn')
    view = CompareRuns([*runs, damaged])
    page = view.to_html()
    assert "<em>damaged</em>" in page
    assert view.runs[2].problems
    assert name in view.runs[2].problems[0]
    assert {"npo says nothing.", "wga says nothing."} <= {
        t for a in shared_answers(view.runs)[0] for t in a.after.values()
    }
    assert page.count('class="wb-point') == (2 if name == "metrics.json" else 3)


def test_only_answers_that_all_runs_gave(runs: list[Path]) -> None:
    probes = pd.read_parquet(runs[1] / "probes.parquet")
    probes[probes["sample_id"] == "a"].to_parquet(runs[1] / "probes.parquet")
    answers, total = shared_answers(read_runs(runs))
    assert (total, [answer.sample_id for answer in answers]) == (1, ["a"])


def test_figures_of_a_comparison(runs: list[Path]) -> None:
    view = CompareRuns(runs)
    assert b"A: npo" in view.to_bytes(".svg", "10cm")
    view.chosen = "B"
    text = view.figure("answers").to_bytes(".svg").decode()
    assert ">wga<" in text
    assert ">npo<" not in text
    with pytest.raises(UserError, match="unknown run"):
        view.chosen = "C"
    with pytest.raises(UserError, match="no metrics to save"):
        view.figure("metrics")


def test_from_the_shell(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "c.html"
    assert main(["compare", *map(str, runs), "--html", str(html), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["letter"] for run in result["runs"]] == ["A", "B"]
    assert result["differing_settings"] == {"objective": ["npo", "wga"]}
    assert "Runs compared" in html.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["compare", str(runs[0])])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_point_opens_the_answers_and_the_keyboard_suffices(runs: list[Path], tmp_path: Path, theme: str) -> None:
    view = CompareRuns(runs)
    with browser() as chromium:
        page = open_widget(chromium, view, tmp_path, theme)
        shown = page.locator(".wb-pair[data-run]:visible")
        assert shown.count() == 4
        page.locator(".wb-point[data-run=B]").click()
        assert page.evaluate("window.model.get('chosen')") == "B"
        assert set(shown.evaluate_all("nodes => nodes.map((n) => n.dataset.run)")) == {"B"}
        page.get_by_role("button", name="all runs").focus()
        page.keyboard.press("Enter")
        assert shown.count() == 4
        page.locator(".wb-point[data-run=A]").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("window.model.get('chosen')") == "A"
        assert page.evaluate("document.activeElement.className") == "wb-same"
        assert page.messages == []


def test_a_button_downloads_what_python_draws(runs: list[Path], tmp_path: Path) -> None:
    """The page asks by a message, Python answers it, and the browser keeps the file; here a test carries both."""
    view, sent = CompareRuns(runs), list[Any]()
    view.send = lambda content, buffers=None: sent.append((content, buffers))  # type: ignore[method-assign]
    with browser() as chromium:
        page = open_widget(chromium, view, tmp_path)
        page.evaluate("window.asked = []; window.model.send = (m) => window.asked.push(m); 0")
        page.get_by_role("button", name="download as PDF").first.click()
        view._save_asked(view, page.evaluate("window.asked[0]"), [])
        content, buffers = sent[0]
        assert "error" not in content
        answer = "([content, bytes]) => window.answer(content, [new Uint8Array(bytes)])"
        with page.expect_download() as download:
            page.evaluate(answer, [content, list(buffers[0])])
        download.value.save_as(tmp_path / "f.pdf")
        assert download.value.suggested_filename == "tradeoff.pdf"
        assert (tmp_path / "f.pdf").read_bytes() == buffers[0]
        assert page.get_by_role("button", name="download as LaTeX").count() == 1  # of the answers; a chart has none
        view._save_asked(view, {"save": "tex", "id": 1, "shown": {}}, [])
        page.evaluate(answer, [sent[-1][0], []])
        assert "saved as .svg, .pdf, .png" in page.locator(".wb-save [role=status]").first.inner_text()
