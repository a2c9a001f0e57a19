"""A figure of coloured text: its rows of pieces, its legends, and how it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench.view.figures.saving import Savable, known_format, points_of
from workbench.view.html import BLUE, LEVELS, ORANGE, Scale, alpha, number

Colour = tuple[int, int, int]
INK, MUTED, LINE, ACCENT, DEEP = (31, 35, 40), (89, 99, 110), (208, 215, 222), (200, 90, 0), (26, 102, 201)
ABSENT = (232, 232, 232)  # the ground of a token without a score
DOTS = 300  # an inch, of PNG


class Piece(NamedTuple):
    """A stretch of text that looks alike: a token, or what is between two.

    Attributes:
        text: without invisible characters, which are marks by now.
        fill: its ground.
        under: a line below: selected by the threshold, or new.
        over: a dotted line above: in a labelled span.
        struck: a line through it: gone.
        ink: of the letters.
        bold: heavier letters.
    """

    text: str
    fill: Colour | None = None
    under: Colour | None = None
    over: bool = False
    struck: bool = False
    ink: Colour = INK
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """A paragraph.

    Attributes:
        pieces: its text.
        label: to the left of it, such as a scorer's name.
        small: in smaller letters, as questions are.
        ruled: whether a line parts it from the row above.
    """

    pieces: Sequence[Piece]
    label: str = ""
    small: bool = False
    ruled: bool = False


class Key(NamedTuple):
    """A legend: a name, and its ramp of colours between numbers, with a tick at the threshold (0..1)."""

    name: str
    low: str = ""
    ramp: Sequence[Colour] = ()
    high: str = ""
    tick: float | None = None
    note: str = ""


@dataclass(frozen=True)
class TextFigure(Savable):
    """Coloured text, drawn on white.

    Attributes:
        rows: questions, answers, or what else there is to read.
        keys: the legends below.
        notes: what the marks mean, in a line each.
        title: a heading.
    """

    rows: Sequence[Row]
    keys: Sequence[Key] = ()
    notes: Sequence[str] = ()
    title: str = ""

    def to_bytes(self, suffix: str, width: str | float = "16cm") -> bytes:
        """The content of a file: ".svg", ".pdf", ".png", or ".tex", to compile alone or for input in a document."""
        suffix, points = known_format(suffix), points_of(width)
        if suffix == ".tex":
            from workbench.view.figures.latex import latex

            return latex(self, points).encode()
        from workbench.view.figures.layout import sheet

        if suffix == ".svg":
            from workbench.view.figures.svg import svg

            return svg(sheet(self, points), self.title or "highlighted text").encode()
        from workbench.view.figures.drawing import drawn

        return drawn(sheet(self.drawable(), points), suffix)

    def drawable(self) -> TextFigure:
        """The same with `[U+4E00]` in place of what no font of this machine has."""
        from workbench.view.figures.layout import having

        rows = [replace(r, pieces=[p._replace(text=having(p.text)) for p in r.pieces]) for r in self.rows]
        rows = [replace(row, label=having(row.label)) for row in rows]
        keys = [key._replace(name=having(key.name)) for key in self.keys]
        return replace(self, rows=rows, keys=keys, title=having(self.title))

    def _repr_svg_(self) -> str:
        return self.to_bytes(".svg").decode()


def on_white(level: int) -> Colour | None:
    """A colour step (-LEVELS..LEVELS) over white; None for step 0."""
    hue, share = (int(c) for c in (BLUE if level < 0 else ORANGE).split(",")), alpha(level)
    red, green, blue = (round(255 + (c - 255) * share) for c in hue)
    return (red, green, blue) if level else None


def scale_key(name: str, scale: Scale | None, threshold: float | None = None, low: str = "", high: str = "") -> Key:
    """The legend of a scale, with its numbers and a tick at the threshold."""
    if scale is None or scale.flat:
        return Key(name, note="scores not available" if scale is None else f"all scores are {number(scale.low)}")
    levels = range(-LEVELS if scale.signed else 0, LEVELS + 1)
    ends = [number(end, 0 if end == int(end) else 2) for end in scale.ends]
    by_words = "" if scale.by == "value" else f" (colour by {scale.by})"
    place = None if threshold is None else scale.place(threshold)
    if place is not None and scale.signed:
        place = (place + 1) / 2
    tick = place if place is not None and 0 <= place <= 1 else None
    return Key(
        name, low + ends[0], [on_white(level) or (255, 255, 255) for level in levels], ends[1] + high + by_words, tick
    )
