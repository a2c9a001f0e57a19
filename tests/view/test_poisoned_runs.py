"""A real run with a tag in every string of every file: every view and page shows it, and nothing becomes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hostile import EVIL, NEW, SCRIPT, check, poison
from markupsafe import Markup
from runs_of import config_of, own_files
from widget_page import open_widget

from workbench.errors import UserError
from workbench.runs import attack, execution
from workbench.unlearning.settings import Settings
from workbench.view import run_report
from workbench.view.figures import answers_figure, change_figure
from workbench.view.html import page
from workbench.view.widgets import BeforeAfter, CompareRuns, ErrorBrowser, RunPanel, TokenView, where

SUITE = {
    "suite": "tofu", "summary": {"forget_quality": {"value": None, "reason": "none"}, "model_utility": 0.5},
    "reference": "bio-retain", "convention": "ours", "general": {"arc": {"acc": 0.5}},
    "parts": {"model_utility": {"forget": {"value": None, "reason": "x"}}},
    "curve": [{"step": step, "rows": "rest", "fact_accuracy": 0.5} for step in (0, 1)],
}  # fmt: skip
NAMES = {"evil": EVIL.replace("/", "").replace("\x00", ""), "script": SCRIPT.replace("/", "")}


@pytest.fixture(scope="module")
def made(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file that a run's directory may have."""
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=4, batch_size=4, lr=1e-3, record_every=2)
    config = config_of(own_files(bio, folder, 4), settings, probe_limit=3, probe_every=2)
    run = execution.start(config, folder / "run").path
    browser = ErrorBrowser(run)
    row = browser.rows.iloc[0]
    browser.tag(row["sample_id"], row["probe_set"], "odd", "look here")
    (run / "suites").mkdir()
    (run / "suites" / "tofu.json").write_text(json.dumps(SUITE))
    (run / "log.txt").write_text("a line\n")
    attack(run, reference="bio-retain", attacks="logit_lens,uds", limit=2)
    return run


def poisoned(made: Path, folder: Path, which: str) -> tuple[Path, set[str], set[str]]:
    evil = {"evil": EVIL, "script": SCRIPT}[which]
    path = folder / f"run{NAMES[which]}"
    return path, *poison(made, path, evil)


@pytest.fixture(scope="module")
def run(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poisoned(made, tmp_path_factory.mktemp("evil"), "evil")[0]


def test_no_field_is_forgotten(made: Path, tmp_path: Path) -> None:
    """What is refused are the few strings that must be one of a set; all others have the tag."""
    _, taken, refused = poisoned(made, tmp_path, "evil")
    assert {place.split(":")[0] for place in taken} == {
        "attacks/answers.parquet", "attacks/summary.json", "config.json", "cost.json", "events.jsonl", "job.json",
        "log.txt", "metrics.json", "notes.json",
        "probes.parquet", "run.json", "scores.parquet", "suites/tofu.json", "tokens.parquet",
    }  # fmt: skip
    for table, column in (
        ("probes", "probe_set"),
        ("tokens", "alternatives"),
        ("scores", "scorer"),
        ("scores", "sample_id"),
        ("attacks/answers", "tokens"),
        ("attacks/answers", "vocabulary"),
    ):
        assert f"{table}.parquet: {column}" in taken
    values = {place for place in refused if NEW not in place}
    assert values == {"probes.parquet: phase", "tokens.parquet: phase"}, values


def panel(run: Path, failed: bool = False) -> RunPanel:
    if failed:
        (run / "run.json").unlink()
    shown = RunPanel(run.parent)
    shown._guarded(lambda: shown.attach(run))
    shown.close()
    return shown


def parts(widget: Any) -> str:
    """The HTML that a widget made of ipywidgets shows."""
    inside = [getattr(widget, "value", "")] if type(widget).__name__ == "HTML" else []
    return "".join([*inside, *(parts(child) for child in getattr(widget, "children", ()))])


PAGES: dict[str, Callable[[Path], str]] = {
    "report": lambda run: run_report(run).read_text(encoding="utf-8"),
    "TokenView": lambda run: TokenView.of_run(run).to_html(),
    "BeforeAfter": lambda run: BeforeAfter(run).to_html(),
    "BeforeAfter, searched": lambda run: _searched(run).to_html(),
    "ErrorBrowser": lambda run: ErrorBrowser(run).to_html(),
    "ErrorBrowser, live": lambda run: parts(ErrorBrowser(run)),
    "ErrorBrowser's page": lambda run: ErrorBrowser(run).export_html().read_text(encoding="utf-8"),
    "WhereView": lambda run: where(run).to_html(),
    "RunPanel": lambda run: panel(run).to_html(),
    "RunPanel, live": lambda run: parts(panel(run)),
    "CompareRuns": lambda run: _both(run).to_html(),
}


def _both(run: Path) -> CompareRuns:
    """The run beside one of which nothing but its being a run can be read."""
    other = run.with_name("other")
    other.mkdir(exist_ok=True)
    (other / "config.json").write_text("{")
    (other / "events.jsonl").write_text("")
    return CompareRuns([run, other])


def _figures(run: Path) -> str:
    """What is saved of the run, as the text of SVG figures on a page."""
    probes, tokens = (pd.read_parquet(run / f"{name}.parquet") for name in ("probes", "tokens"))
    figures = [
        TokenView.of_run(run),
        BeforeAfter(run),
        answers_figure(probes, title=EVIL),
        change_figure(tokens, probes),
    ]
    svgs = [figure.to_bytes(".svg").decode().partition("?>")[2].replace("tspan", "text") for figure in figures]
    return page("figures", Markup("".join(svgs)))


def _searched(run: Path) -> BeforeAfter:
    view = BeforeAfter(run)
    view.search = view._probes["answer"].iloc[0]
    return view


@pytest.mark.parametrize("name", PAGES)
def test_every_view_of_it(run: Path, name: str) -> None:
    check(PAGES[name](run))


def test_every_figure_of_it(run: Path) -> None:
    svg = _figures(run)
    assert "&lt;zz" in svg
    assert "<zz" not in svg
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e]", svg)


