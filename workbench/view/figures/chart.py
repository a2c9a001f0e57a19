"""A chart as SVG, PDF or PNG: a plotly figure drawn again by matplotlib, as plotly itself would need a browser for it.

Of plotly it knows what the charts of `workbench.view.charts` use; the marks of each trace are in `marks`.
"""

from __future__ import annotations

import html
import json
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbench.view.figures.drawing import style, written
from workbench.view.figures.layout import families, having
from workbench.view.figures.marks import DASHES, MARKERS, colour, draw
from workbench.view.figures.saving import DRAWN, known_format, points_of

PAGE = 760  # pixels that a chart is wide on a page; its height there is in relation to them
INK, GREY, FAINT = "#1f2328", "#59636e", "#d0d7de"
SIZES = {"font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7,
         "legend.fontsize": 7, "figure.titlesize": 9}  # fmt: skip


def chart_bytes(figure: go.Figure, suffix: str, width: str | float = "16cm") -> bytes:
    """The file of a chart.

    `suffix` is ".svg", ".pdf" or ".png", and `width` such as "8cm"; a number is centimetres.

    Raises:
        UserError: another format or width.
    """
    suffix, points = known_format(suffix, DRAWN), points_of(width)
    with style():
        import matplotlib

        matplotlib.rcParams.update(SIZES)
        matplotlib.rcParams["font.family"] = families("".join(map(plainly, letters_of(figure))))
        height = (figure.layout.height or 360) / PAGE * max(points, 340)
        drawn = Figure((points / 72, height / 72), facecolor="white", layout="constrained")
        for panel in _panels(figure, drawn):
            panel.draw(figure)
        if title := plainly(figure.layout.title.text or "", points, 8.5):
            drawn.suptitle(title, x=0.01, ha="left", color=INK)
        _legend(figure, drawn, points)
        _underline(drawn)
        return written(drawn, suffix)


def letters_of(figure: go.Figure) -> set[str]:
    """The characters of a figure's texts, of which plotly writes some by their numbers."""
    return set(json.dumps(json.loads(figure.to_json()), ensure_ascii=False))


def plainly(text: str, points: float = math.inf, size: float = 7.0) -> str:
    """A plotly label as text: without its tags, in at most two lines (or its own) that are so wide."""
    lines = [html.unescape(re.sub(r"<[^<>]*>", "", line)) for line in re.split(r"<br ?/?>", str(text))]
    if points < math.inf:
        most = max(8, int(points / (0.56 * size)))
        lines = [part for line in lines for part in textwrap.wrap(line, most, max_lines=2, placeholder=" …")]
    return "\n".join(map(having, lines))


@dataclass
class Panel:
    """The axes of one pair of plotly's."""

    axes: Axes
    x: Any
    y: Any
    names: tuple[str, str]

    def draw(self, figure: go.Figure) -> None:
        """All that is on these axes."""
        traces = [t for t in figure.data if ((t.xaxis or "x"), (t.yaxis or "y")) == self.names]
        across, up = (self._places(traces, name) for name in ("x", "y"))
        draw(self.axes, traces, across, up, figure.layout.barmode == "stack")
        for name, axis, order in (("x", self.x, across), ("y", self.y, up)):
            self._axis(name, axis, order)
        for shape in figure.layout.shapes:
            self._line(shape)
        for note in figure.layout.annotations:
            self._note(note)
        for side in ("top", "right", "left", "bottom"):
            self.axes.spines[side].set_visible(False)

    def _places(self, traces: Sequence[Any], name: str) -> dict[str, int]:
        """The place of each text on an axis of names."""
        order = getattr(self, name).categoryarray
        values = [*(order if order is not None else ())]
        values += [v for t in traces if getattr(t, name) is not None for v in getattr(t, name)]
        return {v: place for place, v in enumerate(dict.fromkeys(v for v in values if isinstance(v, str)))}

    def _axis(self, name: str, axis: Any, places: dict[str, int]) -> None:
        get = self.axes.xaxis if name == "x" else self.axes.yaxis
        wide, high = (72 * size for size in self.axes.figure.get_size_inches())
        limits = self.axes.set_xlim if name == "x" else self.axes.set_ylim
        get.set_tick_params(length=0, colors=GREY)
        self.axes.set_axisbelow(True)
        if axis.showgrid is not False and not places:
            self.axes.grid(axis=name, color=FAINT, linewidth=0.5)
        if axis.title.text:
            get.set_label_text(plainly(axis.title.text, wide if name == "x" else high), color=GREY)
        labels = axis.ticktext if axis.tickvals is not None else list(places)
        if labels is not None and (places or axis.tickvals is not None):
            ticks = list(axis.tickvals) if axis.tickvals is not None else list(places.values())
            room = 0.3 * wide if name == "y" else math.inf if axis.tickangle else 0.8 * wide / max(len(ticks), 1)
            get.set_ticks(ticks, [plainly(t, room) for t in labels])
            for label, text in zip(get.get_ticklabels(), labels, strict=False):
                label.set_gid("underlined" if str(text).startswith("<u>") else None)
                label.set_fontweight("bold" if str(text).startswith("<b>") else "normal")
        if axis.tickangle:
            get.set_tick_params(rotation=-axis.tickangle)
        if axis.type == "log":
            (self.axes.set_xscale if name == "x" else self.axes.set_yscale)("log")
            get.set_major_formatter(lambda value, _: f"{value:g}")  # its own are formulas
            get.set_minor_formatter(lambda value, _: "")
        if axis.range is not None:
            limits([10**end for end in axis.range] if axis.type == "log" else axis.range)
        elif axis.rangemode == "tozero" and axis.type != "log":
            low, high = self.axes.get_xlim() if name == "x" else self.axes.get_ylim()
            limits(min(low, 0.0) if low < 0 else 0.0, high)
        if axis.autorange == "reversed":
            get.set_inverted(True)

    def _line(self, shape: Any) -> None:
        """A straight line across, on these axes only."""
        own = (shape.xref or "x").split()[0], (shape.yref or "y").split()[0]
        if any(ref not in ("paper", name) for ref, name in zip(own, self.names, strict=True)):
            return
        look = {"color": colour(shape.line.color), "linewidth": 0.75 * (shape.line.width or 1)}
        look["linestyle"] = DASHES.get(shape.line.dash or "solid", "-")
        if shape.x0 == shape.x1:
            self.axes.axvline(shape.x0, **look)
        else:
            self.axes.axhline(shape.y0, **look)

    def _note(self, note: Any) -> None:
        """A text, or an arrow that joins two places."""
        if note.showarrow is not False:
            if (note.xref or "x", note.yref or "y") == self.names:
                arrow = {"arrowstyle": "-|>", "color": colour(note.arrowcolor), "lw": 1.2, "shrinkA": 5, "shrinkB": 6}
                self.axes.annotate("", (note.x, note.y), (note.ax, note.ay), arrowprops=arrow)
            return
        if note.xref != "paper":
            if (note.xref or "x", note.yref or "y") == self.names:
                self.axes.text(note.x, note.y, plainly(note.text), ha="center", va="center", color=GREY)
            return
        across, up = (axis.domain or (0.0, 1.0) for axis in (self.x, self.y))
        if across[0] <= note.x <= across[1] and up[0] - 0.02 <= note.y <= up[1] + 0.02:
            x = (note.x - across[0]) / (across[1] - across[0])
            align = "center" if 0.2 < x < 0.8 else "right"
            text = plainly(note.text)
            if across[1] - across[0] < 0.4 and self.axes.figure.get_figwidth() < 6:
                text = text.replace(" · ", "\n")  # a narrow panel's counts below each other
            self.axes.text(x, 1.02, text, ha=align, va="bottom", color=INK, transform=self.axes.transAxes)


