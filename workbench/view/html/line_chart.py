"""A line chart as an SVG string, readable in both themes and without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from workbench.view.html.markup import NOT_AVAILABLE, frame, number, plain


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that reach from `low` to `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    start = math.floor(low / step + 1e-9)
    stop = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(start, max(stop, start + 1) + 1)]


def line_chart_svg(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str | None = None,
    x_label: str = "step",
    y_label: str = "",
    width: int = 848,
    height: int = 250,
    css: bool = True,
) -> str:
    """A line chart as inline SVG: numbers on both axes, each line named at its end, dashes as well as colours.

    Args:
        series: name -> points (x, y); points that are not finite are left out.
        title: a heading, and the chart's accessible name.
        x_label: below the x axis.
        y_label: above the y axis.
        width: of the drawing, in its own units; it scales with the page.
        height: likewise.
        css: bring the style sheet along.
    """
    lines = {n: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for n, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return frame(
            f'<div class="wb-bar"><span class="wb-none">{NOT_AVAILABLE}: no points</span></div>', title=title, css=css
        )
    every = [point for points in lines.values() for point in points]
    xs = ticks(min(x for x, _ in every), max(x for x, _ in every), 7)
    xs = [x for x in xs if x <= max(x for x, _ in every)]
    ys = ticks(min(0.0, *(y for _, y in every)), max(y for _, y in every))
    left, right, top, bottom = 44, 150, 24, 38
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = [f'<text x="0" y="12" fill="#6e7781">{plain(y_label)}</text>']
    for y in ys:
        _, py = at(x_low, y)
        parts.append(f'<path class="wb-grid" stroke="#8c959f" stroke-width=".6" d="M{left} {py:.1f}H{width - right}"/>')
        parts.append(f'<text x="{left - 8}" y="{py + 4:.1f}" text-anchor="end" fill="#6e7781">{y:g}</text>')
    for x in xs:
        if x >= x_low:
            parts.append(
                f'<text x="{at(x, 0)[0]:.1f}" y="{height - 18}" text-anchor="middle" fill="#6e7781">{x:g}</text>'
            )
    parts.append(f'<text x="{width - right}" y="{height - 3}" text-anchor="end" fill="#6e7781">{plain(x_label)}</text>')
    parts += _lines(lines, at)
    said = "; ".join(f"{n}: {number(p[0][1])} to {number(p[-1][1])}" for n, p in lines.items())
    name = plain(title or y_label or "line chart")
    svg = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}. {plain(said)}">'
        f"<title>{name}</title><desc>{plain(said)}</desc>{''.join(parts)}</svg>"
    )
    return frame(f'<div class="wb-chart">{svg}</div>', title=title, css=css)


def _lines(
    lines: Mapping[str, list[tuple[float, float]]], at: Callable[[float, float], tuple[float, float]]
) -> list[str]:
    """The lines, and their names at their ends, kept 15 units apart."""
    inks, dashes = ("#c85a00", "#1a66c9", "#6e7781", "#6e7781"), ("", "7 4", "2 3", "9 3 2 3")
    parts: list[str] = []
    ends: list[tuple[float, float, int, str]] = []
    for i, (name, points) in enumerate(lines.items()):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*p) for p in points))
        style = f'stroke="{inks[i % 4]}" stroke-dasharray="{dashes[i % 4]}"'
        parts.append(
            f'<path class="wb-l{i % 4}" fill="none" stroke-width="2.2" stroke-linejoin="round" {style} d="M{path}"/>'
        )
        x, y = at(*points[-1])
        ends.append((y, x, i, f"{plain(name)} {number(points[-1][1])}"))
    lowest = -math.inf
    for end, x, i, text in sorted(ends):
        lowest = y = max(end, lowest + 15)
        parts.append(f'<text class="wb-n{i % 4}" x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{inks[i % 4]}">{text}</text>')
    return parts
