"""What every view is made of: escaped text with visible marks, numbers, colour steps, and the frame around it."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parents[1] / "static"
NOT_AVAILABLE = "not available"
Samples = Mapping[Any, tuple[str, str]]


def _mark(character: str) -> str | None:
    """A visible stand-in for a character that would not show, or would change how the others show."""
    code = ord(character)
    if character in "\n\t":
        return "↵" if character == "\n" else "⇥"
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)  # caret notation: escape is ^[
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"[U+{code:04X}]"
    return None


def _marked(text: str) -> Iterator[tuple[str, str | None]]:
    """Each character with its mark; a joiner inside an emoji or a non-Latin word is left to do its work."""
    for before, c, after in zip(" " + text, text, text[1:] + " ", strict=False):
        joins = c in "\u200c\u200d" and before > "\x7f" and after > "\x7f"
        yield c, None if joins else _mark(c)


def plain(text: str) -> str:
    """`text` for an attribute: control, zero-width and direction characters as visible marks, then escaped."""
    if not text.isprintable():
        text = "".join(mark or c for c, mark in _marked(text))
    return html.escape(text)


def visible(text: str) -> str:
    """`text` as HTML, each invisible character as a small mark; the text stays one flow."""
    if text.isprintable():
        return html.escape(text)
    return "".join(html.escape(c) if m is None else f'<i class="wb-x">{m}</i>' for c, m in _marked(text))


def parts(text: str) -> str | list[str]:
    """`text` for a script that draws it as text: itself, or text and marks by turns where there are invisible ones."""
    if text.isprintable():
        return text
    out = [""]
    for c, mark in _marked(text):
        if mark is None:
            out[-1] += c
        else:
            out += [mark, ""]
    return out


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: `digits` decimals, fewer for large ones, a real minus sign."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    value += 0.0  # minus zero is zero
    size = abs(value)
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.{digits}f}"
    if 0 < size < 10**-digits:
        text = f"{value:.1g}".replace("e-0", "e-")
    return text.replace("-", "−")  # noqa: RUF001


def shortened(text: str, limit: int = 72) -> str:
    """At most `limit` characters, an ellipsis for the rest, cut after a word where there is one."""
    if len(text) <= limit:
        return text
    return (text[: limit - 1].rsplit(" ", 1)[0] or text[: limit - 1]) + "…"


def wrapping(name: Any) -> str:
    """A scorer's name that may wrap after an underscore."""
    return plain(str(name)).replace("_", "_<wbr>")


def style_sheet(name: str = "view") -> str:
    """The style element of static/<name>.css."""
    return f"<style>{(STATIC / f'{name}.css').read_text(encoding='utf-8')}</style>"


def frame(body: str, *, title: str | None = None, tag: str = "div", attributes: str = "", css: bool = True) -> str:
    """`body` in the frame every view shares; with `css=False` the page around it brings the style sheet."""
    heading = f'<p class="wb-title">{plain(title)}</p>' if title else ""
    extra = f" {attributes}" if attributes else ""
    klass = "" if "class=" in attributes else ' class="wb"'
    return f"{style_sheet() if css else ''}<{tag}{klass}{extra}>{heading}{body}</{tag}>"


# Colour -------------------------------------------------------------------------------------------------------------
