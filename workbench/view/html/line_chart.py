"""A line chart as SVG, readable in both themes and without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from workbench.view.html.render import render
from workbench.view.html.text import number

INKS, DASHES = ("#b85200", "#1a66c9", "#1f7a62", "#6e7781"), ("", "7 4", "2 3", "9 3 2 3")
LETTER, BOLD = 8, 9.5  # units that a character of a label takes where its letters are largest, on a narrow page
SETS = ("forget", "retain", "neighbours", "general")  # each has its own look, whatever stands beside it


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that reach from `low` to `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    start = math.floor(low / step + 1e-9)
    stop = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(start, max(stop, start + 1) + 1)]


def placing(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values to places of a drawing: `low` stands at `start`, and `high` at `end`."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def line_chart_svg(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str | None = None,
    x_label: str = "step",
    y_label: str = "",
    width: int = 848,
    height: int = 250,
    css: bool = True,
) -> Markup:
    """A line chart as inline SVG: numbers on both axes, each line named at its end, dashes as well as colours.

    `series` is name -> points (x, y), of which those that are not finite are left out. `width` and `height` are in
    units of the drawing, which scales with the page; `title` is also its accessible name.
    """
    lines = {n: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for n, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return render("chart.empty", title=title, css=css)
    xs, ys = zip(*(point for points in lines.values() for point in points), strict=True)
    y_ticks = ticks(min(0.0, *ys), max(ys))
    x_ticks = [x for x in ticks(min(xs), max(xs), 7) if min(xs) <= x <= max(xs)]
    if all(float(x).is_integer() for x in xs):  # there is no half step
        x_ticks = [x for x in x_ticks if float(x).is_integer()]
    y_texts = [f"{y:g}" for y in y_ticks]
    last = {name: points[-1][1] for name, points in lines.items()}
    longest = max(len(f"{name} {number(value)}") for name, value in last.items())
    left, right = max(44, 16 + LETTER * max(map(len, y_texts))), max(150, round(12 + BOLD * longest))
    top, bottom = 27, 42

    across = placing(min(xs), max(xs), left, width - right)
    up = placing(y_ticks[0], y_ticks[-1], height - bottom, top)
    drawn = {name: [(across(x), up(y)) for x, y in points] for name, points in lines.items()}
    return render(
        "chart.lines",
        size={"width": width, "height": height, "left": left, "right": width - right},
        x_ticks=[(across(x), f"{x:g}") for x in x_ticks],
        y_ticks=[(up(y), text) for y, text in zip(y_ticks, y_texts, strict=True)],
        labels={"x": x_label, "y": y_label, "name": title or y_label or "line chart"},
        about="; ".join(f"{n}: {number(p[0][1])} to {number(p[-1][1])}" for n, p in lines.items()),
        lines=[
            {"place": i, "ink": INKS[i], "dashes": DASHES[i], "path": "L".join(f"{x:.1f} {y:.1f}" for x, y in points)}
            for i, points in zip(_looks(drawn), drawn.values(), strict=True)
        ],
        ends=_ends(drawn, last),
        title=title,
        css=css,
    )


def _looks(names: Iterable[str]) -> list[int]:
    """Which colour and dashes each line has: its own if it is of a set, else by its place."""
    return [SETS.index(name) if name in SETS else place % 4 for place, name in enumerate(names)]


def _ends(drawn: Mapping[str, Sequence[tuple[float, float]]], last: Mapping[str, float]) -> list[dict[str, Any]]:
    """The name and last value at the end of each line, from the top down and 17 units apart."""
    looks = _looks(drawn)
    ends = sorted(
        (points[-1][1], points[-1][0], i, name) for i, (name, points) in zip(looks, drawn.items(), strict=True)
    )
    out: list[dict[str, Any]] = []
    lowest = -math.inf
    for end, x, i, name in ends:
        lowest = max(end, lowest + 17)
        text = f"{name} {number(last[name])}"
        out.append({"place": i, "ink": INKS[i], "x": x + 8, "y": lowest + 4, "text": text})
    return out
