"""Static pages as a browser draws them: colours in print, and a hint where a table goes on beyond the edge."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
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


def fills(pdf: bytes) -> set[tuple[float, ...]]:
    """The colours that a PDF fills areas with and that are not grey."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    painted = set()
    for stream in streams:
        with suppress(zlib.error):
            text = zlib.decompress(stream).decode("latin1")
            painted |= {tuple(map(float, rgb)) for rgb in re.findall(r"([\d.]+) ([\d.]+) ([\d.]+) rg\b", text)}
    return {tuple(round(c, 2) for c in rgb) for rgb in painted if max(rgb) - min(rgb) > 0.1}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_printed_page_has_the_colours_of_the_screen(drawn: Any, theme: str) -> None:
    """Printed as a browser does unless one asks for backgrounds."""
    drawn.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    token = "getComputedStyle(document.querySelector('.wb-a span[style]')).backgroundColor"
    red, green, blue = (round(int(each) / 255, 2) for each in re.findall(r"\d+", drawn.evaluate(token))[:3])
    assert (red, green, blue) in fills(drawn.pdf(print_background=False))
    drawn.add_style_tag(content="*{print-color-adjust:economy!important;-webkit-print-color-adjust:economy!important}")
    assert (red, green, blue) not in fills(drawn.pdf(print_background=False))  # so it is the page's doing


def test_a_dark_page_is_printed_as_a_light_one(drawn: Any) -> None:
    """Paper is white, and the page's ground is not printed: light text would be lost."""
    drawn.evaluate("document.documentElement.dataset.theme = 'dark'")
    ink = "[...document.querySelectorAll('h1, .wb-a, .wb-foot')].map((n) => getComputedStyle(n).color)"
    dark = drawn.evaluate(ink)
    drawn.emulate_media(media="print")
    printed = drawn.evaluate(ink)
    drawn.evaluate("document.documentElement.dataset.theme = 'light'")
    assert printed == drawn.evaluate(ink) != dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_table_that_goes_on_has_a_shadow_at_the_edge(drawn: Any, theme: str) -> None:
    drawn.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    wide, layers, attached = drawn.evaluate(EDGE)
    assert wide
    assert (layers, attached) == (4, "local, local, scroll, scroll")  # the covers move with the table, shadows stay
