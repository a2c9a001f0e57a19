"""Text and numbers for people: escaped, with marks for what would not show, and short enough to read."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from workbench.errors import is_missing

NOT_AVAILABLE = "not available"


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
    """Each character with its mark; a joiner inside an emoji or a non-Latin word keeps its effect."""
    for before, c, after in zip(" " + text, text, text[1:] + " ", strict=False):
        joins = c in "\u200c\u200d" and before > "\x7f" and after > "\x7f"
        yield c, None if joins else _mark(c)


def marked(text: str) -> str:
    """`text` with control, zero-width and direction characters as visible marks; not yet escaped."""
    return text if text.isprintable() else "".join(mark or c for c, mark in _marked(text))


def plain(text: str) -> Markup:
    """`text` escaped, with marks: for an attribute, or where a mark needs no style of its own."""
    return escape(marked(text))


def visible(text: str) -> Markup:
    """`text` as HTML, each invisible character as a small mark; the text stays one flow."""
    if text.isprintable():
        return escape(text)
    return Markup("".join(escape(c) if m is None else f'<i class="wb-x">{m}</i>' for c, m in _marked(text)))


def parts(text: str) -> str | list[str]:
    """`text` for a script that draws it: as it is, or text and marks alternating where characters are invisible."""
    if text.isprintable():
        return text
    out = [""]
    for c, mark in _marked(text):
        if mark is None:
            out[-1] += c
        else:
            out += [mark, ""]
    return out


def plain_text(parts: str | list[str]) -> str:
    """What `parts` made, as one text with its marks."""
    return parts if isinstance(parts, str) else "".join(parts)


def shortened(text: str, limit: int = 72) -> str:
    """At most `limit` characters, cut after a word where there is one, with an ellipsis for the rest."""
    if len(text) <= limit:
        return text
    return (text[: limit - 1].rsplit(" ", 1)[0] or text[: limit - 1]) + "…"


def label(name: str) -> str:
    """A column or metric name for people."""
    return str(name).replace("_", " ")


def wrapping(name: Any) -> Markup:
    """A scorer's name that may wrap after an underscore."""
    return Markup("_<wbr>").join(marked(str(name)).split("_"))


def weights_source(weights: str) -> str:
    """What gives a run's token weights: a file, or a scorer, which may have the same name as an objective."""
    return f"{'file' if weights.endswith(('.parquet', '.safetensors')) else 'scorer'} {Path(weights).name}"


# Numbers ------------------------------------------------------------------------------------------------------------


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


def alternatives(text: Any) -> list[tuple[str, float]]:
    """The most probable tokens and their probabilities, out of the column `alternatives` of a token table."""
    return [(str(token), float(p)) for token, p in json.loads(text)] if isinstance(text, str) and text else []


def quoted(pairs: Iterable[tuple[str, float]]) -> str:
    """Tokens and their probabilities in a line; not yet escaped."""
    return " ".join(f"“{token}” {number(p)}" for token, p in pairs)


def large(value: float | None, unit: str = "") -> str:
    """A large count with a metric prefix: 3.1 T."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def value_of(entry: Any) -> tuple[float | None, str]:
    """(value, "") of a metric as stored, or (None, reason) where the value is missing or not finite."""
    if is_missing(entry):
        return None, str(entry["reason"])
    if entry is None or not math.isfinite(entry):
        return None, "no finite value"
    return float(entry), ""
