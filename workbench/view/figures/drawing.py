"""A sheet as PDF or PNG, drawn by matplotlib: fonts as outlines in their files, text as text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D

from workbench.view.figures.layout import FAMILY, Sheet, families
from workbench.view.figures.text_figure import DOTS, Colour

# Text stays text, in fonts that readers can search and copy; nothing in it is a formula.
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "workbench", "pdf.fonttype": 42, "text.usetex": False,
    "text.parse_math": False, "font.family": [FAMILY], "axes.unicode_minus": False,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """How figures are drawn, whatever matplotlib's own configuration says."""
    with rc_context():
        import matplotlib

        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def written(figure: Figure, suffix: str) -> bytes:
    """The file of a matplotlib figure; without the time at which it was made."""
    stream = io.BytesIO()
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    figure.savefig(stream, format=suffix.lstrip("."), dpi=DOTS, metadata=metadata)
    return stream.getvalue()


def _web(colour: Colour) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def drawn(sheet: Sheet, suffix: str) -> bytes:
    """The file of a sheet."""
    with style():
        figure = Figure((sheet.width / 72, sheet.height / 72), facecolor="white")
        place = Affine2D().scale(1, -1).translate(0, sheet.height).scale(1 / 72) + figure.dpi_scale_trans
        for box in sheet.boxes:
            size = {"width": box.width, "height": box.height, "facecolor": _web(box.fill), "linewidth": 0}
            figure.add_artist(Rectangle((box.x, box.y), **size, transform=place))
        for rule in sheet.rules:
            dots = (0, (0.9, 1.1)) if rule.dotted else "-"
            look = {"color": _web(rule.ink), "linewidth": rule.thick, "linestyle": dots, "solid_capstyle": "butt"}
            figure.add_artist(Line2D([rule.x, rule.x + rule.width], [rule.y] * 2, **look, transform=place))
        for word in (word for line in sheet.lines for word in line):
            look = {"fontsize": word.size, "color": _web(word.ink), "fontweight": "bold" if word.bold else "normal"}
            font = {"family": families(word.text), "va": "baseline", "parse_math": False}
            figure.add_artist(Text(word.x, word.y, word.text, **look, **font, transform=place))
        return written(figure, suffix)
