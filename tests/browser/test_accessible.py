"""Every widget by axe-core's rules, contrast among them, in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interferences import made as domains_of
from lab import Lab, opened
from markupsafe import Markup
from runs_of import config_of, own_files
from sequences import eight, written
from widget_page import open_widget

import workbench as wb
from workbench.runs import attack, execution
from workbench.scorers.score import score_samples
from workbench.unlearning.settings import Settings
from workbench.view.html import page as whole_page
from workbench.view.widgets import (
    BeforeAfter,
    CompareRuns,
    CompareView,
    InterferenceView,
    RetentionView,
    TokenView,
    where,
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def widgets(bio: Any, full: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=6, batch_size=8, lr=1e-3, record_every=3)
    for name in ("run", "other"):
        execution.start(config_of(own_files(bio, folder), settings, probe_limit=8), folder / name)
    attack(folder / "run", reference="bio-retain", attacks="logit_lens,uds", limit=3)
    scores = score_samples(full, bio.forget[:6], ["surprisal", "entropy", "position", "spans"])
    texts = {s.id: (s.question, s.answer) for s in bio.forget}
    return {
        "TokenView": TokenView.of_run(folder / "run"),
        "CompareView": CompareView(scores, texts),
        "BeforeAfter": BeforeAfter(folder / "run"),
        "WhereView": where(folder / "run"),
        "DiffView": wb.diff("bio-retain", full, bio.forget[:6]),
        "LabelSpans": wb.LabelSpans(bio.forget[:3], None),
        "RetentionView": opened_cell(folder / "sequence"),
        "InterferenceView": opened_pair(),
        "CompareRuns": CompareRuns([folder / "run", folder / "other"]),
    }


SHOWN = [
    *("TokenView", "CompareView", "BeforeAfter", "WhereView", "DiffView", "CompareRuns"),
    *("RetentionView", "LabelSpans", "InterferenceView"),
]


def opened_pair() -> InterferenceView:
    """Maps of a few domains, with the tokens of a pair below them."""
    view = InterferenceView(domains_of())
    view.select("Ada", "Bo")
    return view


def opened_cell(folder: Path) -> RetentionView:
    """The matrix of three seeds, with the answers of a cell below it."""
    view = RetentionView(written(folder, [eight(seed) for seed in range(3)], ("retain", "neighbours", "general")))
    view.chosen = [5, 1]
    return view


def check(page: Any, axe: Path, part: str) -> None:
    """axe-core finds something to approve of in a part of the page, and nothing serious against it."""
    page.evaluate(axe.read_text(encoding="utf-8") + ";0")
    results = page.evaluate("part => axe.run(part)", part)
    serious = [v for v in results["violations"] if v["impact"] in ("serious", "critical")]
    assert results["passes"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", SHOWN)
def test_no_serious_violation(
    axe: Path, chromium: Any, widgets: dict[str, Any], tmp_path: Path, name: str, theme: str
) -> None:
    page = open_widget(chromium, widgets[name], tmp_path, theme)
    check(page, axe, "main")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["TokenView", "CompareView", "DiffView"])
def test_a_static_twin_has_none(
    axe: Path, chromium: Any, widgets: dict[str, Any], tmp_path: Path, name: str, theme: str
) -> None:
    file = tmp_path / "page.html"
    file.write_text(whole_page(name, Markup(widgets[name].to_html())), encoding="utf-8")
    page = chromium.new_page(color_scheme=theme)
    page.goto(file.as_uri())
    for by in ("rank", "logarithm", "value"):
        page.get_by_label(by, exact=True).first.check()
        check(page, axe, "main")
    page.close()


PANELS = [
    """import workbench as wb
from pathlib import Path
settings = wb.Settings(steps=6, batch_size=8, lr=1e-3, record_every=3)
config = wb.Config(
    task=wb.TaskSpec("biographies"), model="bio-full", objective="wga", weights="surprisal", settings=settings,
    probe_limit=4,
)
run = wb.start(config, Path("runs/here")).path
panel = wb.RunPanel("runs")
panel.attach(run)
panel""",
    "wb.ErrorBrowser(run)",
]


def test_no_serious_violation_in_jupyterlab(axe: Path, chromium: Any, lab: Lab) -> None:
    """The panels are made of ipywidgets, so they are looked at where these are drawn."""
    notebook = opened(chromium, lab, "panels.ipynb", PANELS)
    notebook.run_all()
    notebook.page.locator(".wb-errors .wb-text [role=option]").first.wait_for()
    for panel in (".wb-run-panel", ".wb-errors"):
        check(notebook.page, axe, panel)
    notebook.close()
