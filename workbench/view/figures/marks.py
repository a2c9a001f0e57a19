"""The marks of plotly's traces, drawn by matplotlib: lines, points, bars, boxes and tiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.patches import Patch

from workbench.errors import UserError

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "cross": "P", "star": "*",
    "pentagon": "p",
}  # fmt: skip
POINTS = 0.62  # of a pixel on the page
SIDES: dict[str, dict[str, Any]] = {
    "top": {"xytext": (0, 5), "ha": "center"},
    "bottom": {"xytext": (0, -5), "ha": "center", "va": "top"},
}
BESIDE = 120  # points that labels and legend take beside tiles
BAR = 0.7  # of a place, that its bars take
Places = Mapping[str, int]


def colour(text: Any) -> tuple[float, float, float, float]:
    """A web colour; grey where there is none."""
    match = re.fullmatch(r"rgba?\(([^)]*)\)", str(text or "").strip())
    if match is None:
        return to_rgba(str(text or "#7d8590"))
    red, green, blue, *share = (float(part) for part in match[1].split(","))
    return red / 255, green / 255, blue / 255, share[0] if share else 1.0


def draw(axes: Axes, traces: Sequence[Any], across: Places, up: Places, stacked: bool) -> None:
    """Draw traces, with names at the places `across` and `up`; UserError for a kind that no chart of ours has."""
    ends: dict[float, float] = {}  # of the bars so far, where they are stacked
    beside = [trace for trace in traces if trace.type == "bar"] if not stacked else []
    for trace in traces:
        if trace.type not in KINDS:
            raise UserError(
                f"a chart of kind {trace.type} cannot be saved; see workbench.view.charts for those that can"
            )
        if trace.type == "bar":
            slot = (beside.index(trace), len(beside)) if beside else (0, 1)
            _bars(axes, trace, across, up, ends if stacked else None, slot)
        else:
            KINDS[trace.type](axes, trace, across, up)


def _at(values: Any, places: Places) -> np.ndarray:
    return np.array(
        [places[v] if isinstance(v, str) else np.nan if v is None else float(v) for v in values], dtype=float
    )


def _scatter(axes: Axes, trace: Any, across: Places, up: Places) -> None:
    x, y = _at(trace.x, across), _at(trace.y, up)
    mode = trace.mode or ("lines+markers" if len(x) < 20 else "lines")  # as plotly has it
    share = 1.0 if trace.opacity is None else trace.opacity
    if "lines" in mode:
        dash, width = DASHES.get(trace.line.dash or "solid", "-"), POINTS * (trace.line.width or 2)
        axes.plot(x, y, color=colour(trace.line.color), linestyle=dash, linewidth=width, alpha=share, zorder=2)
    marker = trace.marker
    if "markers" in mode:
        *ink, opaque = colour(marker.color or trace.line.color)
        sizes = np.broadcast_to(np.asarray(6 if marker.size is None else marker.size, dtype=float), x.shape)
        share *= 1.0 if marker.opacity is None else marker.opacity
        axes.scatter(
            x[sizes > 0], y[sizes > 0], (POINTS * sizes[sizes > 0]) ** 2, zorder=3, clip_on=False,
            marker=MARKERS.get(str(marker.symbol or "circle"), "o"), facecolors=[(*ink, share * opaque)],
            edgecolors=[(*ink, share) if opaque else colour(marker.line.color)],
        )  # fmt: skip
    bars = [_error(bar) for bar in (trace.error_x, trace.error_y)]
    if any(bar is not None for bar in bars):
        axes.errorbar(x, y, bars[1], bars[0], fmt="none", ecolor=colour(marker.color), capsize=2, linewidth=0.9)
    if "text" in mode:
        side = str(trace.textposition or "").partition(" ")[0]
        beside = SIDES.get(side, {"xytext": (6, 0), "va": "center"})
        for a, b, text in zip(x, y, trace.text, strict=True):
            axes.annotate(str(text), (a, b), textcoords="offset points", annotation_clip=False, **beside)


def _error(bar: Any) -> np.ndarray | None:
    below = bar.array if bar.arrayminus is None else bar.arrayminus
    return None if bar.array is None else np.array([below, bar.array], dtype=float)


def _bars(
    axes: Axes, trace: Any, across: Places, up: Places, ends: dict[float, float] | None, slot: tuple[int, int]
) -> None:
    """Bars to the right, or upwards; `slot` says which of how many stand beside each other at a place."""
    lies = trace.orientation == "h"
    lengths, places = (_at(trace.x, across), _at(trace.y, up)) if lies else (_at(trace.y, up), _at(trace.x, across))
    which, many = slot
    places = places + (which - (many - 1) / 2) * BAR / many
    starts = (
        np.zeros(len(lengths)) if trace.base is None else np.broadcast_to(np.asarray(trace.base, float), lengths.shape)
    )
    if ends is not None:
        starts = np.array([ends.get(place, 0.0) for place in places])
        ends.update(zip(places, starts + lengths, strict=True))
    look, line = {"color": colour(trace.marker.color), "alpha": trace.marker.opacity}, trace.marker.line
    if line.width:
        look |= {"edgecolor": colour(line.color), "linewidth": POINTS * line.width}
    if lies:
        axes.barh(places, lengths, left=starts, height=BAR / many, **look)
    else:
        axes.bar(places, lengths, bottom=starts, width=BAR / many, **look)
    if trace.textposition == "outside":
        for start, length, place, text in zip(starts, lengths, places, trace.text, strict=True):
            axes.annotate(str(text), (start + length, place), (3, 0), textcoords="offset points", va="center")


def _tiles(axes: Axes, trace: Any, across: Places, up: Places) -> None:
    values = np.array([[np.nan if v is None else float(v) for v in row] for row in trace.z])
    shades = [(place, colour(text)) for place, text in trace.colorscale]
    stops = [(p, tuple(1 + (c - 1) * shade[3] for c in shade[:3])) for p, shade in shades]  # over white
    look = {"cmap": LinearSegmentedColormap.from_list("tiles", stops), "vmin": trace.zmin, "vmax": trace.zmax}
    edges = [np.arange(count + 1) - 0.5 for count in values.shape[::-1]]
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(values), edgecolors="white", linewidth=1, **look)
    if trace.text is not None:
        size = _fitting(axes, trace.text, values.shape[1])
        for i, row in enumerate(trace.text):
            for j, text in enumerate(row):
                if np.isfinite(values[i, j]):
                    look = {"weight": "bold" if str(text).startswith("<b>") else "normal", "fontsize": size}
                    axes.text(j, i, re.sub("<[^<>]*>", "", str(text)), ha="center", va="center", **look)
    if trace.showscale is not False:
        bar = axes.figure.colorbar(mesh, ax=axes, ticks=trace.colorbar.tickvals, aspect=30)
        if trace.colorbar.ticktext is not None:
            bar.ax.set_yticklabels(trace.colorbar.ticktext)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)


def _fitting(axes: Axes, texts: Sequence[Sequence[Any]], columns: int) -> float:
    """A size of letters at which the longest text of so many tiles fits into one."""
    spec, wide = axes.get_subplotspec(), 72 * axes.figure.get_figwidth() - BESIDE
    ratios = spec.get_gridspec().get_width_ratios() if spec else [1]
    own = ratios[spec.colspan.start] / sum(ratios) if spec else 1.0
    longest = max((len(re.sub("<[^<>]*>", "", str(text))) for row in texts for text in row), default=1)
    return float(np.clip(wide * own / columns / (0.7 * max(longest, 1)), 3.0, 6.5))


def _box(axes: Axes, trace: Any, across: Places, up: Places) -> None:
    if not len(trace.median):
        return
    names = {"whislo": "lowerfence", "q1": "q1", "med": "median", "q3": "q3", "whishi": "upperfence"}
    stats: dict[str, Any] = {name: float(trace[key][0]) for name, key in names.items()} | {"fliers": []}
    line = {"color": colour(trace.line.color), "linewidth": 0.9}
    looks = {f"{part}props": line for part in ("whisker", "cap", "median")}
    fill = line | {"facecolor": (*colour(trace.line.color)[:3], 0.35)}
    made = axes.bxp(
        [stats], positions=_at(trace.y, up), widths=trace.width or 0.6, orientation="horizontal", manage_ticks=False,
        showfliers=False, patch_artist=True, boxprops={}, **looks,
    )  # fmt: skip
    for patch in made["boxes"]:
        assert isinstance(patch, Patch)
        patch.set(edgecolor=fill["color"], facecolor=fill["facecolor"], linewidth=0.9)


KINDS: dict[str, Callable[..., None]] = {"scatter": _scatter, "bar": _bars, "heatmap": _tiles, "box": _box}