def _panels(figure: go.Figure, drawn: Figure) -> Iterator[Panel]:
    """Axes in a grid as plotly's domains have them."""
    pairs = dict.fromkeys((t.xaxis or "x", t.yaxis or "y") for t in figure.data)
    layout = figure.layout
    axes = {pair: tuple(layout[f"{ref[0]}axis{ref[1:]}"] for ref in pair) for pair in pairs}
    columns = sorted({tuple(x.domain or (0, 1)) for x, _ in axes.values()})
    lines = sorted({tuple(y.domain or (0, 1)) for _, y in axes.values()}, reverse=True)
    grid = drawn.add_gridspec(len(lines), len(columns), width_ratios=[right - left for left, right in columns])
    first: dict[str, Axes] = {}
    for pair, (x, y) in axes.items():
        cell = grid[lines.index(tuple(y.domain or (0, 1))), columns.index(tuple(x.domain or (0, 1)))]
        matched = first.get(y.matches or pair[1])
        made = drawn.add_subplot(cell, sharey=matched)
        if matched is not None:
            made.tick_params(labelleft=False)
        first.setdefault(pair[1], made)
        yield Panel(made, x, y, pair)


def _legend(figure: go.Figure, drawn: Figure, points: float) -> None:
    """Names of the traces beside their marks; none where plotly shows none."""
    named = [t for t in figure.data if t.showlegend is not False and t.name and t.type not in ("heatmap",)]
    if len(named) < 2 and not (named and figure.layout.showlegend):
        return
    handles = []
    for trace in named:
        look = trace.line if getattr(trace, "line", None) and trace.line.color else trace.marker
        fill = trace.type == "bar"
        look_of: dict[str, Any] = {
            "color": colour(look.color),
            "linewidth": 6 if fill else 1.5,
            "label": plainly(trace.name),
        }
        if trace.type == "scatter":
            lines = "lines" in (trace.mode or "lines")
            look_of["linestyle"] = DASHES.get(trace.line.dash or "solid", "-") if lines else "none"
            if "markers" in (trace.mode or ""):
                look_of |= {"marker": MARKERS.get(str(trace.marker.symbol or "circle"), "o"), "markersize": 5}
        handles.append(Line2D([0], [0], **look_of))
    beside = figure.layout.legend.orientation == "v" and points > 300
    longest = max(len(line) for handle in handles for line in str(handle.get_label()).split("\n"))
    columns = 1 if beside else max(1, min(len(handles), math.floor(points / (22 + 4.2 * longest))))
    place = "outside right upper" if beside else "outside lower left"
    drawn.legend(handles=handles, loc=place, ncols=columns, frameon=False, labelcolor=GREY, handlelength=1.8)


def _underline(drawn: Figure) -> None:
    """Lines below the tick labels that plotly underlines."""
    labels = [label for axes in drawn.axes for label in axes.get_xticklabels() if label.get_gid() == "underlined"]
    if not labels:
        return
    drawn.draw_without_rendering()
    for label in labels:
        box = label.get_window_extent().transformed(drawn.dpi_scale_trans.inverted())
        ends = [box.x1 + 0.01] * 2, [box.y0, box.y1]
        drawn.add_artist(Line2D(*ends, color=GREY, linewidth=0.7, transform=drawn.dpi_scale_trans))
