"""How figures become files: formats, widths, and what has `save`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import UserError, printable
from workbench.files import writing

FORMATS = (".svg", ".pdf", ".png", ".tex")
DRAWN = FORMATS[:3]  # of a chart
UNITS = {"cm": 72 / 2.54, "mm": 7.2 / 2.54, "in": 72.0, "pt": 1.0}
WIDTHS = (2.0, 100.0)  # cm


def known_format(suffix: str, formats: Sequence[str] = FORMATS) -> str:
    """A figure's suffix in lower case, with its dot; UserError where it is none of `formats`."""
    suffix = f".{suffix.lstrip('.').lower()}"
    if suffix not in formats:
        raise UserError(f"a figure is saved as {', '.join(formats)}, not '{printable(suffix)}'")
    return suffix


def points_of(width: str | float) -> float:
    """A width in points of 1/72 inch; UserError where it is none, or not between 2 and 100 cm."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(cm|mm|in|pt)?\s*", str(width))
    if match is None:
        raise UserError(f"a width is a number with cm, mm, in or pt, such as 8cm, not '{printable(str(width))}'")
    points = float(match[1]) * UNITS[match[2] or "cm"]
    if not WIDTHS[0] <= points / UNITS["cm"] <= WIDTHS[1]:
        raise UserError(f"a figure is {WIDTHS[0]:g} to {WIDTHS[1]:g} cm wide, not {printable(str(width))}")
    return points


def check_format(suffix: str, width: str | float = "16cm", *, text: bool = True) -> None:
    """Raise UserError for a format or width that a figure (of text, or a chart) cannot have, before it is drawn."""
    known_format(suffix, FORMATS if text else DRAWN)
    points_of(width)


class Savable:
    """Mixed into what can be a figure: `save`."""

    def to_bytes(self, suffix: str, width: str | float = "16cm") -> bytes:
        """The content of a file; arguments and errors as of `save`."""
        raise NotImplementedError

    def save(self, path: str | Path, width: str | float = "16cm") -> Path:
        """Write what is shown as a figure for a paper: light, with text as text.

        Args:
            path: its name says as what: `.svg`, `.pdf`, `.png` (300 dots an inch) and, for text, `.tex`.
            width: such as "8cm", "80mm", "3.3in" or "240pt"; a number is centimetres.

        Raises:
            UserError: another format or width, or a file that cannot be written.
        """
        path = Path(path)
        content = self.to_bytes(path.suffix, width)
        with writing(path) as aside:
            aside.write_bytes(content)
        return path
