"""What every view is made of: escaped text with visible marks, numbers, colour steps, and the frame around it."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

STATIC = Path(__file__).parent / "static"
LEVELS = 12
ORANGE, BLUE = "230,126,0", "31,111,220"
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


def alpha(level: int) -> float:
    """Opacity of a colour step, 0 for step 0; at most 0.62 so that text keeps a contrast of 4.5 in both themes."""
    step = min(abs(level), LEVELS)
    return round(0.04 + 0.58 * (step / LEVELS) ** 1.25, 2) if step else 0.0


def colour(level: int) -> str:
    """The rgba of a step: orange above zero, blue below."""
    return f"rgba({BLUE if level < 0 else ORANGE},{alpha(level):.2f})"


@dataclass(frozen=True)
class Scale:
    """Where a scorer's numbers lie: 0..1 where all do, -m..m where some are negative, else min..max.

    Where nearly all of them fill a tenth of an unsigned scale, a proportional one would show nothing: colour then goes
    by rank, and the legend says so.
    """

    low: float
    high: float
    flat: bool = False
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, scores: np.ndarray) -> Scale | None:
        """The scale of finite `scores`; None where there are none."""
        if not len(scores):
            return None
        least, most = float(scores.min()), float(scores.max())
        low, high = least, most
        if low < 0:
            low, high = -max(-low, high), max(-low, high)
        elif high <= 1:
            low, high = 0.0, 1.0
        marks = np.quantile(scores, np.linspace(0, 1, 101))
        if low >= 0 and marks[90] - marks[10] < 0.1 * (high - low) and len(np.unique(scores)) > 2:
            return cls(least, most, False, tuple(marks))
        return cls(low, high, least == most)

    @property
    def signed(self) -> bool:
        """Whether zero is in the middle and two hues are used."""
        return self.low < 0

    def place(self, score: float) -> float:
        """Strength of colour, 0..1, or -1..1 where two hues are used."""
        if self.quantiles:
            places = [np.searchsorted(self.quantiles, score, side=side) for side in ("left", "right")]
            return float(np.clip(np.mean(places) / 100, 0, 1))
        if self.signed:
            return score / self.high
        return (score - self.low) / ((self.high - self.low) or 1.0)

    def level(self, score: float) -> int:
        """Colour step of `score`, -LEVELS..LEVELS."""
        if self.flat or not math.isfinite(score):
            return 0
        return round(LEVELS * self.place(score))

    def legend(self, threshold: float | None = None, low: str = "", high: str = "") -> str:
        """The ramp as drawn, with its numbers (zero in the middle of two hues) and a tick at the threshold."""
        ends = [self.low, 0.0, self.high] if self.signed else [self.low, self.high]
        texts = [number(e, 0 if e == int(e) else 2) for e in ends]
        texts[0], texts[-1] = low + texts[0], texts[-1] + high
        parts = [texts[0]]
        for text, (left, right) in zip(texts[1:], pairwise([-1, 0, 1] if self.signed else [0, 1]), strict=True):
            ramp = ",".join(colour(round(LEVELS * (left + i / 6))) for i in range(7))
            at = math.nan if threshold is None else self.place(threshold) - left
            tick = f'<i style="left:{100 * at:.0f}%"></i>' if 0 <= at <= right - left else ""
            style = f"width:{120 // (len(ends) - 1)}px;background-image:linear-gradient(90deg,{ramp})"
            parts += [f'<span class="wb-grad" style="{style}">{tick}</span>', text]
        if self.quantiles:
            parts.append("(colour by rank)")
        return f'<span class="wb-leg">{" ".join(parts)}</span>'
