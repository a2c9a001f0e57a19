"""Charts of runs: what each phase cost, and what was reached at which cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.errors import UserError
from workbench.view.charts.chart import Chart, panels
from workbench.view.charts.palette import BELOW, DASHES, GREY, PHASES, RUNS, SETS, SYMBOLS, colour_of, safe, template
from workbench.view.charts.sources import as_curve, by_name
from workbench.view.html import as_cost, label

UNITS, REST = {"seconds": " s", "flops": "FLOP"}, "the rest"
REACHED = ("forget", "retain")
AXES = {"flops": "floating-point operations", "seconds": "seconds spent", "step": "step"}


def cost_chart(costs: Any) -> Chart:
    """Runs below each other: seconds by phase on the left, operations by phase on the right.

    Phases that take less than a hundredth of both are one bar, "the rest".

    Args:
        costs: a run, a list of runs, or name -> run; a run is its directory, a path, a `Job`, what `unlearn` returned,
            or the content of `cost.json`.

    Raises:
        UserError: no run, or one without phases.
    """
    costs = by_name([costs] if isinstance(costs, Mapping) and "phases" in costs else costs, as_cost)
    if not costs or not all(cost.get("phases") for cost in costs.values()):
        raise UserError("a cost chart needs the costs of at least one finished run")
    names = list(costs)
    parts = _parts(costs)
    figure = Chart()
    for place, phase in enumerate(parts.index):
        for axis, (key, unit) in zip(("x", "x2"), UNITS.items(), strict=True):
            values = parts.loc[phase, key].tolist()
            texts = [f"{v:.1f}{unit}" if key == "seconds" else f"{v:.3g} {unit}" for v in values]
            bar = go.Bar(
                x=values, y=[safe(name) for name in names], orientation="h", name=safe(phase), legendgroup=phase,
                showlegend=key == "seconds", xaxis=axis, marker={"color": colour_of(str(phase), place, PHASES)},
                hovertext=texts, hovertemplate="%{hovertext}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
            figure.add_trace(bar)
    return figure.update_layout(
        template=template(), barmode="stack", title={"text": "Cost by phase"}, height=200 + 44 * len(names),
        xaxis={"domain": [0, 0.47], "title": "seconds"},
        xaxis2={"domain": [0.53, 1], "title": "floating-point operations"},
        legend={**BELOW, "traceorder": "normal"}, margin={"b": 110},
        yaxis={"autorange": "reversed"},
    )  # fmt: skip


def _parts(costs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Phases by (unit, run): the longest first, and last the sum of those below a hundredth in both units."""
    rows = [
        (phase, run, *(float(part.get(unit, 0.0)) for unit in UNITS))
        for run, cost in enumerate(costs.values())
        for phase, part in cost["phases"].items()
    ]
    table = pd.DataFrame(rows, columns=["phase", "run", *UNITS])
    totals = table.groupby("phase")[list(UNITS)].sum()
    small = (totals < 0.01 * totals.sum().replace(0, 1)).all(axis=1)
    table["phase"] = table["phase"].mask(table["phase"].map(small), REST)
    parts = table.pivot_table(list(UNITS), "phase", "run", "sum", fill_value=0.0)
    order = parts["seconds"].sum(axis=1).sort_values(ascending=False, kind="stable").index
    return parts.loc[sorted(order, key=lambda phase: phase == REST)]


def reach_chart(curves: Any, metric: str, *, against: str = "flops", level: float | None = None) -> Chart:
    """What runs had reached at each cost: a metric of the forget set (left) and the retain set (right).

    Args:
        curves: a run, a list of runs, or name -> run or its `RunDirectory.curve()`.
        metric: the metric's name.
        against: "flops", "seconds" or "step".
        level: a level to be reached, as a line across.

    Raises:
        UserError: no run has the metric, or `against` is none of the three.
    """
    if against not in AXES:
        raise UserError(f"against is {', '.join(AXES)}, not '{against}'")
    figure = panels(1, 2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=REACHED)
    for place, (name, curve) in enumerate(by_name(curves, as_curve).items()):
        if not len(curve) or metric not in curve:
            continue
        colour, symbol = RUNS[place % len(RUNS)], SYMBOLS[place % len(SYMBOLS)]
        look = {"line": {"color": colour, "dash": DASHES[place % len(DASHES)], "width": 2}, "mode": "lines+markers"}
        legend = True
        for column, probe_set in enumerate(REACHED, 1):
            part = curve[(curve["probe_set"] == probe_set) & curve[metric].notna()]
            if len(part):
                figure.add_scatter(
                    x=part[against], y=part[metric], name=safe(name), row=1, col=column, **look, legendgroup=name,
                    marker={"symbol": symbol, "size": 8, "color": colour}, showlegend=legend,
                )  # fmt: skip
                legend = False
    if not figure.data:
        raise UserError(f"no run has the metric '{metric}'; runs with probe_every=N have it during the run too")
    if level is not None and math.isfinite(level):
        line = {"color": GREY, "dash": "dot", "width": 1.5}
        figure.add_hline(level, line=line, row=1, col=1, annotation_text=f"goal {level:g}")
    title = {"text": safe(f"{label(metric)}, and what it cost")}
    figure.update_xaxes(title=AXES[against], rangemode="tozero").update_yaxes(rangemode="tozero")
    return figure.update_layout(
        template=template(), title=title, height=360, margin={"t": 84}, yaxis={"title": safe(label(metric))},
        legend=BELOW,
    )  # fmt: skip


def progress_chart(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], title: str = "") -> Chart:
    """Lines over the steps of a run, one panel above the other: its losses, and what its probes found.

    `curves` is the panel's title -> the line's name -> points (step, value).

    Raises:
        UserError: there is nothing to draw yet.
    """
    parts = {name: lines for name, lines in curves.items() if any(lines.values())}
    if not parts:
        raise UserError("the run has no steps yet: there is nothing to draw")
    figure = panels(len(parts), 1, subplot_titles=list(map(safe, parts)), vertical_spacing=0.2)
    names = list(dict.fromkeys(name for lines in parts.values() for name in lines))
    for row, lines in enumerate(parts.values(), 1):
        for name, points in lines.items():
            place = names.index(name)
            first = not any(name in each for each in list(parts.values())[: row - 1])
            line = {"color": colour_of(name, place, SETS), "dash": DASHES[place % len(DASHES)], "width": 2}
            xy = {"x": [x for x, _ in points], "y": [y for _, y in points]}
            figure.add_scatter(
                **xy, mode="lines", name=safe(name), legendgroup=name, showlegend=first, line=line, row=row, col=1
            )
    figure.update_yaxes(rangemode="tozero").update_xaxes(title="step", row=len(parts))
    return figure.update_layout(template=template(), title={"text": safe(title)}, height=120 + 220 * len(parts))
