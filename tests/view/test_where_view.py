"""Where a fact still is, drawn: true numbers and colours, a twin with the same content, a selection that is shared."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import HOSTILE, Text
from runs_of import config_of, own_files
from widget_page import open_widget

import workbench as wb
from workbench.errors import UserError
from workbench.evals.where import Lens, Where
from workbench.runs import execution
from workbench.unlearning.settings import Settings
from workbench.view.html import where_view
from workbench.view.html.where import brief, strength
from workbench.view.report import run_report
from workbench.view.widgets import BeforeAfter, TokenView, WhereView
from workbench.view.widgets.where_view import _last


def made(tokens: list[str] | None = None, layers: int = 3, sample: str = "a") -> Where:
    """Maps of an answer whose second and third tokens are the fact."""
    tokens = tokens or [" born", " in", " Karrow", ".", ""]
    count, rng = len(tokens), np.random.default_rng(0)
    facts = [i in (1, 2) for i in range(count)]
    lenses = {}
    for model, depth in (("before", 0.0), ("run", 1.0), ("retain_only", 6.0)):
        logp = np.linspace(-8, -0.1, layers)[:, None] - depth * np.array(facts)
        top = rng.integers(0, count, (layers, count, 5))
        lenses[model] = Lens(logp, np.round(np.exp(-logp) - 1).astype(int), top, np.full(top.shape, 0.1), tokens)
    d1 = np.where(facts, np.linspace(0.5, 4, layers)[:, None], 0.01)
    drops = {"before": d1 * 0, "run": d1 * np.linspace(1, 0.2, layers)[:, None], "retain_only": d1}
    places = list(range(count))
    return Where(sample, "Where?", "".join(tokens), places, tokens, facts, lenses, drops, {})


def cells(html: str) -> list[tuple[str, str]]:
    """The title and the content of each cell."""
    return re.findall(r'<td[^>]*title="([^"]*)"[^>]*>(.*?)</td>', html)


def test_how_much_is_there() -> None:
    assert [strength("logp", x) for x in (0.0, -5.0, -30.0)] == [1.0, 0.5, 0.0]
    assert [strength("rank", x) for x in (0, 999, 40_000)] == pytest.approx([1.0, 0.0, 0.0])
    assert [strength("uds", x) for x in (0.0, 1.0)] == [1.0, 0.0]
    assert [brief("logp", x) for x in (-0.01, -3.14, -12.6)] == ["0.0", "−3.1", "−13"]  # noqa: RUF001
    assert [brief("rank", x) for x in (0, 41, 12_345)] == ["1", "42", "12k"]
    assert [brief("uds", x) for x in (0.5, float("nan"))] == ["0.50", "·"]


def test_every_cell_says_its_values() -> None:
    where = made()
    html = where_view(where, css=False)
    drawn = cells(html)
    assert len(drawn) == 9 * 5  # three models of three layers, five tokens
    title, inside = drawn[2 * 9 + 4]  # the fact, second layer of the run
    assert title.startswith("“ Karrow” · run · layer 2 of 3&#10;log p −5.05 · rank 156 · UDS 0.60 (d1 2.25, d2 1.35)")  # noqa: RUF001
    assert "&#10;most probable: “" in title
    assert re.findall(r'class="wb-v(\d)">([^<]*)<', inside) == [("0", "−5.0"), ("1", "156"), ("2", "0.60")]  # noqa: RUF001
    assert where.summary()[0] == "This fact survives in layer 3 of 3."
    assert "<b>This fact survives in layer 3 of 3.</b>" in html
    assert html.count('class="wb-fact"') == 2
    assert html.count('type="radio"') == 3
    Text(html)


def test_many_layers_have_marks_in_place_of_numbers() -> None:
    html = where_view(made(layers=12), css=False)
    assert {text for _, inside in cells(html) for text in re.findall(r">([^<]+)<", inside)} == {"•", "·"}
    assert "wb-narrow" in html
    assert html.count('colspan="5"') == 6


def test_what_is_not_there_says_why() -> None:
    where = replace(made(), drops={}, reasons={"uds": "needs a retain-only model (--reference)"})
    html = where_view(where, css=False)
    assert "not available: UDS: needs a retain-only model (--reference)." in html
    assert html.count('type="radio"') == 2
    unread = replace(made(), lenses={}, reasons={"run": "the model does more to its logits than apply its head"})
    html = where_view(unread, css=False)
    assert "run: the model does more to its logits" in html
    assert html.count('type="radio"') == 1
    assert [inside for _, inside in cells(html)][9] == '<b class="wb-v0">0.00</b>'


def test_hostile_tokens_are_text() -> None:
    where = made([*HOSTILE, ""], sample=HOSTILE[0])
    for html in (where_view(where), WhereView(where).to_html(), WhereView(where).html):
        assert "<script" not in html
        assert "<img" not in html
        assert "\u202e" not in html
        assert "&lt;script&gt;" in html
        Text(html)


# The widget ---------------------------------------------------------------------------------------------------------


def test_a_selected_token_is_told() -> None:
    view = WhereView([made(), made(sample="b")])
    assert view.selected == {}
    view.select("b", 2)
    assert (view.answer, view.chosen) == (1, 2)
    assert {key: view.selected[key] for key in ("sample_id", "position", "token", "fact")} == {
        "sample_id": "b", "position": 2, "token": " Karrow", "fact": True,
    }  # fmt: skip
    assert view.selected["values"]["run"]["uds"] == pytest.approx([1.0, 0.6, 0.2])
    view.answer = 0
    assert view.selected == {}
    for sample, position in (("c", 0), ("a", 9)):
        with pytest.raises(UserError, match="no answer token"):
            view.select(sample, position)
    with pytest.raises(UserError, match="value is logp, rank, uds"):
        view.value = "p"
    with pytest.raises(UserError, match="no answer 2"):
        view.answer = 2
    with pytest.raises(UserError, match="no maps"):
        WhereView([])
    assert len(view.to_frame()) == 2 * 9 * 5
    assert repr(view) == "WhereView(2 answers; a: This fact survives in layer 3 of 3.)"


def test_the_twin_has_the_shown_answer_first() -> None:
    view = WhereView([made(), made(sample="b"), made(sample="c")])
    view.answer, view.value, view.chosen = 1, "rank", 2
    html = view.to_html(max_samples=2)
    assert re.findall(r'title="sample (\w)"', html) == ["b", "a"]
    assert re.search(r'value="rank"[^>]* checked', html)
    assert "wb-chosen" in html
    bundle, _ = view._repr_mimebundle_()
    assert bundle["text/html"].count("<table") == 3


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=4, batch_size=8, lr=1e-3, record_every=2)
    path = execution.start(config_of(own_files(bio, folder, 8), settings, probe_limit=4), folder / "run").path
    wb.attack(path, reference="bio-retain", attacks="logit_lens,uds", limit=4)
    return path


def test_linked_to_the_token_view_both_ways(run: Path) -> None:
    tokens = TokenView.of_run(run)
    view = wb.where(run).link(tokens)
    sample, position = view.maps[2].sample_id, view.maps[2].positions[3]
    tokens.select(sample, position)
    assert view.where.sample_id == sample
    assert view.selected["position"] == position
    assert view.selected["token"] == _last(tokens.selected)["token"]
    view.chosen = 5
    assert tuple(map(_last(tokens.selected).get, ("sample_id", "position"))) == (sample, view.where.positions[5])
    view.chosen = -1
    assert not tokens.selected
    tokens.select(sample, position)
    tokens.chosen = tokens.trait_defaults("chosen")
    assert view.selected == {}


def test_linked_to_before_and_after_both_ways(run: Path) -> None:
    both = BeforeAfter(run)
    view = wb.where(run).link(both)
    place = next(i for i, (name, sample, _) in enumerate(both._places) if name == "forget" and sample in ids(view))
    name, sample, positions = both._places[place]
    both.chosen = [place, 4]
    assert both.selected == {"probe_set": name, "sample_id": sample, "position": positions[4]}
    assert (view.where.sample_id, view.selected["position"]) == (sample, positions[4])
    view.chosen = 6
    assert both.chosen == [place, positions.index(view.where.positions[6])]
    view.chosen = -1
    assert both.chosen == []
    retain = next(i for i, (name, *_) in enumerate(both._places) if name == "retain")
    both.chosen = [retain, 0]
    assert view.selected == {}  # the maps are of the forget set


def ids(view: WhereView) -> set[Any]:
    return {each.sample_id for each in view.maps}


def test_the_report_has_it_where_the_run_was_attacked_so(run: Path, tmp_path: Path) -> None:
    page = run_report(run, out=tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Where it still is</h2>" in page
    assert page.count("This fact survives in") == 3
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "attacks")
    assert "Where it still is" not in run_report(copy).read_text(encoding="utf-8")


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_keys_alone_move_switch_and_select(chromium: Any, tmp_path: Path) -> None:
    page = open_widget(chromium, WhereView([made(), made(sample="b")]), tmp_path)
    page.keyboard.press("Tab")  # the list of answers
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('value')") == "rank"
    assert page.locator(".wb-v1").first.is_visible()
    assert not page.locator(".wb-v0").first.is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "grid"
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".wb-readout b").text_content() == "“ Karrow” · run · layer 2 of 3"
    assert "most probable" in page.locator(".wb-readout").text_content()
    current = page.locator("[role=grid]").get_attribute("aria-activedescendant")
    assert page.locator(f"#{current}").get_attribute("class") == "wb-cur"
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('chosen')") == 2
    assert page.locator("tr.wb-chosen th").text_content() == "Karrow"
    page.keyboard.press("Escape")
    assert page.evaluate("model.get('chosen')") == -1
    page.keyboard.press("End")
    assert "retain-only · layer 3" in page.locator(".wb-readout b").text_content()
    page.evaluate("model.set('chosen', 1)")
    assert page.locator("tr.wb-chosen th").text_content() == "in"
    page.locator("tbody tr").nth(3).locator("td").first.click()
    assert page.evaluate("model.get('chosen')") == 3
    page.get_by_label("answer").select_option("1")
    assert page.evaluate("model.get('answer')") == 1
    assert page.messages == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 800])
def test_a_long_answer_scrolls_in_its_box(chromium: Any, tmp_path: Path, width: int) -> None:
    where = made([f" word{i}" for i in range(60)], layers=30)
    page = open_widget(chromium, WhereView(where), tmp_path)
    page.set_viewport_size({"width": width, "height": 900})
    body, box = page.locator("body"), page.locator(".wb-grid-box")
    assert body.evaluate("n => n.scrollWidth <= innerWidth")
    assert box.evaluate("n => n.scrollHeight > n.clientHeight && n.clientHeight <= 560")
    page.locator("[role=grid]").focus()
    page.keyboard.press("End")
    for _ in range(6):
        page.keyboard.press("PageDown")
    cell, frame = page.locator("td.wb-cur").bounding_box(), box.bounding_box()
    assert frame["x"] <= cell["x"]
    assert cell["x"] + cell["width"] <= frame["x"] + frame["width"] + 1
    assert cell["y"] + cell["height"] <= frame["y"] + frame["height"] + 1
    assert page.locator(".wb-readout b").text_content() == "“ word59” · retain-only · layer 30 of 30"
    page.close()


@pytest.mark.browser
def test_tokens_of_before_and_after_can_be_selected(chromium: Any, run: Path, tmp_path: Path) -> None:
    both = BeforeAfter(run)
    page = open_widget(chromium, both, tmp_path)
    page.get_by_role("tab", name="tokens").click()
    answer = page.locator("section[data-name=tokens] .wb-a").nth(1)
    answer.locator("> :is(span,u)").nth(2).click()
    assert page.evaluate("model.get('chosen')") == [1, 2]
    assert "wb-cur" in answer.locator("> :is(span,u)").nth(2).get_attribute("class")
    answer.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('chosen')") == [1, 1]
    assert page.messages == []
    page.close()
