"""Static pages as a browser draws them: colours in print, and a hint where a table goes on beyond the edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import SAMPLES, SPANS, scores_of

from workbench.view.html import metrics_view, page, token_view

WIDE = {"before": {f"a set of a long name {n}": {"probability": 0.5} for n in range(12)}}
EDGE = """() => { const box = document.querySelector(".wb-scroll"); const style = getComputedStyle(box);
    return [box.scrollWidth > box.clientWidth, style.backgroundImage.split("linear-gradient").length - 1,
        style.backgroundAttachment]; }"""


@pytest.fixture
def drawn(chromium: Any, tmp_path: Path) -> Any:
    body = token_view(scores_of(SAMPLES, SPANS), SAMPLES) + metrics_view(WIDE, css=False)
    (tmp_path / "page.html").write_text(page("Views", body), encoding="utf-8")
    shown = chromium.new_page(viewport={"width": 1000, "height": 900})
    shown.goto((tmp_path / "page.html").as_uri())
    yield shown
    shown.close()


def test_colours_are_printed(drawn: Any) -> None:
    drawn.emulate_media(media="print")
    for part in (".wb-a span", ".wb-grad", "body"):
        style = f"getComputedStyle(document.querySelector('{part}')).printColorAdjust"
        assert drawn.evaluate(style) == "exact", part
    assert drawn.evaluate("getComputedStyle(document.querySelector('.wb-scroll')).overflowX") == "visible"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_table_that_goes_on_has_a_shadow_at_the_edge(drawn: Any, theme: str) -> None:
    drawn.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    wide, layers, attached = drawn.evaluate(EDGE)
    assert wide
    assert (layers, attached) == (4, "local, local, scroll, scroll")  # the covers move with the table, shadows stay
