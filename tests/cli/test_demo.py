"""The demo's promises, on the real thing: what it prints as JSON, what its run reaches, a page that opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from workbench.cli.app import main
from workbench.models.catalog import SMOLLM2, cache

SETS = {"forget", "retain", "neighbours", "general"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def told(words: list[str], out: Path, capsys: Any) -> dict[str, Any]:
    assert main(["demo", *words, "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo without `atwu`, whose run is a third of its time: score tables of it are made in tests/scorers."""
    from workbench.cli import story

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "SHOWN", tuple(name for name in story.SHOWN if name != "atwu"))
        return story.tell(tmp_path_factory.mktemp("demo") / "new" / "folder")


def test_the_facts_go_and_the_rest_stays(result: dict[str, Any]) -> None:
    before, after = result["before"], result["after"]
    assert set(before) == set(after) == SETS
    assert before["forget"]["fact_accuracy"] >= 0.95
    assert after["forget"]["fact_accuracy"] <= 0.15
    for name, loss in (("retain", 0.05), ("neighbours", 0.10)):
        assert after[name]["fact_accuracy"] >= before[name]["fact_accuracy"] - loss
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["seconds"] > 0


def test_every_scorer_is_aligned(result: dict[str, Any]) -> None:
    aligned = result["alignment"]
    counted = {"answers", "tokens", "in_spans", "answers_divided"}
    ranked = {"auroc", "auroc_per_sample", "ap", "precision_at_budget"}
    assert all(set(value) - counted == ranked for value in aligned.values())
    assert aligned["spans"]["auroc"] == 1
    assert aligned["surprisal"]["auroc"] > aligned["random"]["auroc"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_opens_without_network_or_complaint(result: dict[str, Any], theme: str) -> None:
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser here (one of {', '.join(BROWSERS)})")
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        opened = playwright.chromium.launch(executable_path=browser, args=flags)
        page = opened.new_context(color_scheme=theme, offline=True).new_page()  # type: ignore[arg-type]
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(Path(result["report"]).as_uri())
        heading = page.locator("h1").inner_text()
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        marked = page.locator(".wb-row").first.is_visible()
        opened.close()
    assert heading == "Forgetting biographies with objective wga"
    assert marked
    brightness = sum(map(int, paper[paper.index("(") + 1 : -1].split(",")[:3]))
    assert brightness > 600 if theme == "light" else brightness < 200
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
def test_the_real_demo(tofu_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (cache() / SMOLLM2 / "workbench.json").exists():
        pytest.skip("smollm2 has not been fetched (workbench models get smollm2)")
    found = told(["--real", "--data-dir", str(tofu_dir)], tmp_path, capsys)
    before, after = found["before"], found["after"]
    assert before["forget"]["probability"] > 0.5
    assert after["forget"]["probability"] <= 0.15
    assert after["retain"]["probability"] >= 0.9 * before["retain"]["probability"]
    assert found["alignment"]["value"] is None
