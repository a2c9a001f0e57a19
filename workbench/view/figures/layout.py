"""Where everything of a text figure is: lines broken to a width, in points from the upper left corner."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from workbench.view.figures.text_figure import ACCENT, INK, LINE, MUTED, Colour, Key, Piece, Row, TextFigure

FAMILY = "DejaVu Sans"
BODY, SMALL, HEAD = 8.5, 7.2, 9.5  # sizes of letters, in points
MARGIN, LABEL = 3.0, 0.2  # points around the figure, and the share of its width for labels
LAST_RESORT = "Last Resort"  # a font that has a box for everything


class Word(NamedTuple):
    """Text at a place: x of its left, y of its base line, and whether a space parts it from the word before."""

    x: float
    y: float
    text: str
    size: float
    ink: Colour
    bold: bool
    spaced: bool


class Box(NamedTuple):
    """A filled rectangle: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour


class Rule(NamedTuple):
    """A horizontal line from x, `width` long; dotted or not."""

    x: float
    y: float
    width: float
    ink: Colour
    dotted: bool = False

    @property
    def thick(self) -> float:
        """How thick it is, in points."""
        return 0.5 if self.ink == LINE else 0.9


@dataclass
class Sheet:
    """A figure with everything in its place; `lines` are those of text, each its words as they are read."""

    width: float
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    lines: list[list[Word]] = field(default_factory=list)


