"""Colours by what they mean, the same in every chart; text and axes that read on white and on black.

A colour of a line or a bar has a contrast of at least 3 with white and with JupyterLab's black. No colour of text
reaches 4.5 with both, so `Chart` sends a style along that follows the page's theme; `GREY` is for where none arrives.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from workbench.view.html import BLUE, ORANGE, alpha, plain
from workbench.view.html import LEVELS as STEPS

GREY, FAINT, ABSENT, INK = "#797e86", "rgba(125,133,144,.28)", "rgba(125,133,144,.14)", "#1f2328"
CLEAR = "rgba(0,0,0,0)"
INKS = ("#d97700", "#3b82dd")  # what is to be forgotten, what is to be kept; above zero, below zero
GREEN, PURPLE, PINK, BROWN, OLIVE = "#2c9678", "#9467d6", "#d44f8e", "#a9682c", "#7f8a2c"
SETS = {"forget": INKS[0], "retain": INKS[1], "neighbours": GREEN, "general": GREY, "nonmembers": PINK}
RUNS = (PURPLE, GREEN, PINK, OLIVE, BROWN, "#4a8fa8", "#b0587f", "#6b7fd7")  # none of them stands for a set
MODELS = {"before": INKS[0], "run": PURPLE, "retain_only": INKS[1]}
PHASES = {
    "forget": INKS[0], "retain": INKS[1], "backward": "#7c6f9c", "optimizer": PURPLE, "scoring": PINK, "probes": GREEN,
    "recording": OLIVE, "startup": "#8c939c", "loading": "#767d87", "other": "#a3a9b0", "checkpoint": BROWN,
    "context": "#4a8fa8", "reference": "#b0587f", "scorer": "#6b7fd7", "the rest": "#b4b9bf",
}  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "triangle-down")
CUT = "axis does not begin at 0"
BELOW = {"y": 0, "yref": "container", "yanchor": "bottom"}  # a legend at the foot of a chart

# Opaque where cells hold numbers, so that dark ink reads on every step in both themes.
DIVERGING = [[0.0, "#6aa5ee"], [0.5, "#f1f3f5"], [1.0, "#f0983a"]]
RISING = [[0.0, "#f1f3f5"], [1.0, "#f0983a"]]
SIGNED = [[(i / STEPS + 1) / 2, f"rgba({BLUE if i < 0 else ORANGE},{alpha(i)})"] for i in range(-STEPS, STEPS + 1)]
ABOVE = [[i / STEPS, SIGNED[STEPS + i][1]] for i in range(STEPS + 1)]  # of what is never below zero


def colour_of(name: str, place: int, known: dict[str, str]) -> str:
    """The colour of a set or phase; one of another name has that of its place."""
    return known.get(name) or RUNS[place % len(RUNS)]


def template() -> go.layout.Template:
    """Transparent paper and plot, and grey text and grid that read on white and on black."""
    axis = {"gridcolor": FAINT, "linecolor": FAINT, "zerolinecolor": FAINT, "automargin": True, "ticks": "",
            "exponentformat": "SI", "title": {"standoff": 10}, "ticklabelstandoff": 6}  # fmt: skip
    return go.layout.Template(
        layout={
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": {"color": GREY, "size": 12, "family": "system-ui, 'DejaVu Sans', sans-serif"},
            "colorway": [*INKS, *RUNS],
            "title": {
                "font": {"size": 14},
                "x": 0.01,
                "xanchor": "left",
                "yref": "container",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 12},
            },
            "margin": {"l": 8, "r": 16, "t": 64, "b": 8},
            "hoverlabel": {"bgcolor": "#2d333b", "bordercolor": GREY, "font": {"color": "#f0f3f6", "size": 12}},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": axis,
            "yaxis": axis,
        },
        data={"scatter": [go.Scatter(cliponaxis=False)]},  # a marker at 0 is whole
    )


def safe(text: str) -> str:
    """`text` as a plotly label: escaped, invisible characters as marks, and no formula between dollar signs."""
    return str(plain(text)).replace("$", "&#36;")


def heading(*texts: str, wide: int = 74) -> dict[str, Any]:
    """A chart's title, and the margin for it: escaped, in lines that fit a narrow page, since plotly breaks none."""
    lines = [safe(line) for text in texts for line in textwrap.wrap(text, wide)]
    more = len(lines) - 1  # plotly moves what has several lines up by half of them
    return {"title": {"text": "<br>".join(lines), "pad": {"t": 12 + 10 * more}}, "margin": {"t": 48 + 18 * more}}


def logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with numbers at 1, 2 and 5 of each power of ten.

    Only at the powers where these are many, and closer where fewer than three numbers would be seen.
    """
    known = [float(v) for v in values if v > 0 and math.isfinite(v)] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))

    def at(steps: Sequence[float]) -> list[float]:
        return [step * 10.0**power for power in range(low, high + 1) for step in steps]

    def seen(ticks: list[float]) -> int:
        return sum(min(known) <= tick <= max(known) for tick in ticks)

    steps = ((1,), (1, 2, 5), range(1, 10), (1.5, 2.5, *range(1, 10)), [n / 5 for n in range(5, 50)])
    closer = [at(sorted(each)) for each in steps][high - low <= 3 :]
    ticks = next((each for each in closer if seen(each) >= 3), closer[0])
    if seen(ticks) < 2 and min(known) < max(known):  # so near each other that no round numbers are between them
        ticks = [min(known), max(known)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def from_zero(values: Sequence[float], title: str) -> dict[str, Any]:
    """An axis that begins at 0; of values that differ by less than a third of their size, a cut one that says so."""
    known = [float(v) for v in values if v is not None and math.isfinite(v)] or [0.0]
    low, high = min(known), max(known)
    if low <= 0 or low == high or high - low > high / 3:
        return {"title": title, "rangemode": "tozero"}
    room = 0.08 * (high - low)
    return {"title": f"{title}<br>({CUT})", "range": [low - room, high + room]}
