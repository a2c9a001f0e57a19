"""Scorers side by side and answers before and after, as widgets in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from widget_page import open_widget

from workbench.errors import UserError
from workbench.runs.directory import RunDirectory
from workbench.scorers.score import score_samples
from workbench.view.widgets import BeforeAfter, CompareView


def test_linked_hover_and_a_matrix_that_chooses(chromium: Any, bio: Any, tmp_path: Path, full: Any) -> None:
    scores = score_samples(full, bio.forget[:6], ["surprisal", "entropy", "position"])
    page = open_widget(chromium, CompareView(scores, {s.id: (s.question, s.answer) for s in bio.forget}), tmp_path)
    row = page.locator(".wb-row").first
    row.locator(".wb-a").first.locator("> :is(span,u)").nth(2).hover()
    marked = row.locator(".wb-cur")
    assert marked.count() == 3
    assert len(set(marked.all_inner_texts())) == 1
    assert all(name in page.locator(".wb-readout").inner_text() for name in ("surprisal", "entropy", "position"))
    page.get_by_label("show surprisal and entropy").first.click()
    assert row.locator(".wb-pair:not([hidden])").count() == 2
    page.locator(".wb-chip", has_text="all").click()
    assert row.locator(".wb-pair:not([hidden])").count() == 3
    row.locator(".wb-a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert row.locator(".wb-a").first.locator("> :is(span,u)").nth(4).evaluate("n => n.classList.contains('wb-cur')")
    assert page.messages == []
    page.close()


def test_before_after_in_tabs(chromium: Any, recorded_run: Path, tmp_path: Path) -> None:
    view = BeforeAfter(recorded_run)
    assert repr(view).startswith("BeforeAfter(")
    page = open_widget(chromium, view, tmp_path)
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["answers", "tokens", "metrics"]
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("section:not([hidden])").get_attribute("data-name") == "tokens"
    assert page.messages == []
    page.close()


def test_before_after_searches_all_answers(recorded_run: Path) -> None:
    probes = RunDirectory(recorded_run).table("probes.parquet")
    view = BeforeAfter(recorded_run, max_samples=1)
    last = probes[probes["probe_set"] == "forget"].iloc[3]
    assert last["prompt"] not in view.html
    view.search = f"  {last['prompt'].upper()} "
    assert view.searched == view.search
    assert f"<b>1</b> of {view.count} answers have" in view.html
    assert view.html.count(f">{last['prompt']}</div>") == 2  # among the answers and the tokens
    view.search = "<b>nobody</b>"
    assert f"<b>0</b> of {view.count} answers have “&lt;b&gt;nobody&lt;/b&gt;”" in view.html
    view.search = ""
    assert view.html == BeforeAfter(recorded_run, max_samples=1).html


def test_a_search_in_the_page(chromium: Any, recorded_run: Path, tmp_path: Path) -> None:
    """At once in what is shown; what Python finds then takes its place, and field and tab stay as they are."""
    view = BeforeAfter(recorded_run, max_samples=2)
    page = open_widget(chromium, view, tmp_path)
    page.get_by_role("tab").nth(1).click()
    page.get_by_label("search").fill("nobody has this")
    assert page.locator(".wb-row:visible").count() == 0
    assert page.locator(".wb-note").inner_text() == "in the answers shown:"
    page.wait_for_function("model.get('search') === 'nobody has this'")
    view.search = word = view._probes["answer"].iloc[-1]
    page.get_by_label("search").fill(word)
    page.evaluate("([h, w]) => { model.set('searched', w); model.set('html', h); }", [view.html, word])
    assert page.locator(".wb-row:visible").count() > 0
    assert page.locator(".wb-note").inner_text() == ""
    assert page.get_by_label("search").input_value() == word
    assert page.locator("section:not([hidden])").get_attribute("data-name") == "tokens"
    assert page.messages == []
    page.close()


def test_before_after_of_an_unfinished_run_is_one_line(recorded_run: Path) -> None:
    probes = RunDirectory(recorded_run).table("probes.parquet")
    with pytest.raises(UserError, match="has not been probed at its end yet"):
        BeforeAfter(probes[probes["phase"] == "before"])
