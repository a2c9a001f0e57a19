"""What a notebook keeps of each widget: a twin that is seen wherever the widget is not drawn, and stays true."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from interferences import made as interference_made
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from pages import SAMPLES, SPANS, scores_of
from runs_of import config_of, own_files
from sequences import eight, written
from test_where_view import made
from widget_page import browser, open_widget

import workbench as wb
from workbench.runs import execution
from workbench.unlearning.settings import Settings
from workbench.view.html import STATIC
from workbench.view.widgets import (
    BeforeAfter,
    Chat,
    CompareRuns,
    CompareView,
    ErrorBrowser,
    InterferenceView,
    LabelSpans,
    Playground,
    RetentionView,
    RunPanel,
    TokenView,
    WhereView,
)
from workbench.view.widgets.static_twin import LIVE, PLACES, VIEW, Twin


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    config = config_of(own_files(bio, folder, 6), Settings(steps=2, batch_size=4, record_every=1), probe_limit=3)
    return execution.start(config, folder / "runs" / "short").path


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What is displayed from here on, as a kernel would send it."""
    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher(shell=shell)
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield publisher.outputs
    InteractiveShell.clear_instance()


def attached(run: Path) -> RunPanel:
    panel = RunPanel(run.parent)
    panel.attach(run)
    return panel


def copied(run: Path) -> Path:
    return Path(shutil.copytree(run, run.parents[1] / "copy", dirs_exist_ok=True))


SCORES = scores_of(SAMPLES, SPANS)
WIDGETS = {
    "TokenView": lambda run: TokenView(SCORES, SAMPLES),
    "CompareView": lambda run: CompareView(SCORES, SAMPLES),
    "BeforeAfter": BeforeAfter,
    "ErrorBrowser": ErrorBrowser,
    "RunPanel": attached,
    "DiffView": lambda run: wb.diff("bio-full", "bio-retain", "Celia Nash was born in Quillon."),
    "Playground": lambda run: Playground("bio-full"),
    "CompareRuns": lambda run: CompareRuns([run, copied(run)]),
    "WhereView": lambda run: WhereView(made()),
    "LabelSpans": lambda run: LabelSpans([{"question": "Where?", "answer": "In Quillon."}], None),
    "RetentionView": lambda run: RetentionView(
        written(run.parents[1] / "sequence", [eight()], ["retain", "neighbours", "general"])
    ),
    "InterferenceView": lambda run: InterferenceView(interference_made()),
    "Chat": lambda run: Chat("bio-full", "bio-retain"),
}


@pytest.mark.parametrize("name", WIDGETS)
def test_two_outputs_of_which_one_is_seen(outputs: list[dict[str, Any]], run: Path, name: str) -> None:
    widget = WIDGETS[name](run)
    display(widget)
    twin, view = (output["data"] for output in outputs)
    assert set(twin) == {"text/html", "text/plain"}
    assert 'class="wb-still"' in twin["text/html"]
    assert str(widget.to_html(**widget.twin_of)) in twin["text/html"]
    assert twin["text/plain"] == repr(widget)
    assert view == {VIEW: view[VIEW], "text/html": ""}  # nothing where a widget is not drawn
    assert view[VIEW]["model_id"] == widget.model_id
    assert LIVE in widget._dom_classes  # by which the twin's style sheet knows that the widget is there


@pytest.mark.parametrize("name", WIDGETS)
def test_a_twin_needs_no_script_and_nothing_from_elsewhere(run: Path, name: str) -> None:
    data, _ = WIDGETS[name](run)._repr_mimebundle_()
    assert VIEW in data  # with the widget, in one, for marimo
    assert not re.search(r"<script|<link|<iframe|@import|\ssrc=|\shref=.(?!#)|url\(|\son\w+=", data["text/html"])


def test_every_widget_is_tried_here() -> None:
    from workbench.view import widgets

    public = {name for name in widgets.__all__ if isinstance(getattr(widgets, name), type)}
    assert {name for name in public if issubclass(getattr(widgets, name), Twin)} == set(WIDGETS)