@cache
def _fonts() -> list[tuple[str, str]]:
    """(family, file) of the fonts of this machine that can be drawn as outlines, the named one first."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    upright = [e for e in fontManager.ttflist if e.style == "normal" and not e.name.startswith(LAST_RESORT)]
    entries = {e.name: e.fname for e in upright}
    names = sorted(entries, key=lambda name: (not name.startswith("DejaVu"), not name.startswith("Noto"), name))
    return [(FAMILY, findfont(FontProperties(family=FAMILY))), *((n, entries[n]) for n in names if n != FAMILY)]


@cache
def _font_of(character: str) -> tuple[str, str] | None:
    """The first of these fonts that has a character; None where none has."""
    from matplotlib.font_manager import get_font

    for family, file in _fonts():
        try:
            font = get_font(file)
        except (OSError, RuntimeError):  # such as a font of coloured bitmaps
            continue
        if font.scalable and font.get_char_index(ord(character)):
            return family, file
    return None


@cache
def _advance(character: str, bold: bool) -> float:
    """How wide a character is, in sizes of its letters."""
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.ft2font import LoadFlags

    if entry := _font_of(character):
        font = get_font(findfont(FontProperties(family=entry[0], weight="bold")) if bold else entry[1])
        font.set_size(100, 72)
        return float(font.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance) / 65536 / 100
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0.0
    return 1.0 if unicodedata.east_asian_width(character) in "WF" else 0.6


def width_of(text: str, size: float, bold: bool = False) -> float:
    """The width of a text, in points."""
    return size * sum(_advance(character, bold) for character in text)


def families(text: str) -> list[str]:
    """The font families for a text, the named one first."""
    return list(dict.fromkeys([FAMILY, *(entry[0] for c in text if (entry := _font_of(c)))]))


def having(text: str) -> str:
    """The text with `[U+4E00]` for each character that no font has."""
    return text if text.isascii() else "".join(c if _font_of(c) else f"[U+{ord(c):04X}]" for c in text)


def sheet(figure: TextFigure, width: float) -> Sheet:
    """Put a figure on a sheet `width` points wide."""
    out, y = Sheet(width), MARGIN
    if figure.title:
        y = _paragraph(out, [Piece(figure.title, bold=True)], MARGIN, width - MARGIN, y, HEAD) + 2
    labels = [width_of(row.label, SMALL) for row in figure.rows if row.label]
    left = MARGIN + (min(max(labels) + 6, LABEL * width) if labels else 0)
    for row in figure.rows:
        if row.ruled:
            out.rules.append(Rule(MARGIN, y + 3, width - 2 * MARGIN, LINE))
            y += 6
        y = _row(out, row, left, y)
    if figure.keys or figure.notes:
        out.rules.append(Rule(MARGIN, y + 3, width - 2 * MARGIN, LINE))
        y = _keys(out, figure.keys, y + 6)
        for note in figure.notes:
            y = _paragraph(out, [Piece(note, ink=MUTED)], MARGIN, width - MARGIN, y, SMALL)
    out.height = y + MARGIN
    return out


def _row(out: Sheet, row: Row, left: float, y: float) -> float:
    """Draw a row with its label; returns where the next begins."""
    size = SMALL if row.small else BODY
    end = _paragraph(out, row.pieces, left if row.label else MARGIN, out.width - MARGIN, y, size)
    if row.label:
        start = y + 1.12 * (size - SMALL)  # on one base line
        end = max(end, _paragraph(out, [Piece(row.label, ink=MUTED)], MARGIN, left - 4, start, SMALL))
    return end


def _leading(size: float) -> float:
    return 1.62 * size if size >= BODY else 1.4 * size


def _paragraph(out: Sheet, pieces: Sequence[Piece], left: float, right: float, y: float, size: float) -> float:
    """Draw pieces in lines between `left` and `right`; from the right where the text is written so."""
    mirrored, gap, joins = _right_to_left(pieces), width_of(" ", size), False
    for line in _lines(pieces, right - left, size):
        base, words, done = y + 1.12 * size, list[Word](), 0.0
        for at, piece in line:
            wide = width_of(piece.text, size, piece.bold)
            x = right - at - wide if mirrored else left + at
            if piece.fill:
                out.boxes.append(Box(x, base - 0.98 * size, wide, 1.28 * size, piece.fill))
            if piece.under:
                out.rules.append(Rule(x, base + 0.24 * size, wide, piece.under))
            if piece.over:
                out.rules.append(Rule(x, base - 0.98 * size, wide, MUTED, dotted=True))
            if piece.struck:
                out.rules.append(Rule(x, base - 0.3 * size, wide, piece.ink))
            word = Word(x, base, piece.text, size, piece.ink, piece.bold, at > done + 0.01)
            bare = not (mirrored or piece.fill or piece.under or piece.over or piece.struck)
            if words and joins and bare and words[-1][3:6] == word[3:6] and at - done < 1.5 * gap:
                words[-1] = words[-1]._replace(text=f"{words[-1].text}{' ' * word.spaced}{word.text}")
            else:
                words.append(word)
            done, joins = at + wide, bare
        out.lines.append(words)
        y += _leading(size)
    return y


def _right_to_left(pieces: Sequence[Piece]) -> bool:
    kinds = (unicodedata.bidirectional(c) for piece in pieces for c in piece.text)
    return next((kind in ("R", "AL") for kind in kinds if kind in ("L", "R", "AL")), False)


def _lines(pieces: Sequence[Piece], width: float, size: float) -> Iterator[list[tuple[float, Piece]]]:
    """Lines of (place, piece without spaces); a word that is wider than a line is broken anywhere."""
    line: list[tuple[float, Piece]] = []
    at, gap = 0.0, width_of(" ", size)
    for spaces, word in _words(pieces):
        wide = sum(width_of(p.text, size, p.bold) for p in word)
        before = spaces * gap if line else 0.0
        if line and at + before + wide > width:
            yield line
            line, at, before = [], 0.0, 0.0
        at += before
        for piece in _fitting(word, width, size) if wide > width else word:
            own = width_of(piece.text, size, piece.bold)
            if line and at + own > width + 0.01:
                yield line
                line, at = [], 0.0
            line.append((at, piece))
            at += own
    if line:
        yield line


def _words(pieces: Sequence[Piece]) -> Iterator[tuple[int, list[Piece]]]:
    """(spaces before it, the pieces of a word): what no space parts belongs together."""
    spaces, word = 0, list[Piece]()
    for piece in pieces:
        for text in re.findall(r"\s+|\S+", piece.text):
            if not text.isspace():
                word.append(piece._replace(text=text))
                continue
            if word:
                yield spaces, word
                spaces, word = 0, []
            spaces += len(text)
    if word:
        yield spaces, word


def _fitting(word: Sequence[Piece], width: float, size: float) -> Iterator[Piece]:
    """The pieces of a word that is too wide, cut where a line is full."""
    for piece in word:
        text, wide = "", 0.0
        for character in piece.text:
            own = width_of(character, size, piece.bold)
            if text and wide + own > width / 4:
                yield piece._replace(text=text)
                text, wide = "", 0.0
            text, wide = text + character, wide + own
        yield piece._replace(text=text)


def _keys(out: Sheet, keys: Sequence[Key], y: float) -> float:
    """Draw the legends one beside the other, as many a line as fit."""
    x, step, gap = MARGIN, 4.6, 4.0
    line: list[Word] = []
    for key in keys:
        texts = [(key.name, INK, True), (key.low, MUTED, False), (key.high or key.note, MUTED, False)]
        sizes = [width_of(text, SMALL, bold) for text, _, bold in texts]
        ramp = step * len(key.ramp) * (0.5 if len(key.ramp) > 13 else 1)
        if line and x + sum(sizes) + ramp + 3 * gap > out.width - MARGIN:
            out.lines.append(line)
            x, y, line = MARGIN, y + _leading(SMALL) + 1, []
        base = y + 1.12 * SMALL
        for place, ((text, ink, bold), wide) in enumerate(zip(texts, sizes, strict=True)):
            if place == 2 and key.ramp:
                each = ramp / len(key.ramp)
                out.boxes += [Box(x + i * each, base - 5.6, each, 6, fill) for i, fill in enumerate(key.ramp)]
                if key.tick is not None:
                    out.boxes.append(Box(x + key.tick * ramp - 0.5, base - 7, 1, 8.6, ACCENT))
                x += ramp + gap
            if text:
                line.append(Word(x, base, text, SMALL, ink, bold, bool(line)))
                x += wide + gap
        x += 2 * gap
    if line:
        out.lines.append(line)
        y += _leading(SMALL) + 1
    return y