def test_a_run_that_failed_so(made: Path, tmp_path: Path) -> None:
    path, *_ = poisoned(made, tmp_path, "evil")
    job = json.loads((path / "job.json").read_text())
    (path / "job.json").write_text(json.dumps(job | {"state": "failed", "reason": EVIL}))
    shown = panel(path, failed=True)
    assert shown.failure.value
    check(parts(shown))


def test_damage_is_told_in_text(made: Path, tmp_path: Path) -> None:
    """A file that is refused is named, and its directory has the name that it has."""
    path, *_ = poisoned(made, tmp_path, "evil")
    for file in ("metrics.json", "cost.json", "run.json"):
        (path / file).write_text(json.dumps({EVIL: EVIL}))
        with pytest.raises(UserError) as damage:
            run_report(path)
        shown = panel(path)
        assert shown.failure.value or shown.error.value, damage.value
        check(parts(shown))


def test_nothing_runs_in_a_browser(made: Path, chromium: Any, tmp_path: Path) -> None:
    """The pages, the twins, and the widgets with their scripts: no script of the data ran, no element is there."""
    run, *_ = poisoned(made, tmp_path, "script")
    sheet = chromium.new_page()
    seen: list[str] = []
    sheet.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    sheet.on("console", lambda message: seen.append(message.text))
    for name, html in PAGES.items():
        content = html(run)
        whole = content if "<!doctype" in content else page(name, Markup(content))
        (tmp_path / "page.html").write_text(whole, encoding="utf-8")
        sheet.goto((tmp_path / "page.html").as_uri())
        assert "<zz onclick" in sheet.locator("body").evaluate("n => n.textContent"), name
        assert clean(sheet), name
    sheet.close()
    assert seen == []
    for widget in (TokenView.of_run(run), BeforeAfter(run), _searched(run), where(run), _both(run)):
        shown = open_widget(chromium, widget, tmp_path)
        if isinstance(widget, TokenView):
            shown.locator("[role=option]").first.hover()
            for scorer in widget.head["layers"]:
                shown.get_by_label("scorer").select_option(scorer["name"])
        for cell in shown.locator(".wb-grid-box td").all()[:3]:
            cell.hover()
        assert clean(shown)
        assert shown.messages == []
        shown.close()


def clean(shown: Any) -> bool:
    """No script of the data has run, and none of its elements is in the page."""
    return bool(shown.evaluate("window.zz === undefined && !document.querySelector('img, zz, [onclick], [onerror]')"))