def text_of(output: dict[str, Any]) -> str:
    return html.unescape(re.sub("<style>.*?</style>|<[^>]+>", "", output["data"]["text/html"]))


def updates(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for output in outputs if output.get("update")]


def test_a_twin_follows_what_its_widget_shows(outputs: list[dict[str, Any]], run: Path) -> None:
    before_after, browser = BeforeAfter(run), ErrorBrowser(run)
    before_after.search = "nothing displayed yet"
    assert outputs == []
    before_after.search = ""
    display(before_after, browser)
    ids = [output["transient"]["display_id"] for output in outputs if output["transient"]]
    before_after.search = "no such words"
    assert "0 of" in text_of(updates(outputs)[-1])
    assert updates(outputs)[-1]["transient"] == {"display_id": ids[0]}
    row = browser.shown.iloc[0]
    browser.tag(row["sample_id"], row["probe_set"], note="seen by me")
    assert "seen by me" in text_of(updates(outputs)[-1])
    assert updates(outputs)[-1]["transient"] == {"display_id": ids[1]}


def test_a_cell_that_is_run_again_and_again_is_not_drawn_in_all_its_old_places(outputs: list[dict[str, Any]]) -> None:
    view = TokenView(SCORES, SAMPLES)
    for _ in range(3 * PLACES):
        display(view)
    ids = [output["transient"]["display_id"] for output in outputs if output["transient"]]
    view.title = "another"
    assert [update["transient"]["display_id"] for update in updates(outputs)] == ids[-PLACES:]


def test_a_token_view_is_never_drawn_with_half_of_another_table(outputs: list[dict[str, Any]]) -> None:
    view = TokenView(SCORES, SAMPLES)
    display(view)
    other = scores_of({"z": ("Who?", "Nobody at all.")}, scorer="gap")
    view.show(other, {"z": ("Who?", "Nobody at all.")})
    assert updates(outputs)
    assert all("Nobody" in text_of(output) for output in updates(outputs))


def test_what_was_asked_and_typed_is_kept(outputs: list[dict[str, Any]]) -> None:
    chat, playground = Chat("bio-full", "bio-retain", max_new_tokens=4), Playground("bio-full")
    display(chat, playground)
    ids = [output["transient"]["display_id"] for output in outputs if output["transient"]]
    chat.ask("Where was Celia Nash born?")
    assert chat.wait()
    playground.type("Where was Celia Nash born?", "In Quillon.")
    assert playground.wait()
    kept = {output["transient"]["display_id"]: text_of(output) for output in updates(outputs)}
    assert all("Where was Celia Nash born?" in kept[place] for place in ids)
    chat.close()
    playground.close()


def test_a_panel_that_is_shown_before_its_run_is_kept_with_it(outputs: list[dict[str, Any]], run: Path) -> None:
    panel = RunPanel(run.parent)
    display(panel)
    assert "no run yet" in text_of(outputs[0])
    panel.attach(run)
    assert "finished, step 2 of 2" in text_of(updates(outputs)[-1])


def test_a_widget_keeps_its_looks_beside_another(run: Path, tmp_path: Path) -> None:
    """Each widget brings its own style sheets, and those of a later one come after its own."""
    sheets = {path.name: path.read_text(encoding="utf-8") for path in STATIC.glob("*.css")}
    assert [name for name, text in sheets.items() if LIVE in text] == ["twin.css"]  # a mark, and not a look
    looks = "n => [...document.querySelectorAll('main *')].map(n => [n.offsetWidth, n.offsetHeight].join()).join(' ')"
    with browser() as chromium:
        for name in ("TokenView", "WhereView", "CompareView"):
            page = open_widget(chromium, WIDGETS[name](run), tmp_path)
            alone = page.evaluate(looks)
            page.add_style_tag(content=sheets["view.css"])
            assert page.evaluate(looks) == alone, name
