"""The retention matrix as HTML, widget and page: what stands where, and that nothing is told by colour alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Text
from sequences import eight, written
from widget_page import open_widget

from workbench.cli.app import main
from workbench.errors import UserError
from workbench.runs import SequenceDirectory
from workbench.view import sequence_page
from workbench.view.charts import retention_chart
from workbench.view.html import retention_view, short_names
from workbench.view.widgets import RetentionView

HAND = np.array([[1.0, 1.0, 1.0], [0.1, 0.9, 0.98], [0.3, 0.0, 0.8]])  # two requests, and retain


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> SequenceDirectory:
    return written(tmp_path_factory.mktemp("hand"), [HAND], ["retain"])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> SequenceDirectory:
    matrices = [eight(seed) for seed in range(3)]
    return written(tmp_path_factory.mktemp("large"), matrices, ["retain", "neighbours", "general"])


def cells(html: str) -> dict[tuple[int, int], dict[str, str]]:
    """The attributes of the cells, by requests so far and column."""
    found = [attributes for tag, attributes in Text(html).tags if tag == "td" and "data-set" in attributes]
    return {(int(a["data-after"]), int(a["data-set"])): a for a in found}


def test_each_cell_says_in_words_how_it_stands(hand: SequenceDirectory) -> None:
    """Value, change and standing are in its text and title; the colour says nothing that they do not."""
    html = retention_view(hand.retention())
    table = cells(html)
    assert len(table) == 3 * 2 + 2
    assert [table[key]["class"] for key in [(1, 0), (2, 1), (2, 0), (1, 1), (2, 2)]] == [
        "wb-own", "wb-own", "wb-forgotten", "wb-not-yet", "wb-kept"
    ]  # fmt: skip
    assert table[2, 0]["title"] == (
        "biographies/person:0,1 after request 2, requested before: 0.30, −0.70 against before; it comes back"  # noqa: RUF001
    )
    assert table[1, 1]["title"].endswith("not requested yet: 0.90, −0.10 against before; it is lost without a request")  # noqa: RUF001
    assert table[1, 2]["title"].endswith("to keep: 0.98, −0.02 against before")  # noqa: RUF001
    assert html.count("<i>↑</i>") == 1
    assert html.count("<i>↓</i>") == 2
    assert "forgetting reversal" in html
    assert "+0.20" in html


def test_seeds_stand_in_every_cell(large: SequenceDirectory) -> None:
    retention = large.retention()
    html = retention_view(retention)
    values = retention.values[:, 3, 0]
    shown = f"{values.min():.2f}–{values.max():.2f}"  # noqa: RUF001
    assert shown in cells(html)[3, 0]["title"]
    assert "mean of 3 seeds" in html
    assert sum("wb-na" in cell["class"] for cell in cells(html).values()) == 8  # general has no fact accuracy


def test_names_lose_what_they_share() -> None:
    assert short_names(("biographies/person:0,1", "biographies/person:2")) == ("biographies/person:", ["0,1", "2"])
    assert short_names(("tofu/forget01/author:0", "muse/news/sust:1")) == (
        "",
        ["tofu/forget01/author:0", "muse/news/sust:1"],
    )
    assert short_names(("a",)) == ("", ["a"])
    assert short_names(("a", "ab")) == ("", ["a", "ab"])


def test_a_cell_opens_its_answers_and_their_tokens(hand: SequenceDirectory) -> None:
    view = RetentionView(hand)
    assert view.detail == ""
    view.select(2, "biographies/person:0,1")
    assert view.chosen == [2, 0]
    assert view.selected["value"] == pytest.approx(0.3)
    assert view.selected["change"] == pytest.approx(-0.7)
    assert "<h3>biographies/person:0,1, after request 2</h3>" in view.detail
    assert "cello" in view.detail  # what it says now
    assert "mean change in probability" in view.detail  # the heatmap
    twin = view.to_html()
    assert view.detail in twin
    assert "wb-chosen" in twin
    view.metric = "rouge_l_recall"
    assert view.retention.metric == "rouge_l_recall"
    assert view.selected["value"] == pytest.approx(0.3**0.5)
    view.chosen = []
    assert (view.detail, view.selected) == ("", {})
    assert len(view.to_frame()) == 9


def test_another_seed_opens_its_own_answers(large: SequenceDirectory) -> None:
    view = RetentionView(large)
    view.chosen = [5, 1]
    assert "seed 0</h3>" in view.detail
    view.seed = "2"
    assert "seed 2</h3>" in view.detail


def test_mistakes_are_one_line(hand: SequenceDirectory, tmp_path: Path) -> None:
    view = RetentionView(hand)
    with pytest.raises(UserError, match=r"unknown set of the sequence 'x'"):
        view.select(1, "x")
    with pytest.raises(UserError, match=r"a cell is \[requests so far, column\], 0 to 2 and 0 to 2"):
        view.select(3, "retain")
    with pytest.raises(UserError, match="unknown metric of the sequence 'x'"):
        view.metric = "x"
    with pytest.raises(UserError, match="the seeds are 0; not '1'"):
        view.seed = "1"
    with pytest.raises(UserError, match=r"is no sequence's directory \(it has no sequence.json\)"):
        RetentionView(tmp_path)


@pytest.mark.parametrize("name", ["sequence.json", "seed-0/after-1/measured.json", "seed-0/after-2/probes.parquet"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    sequence = written(tmp_path, [HAND], ["retain"])
    (sequence.path / name).write_text("{}")
    with pytest.raises(UserError, match=f"{Path(name).name} is damaged"):
        RetentionView(sequence.path).select(2, "biographies/person:0,1")


def test_an_unfinished_sequence_says_so(tmp_path: Path) -> None:
    sequence = written(tmp_path, [HAND], ["retain"])
    (sequence.state_folder(0, 2) / "measured.json").unlink()
    with pytest.raises(UserError, match="has no seed that is done yet; run the same command again"):
        RetentionView(sequence)


def test_the_page_has_matrix_answers_and_costs(hand: SequenceDirectory, tmp_path: Path) -> None:
    assert main(["report", str(hand.path), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == sequence_page(hand)
    for text in ("2 requests with objective wga", "What is left after each request", "What was to be kept", "it cost"):
        assert text in page
    assert "<script src" not in page


def test_the_chart_has_the_matrix(large: SequenceDirectory, tmp_path: Path) -> None:
    retention = large.retention()
    chart = retention_chart(retention)
    assert np.shape(chart.data[0].z) == (9, 11)
    assert chart.data[0].text[2][1].startswith("<b>")  # the request that was just asked
    svg = tmp_path / "matrix.svg"
    RetentionView(large).save(svg)
    assert "after 8" in svg.read_text()


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_keys_alone_move_and_open(chromium: Any, large: SequenceDirectory, tmp_path: Path) -> None:
    page = open_widget(chromium, RetentionView(large), tmp_path)
    page.get_by_role("grid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    readout = page.locator(".wb-readout").text_content()
    assert readout.startswith("biographies/person:2,3 after request 2, just requested")
    current = page.get_by_role("grid").get_attribute("aria-activedescendant")
    assert "wb-cur" in page.locator(f"#{current}").get_attribute("class")
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('chosen')") == [2, 1]
    assert page.locator("td.wb-chosen").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("model.get('chosen')") == []
    page.keyboard.press("End")
    assert "biographies/person:14,15" in page.locator(".wb-readout").text_content()
    page.locator('td[data-after="3"][data-set="8"]').click()
    assert page.evaluate("model.get('chosen')") == [3, 8]
    page.get_by_label("metric").select_option("rouge_l_recall")
    assert page.evaluate("model.get('metric')") == "rouge_l_recall"
    assert page.messages == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("chosen", [[], [5, 1]])
def test_nothing_but_the_matrix_scrolls_sideways(
    chromium: Any, large: SequenceDirectory, tmp_path: Path, width: int, chosen: list[int]
) -> None:
    """Neither with the answers of a cell below it; these begin and end where the matrix does."""
    view = RetentionView(large)
    view.chosen = chosen
    page = open_widget(chromium, view, tmp_path)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.locator("body").evaluate("n => n.scrollWidth <= n.clientWidth")
    edges = page.locator(".wb-retention, .wb-opened").evaluate_all(
        "all => all.map((n) => n.getBoundingClientRect()).map((r) => [r.left, r.right])"
    )
    assert len(edges) == 1 + bool(chosen)
    assert len({left for left, _ in edges}) == 1
    assert width - max(right for _, right in edges) >= 8
    page.close()
