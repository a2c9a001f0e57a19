"""Charts of runs: what they spent on what, and what they had reached when so much was spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.errors import UserError
from workbench.view.charts.scores import GREY, INKS, safe, template

COLOURS = (*INKS, "#7fb2f0", "#b35900", "#a8b0b9", "#ffb454", "#1f5ea8", GREY, "#d9a066", "#5b6470")
DASHES = ("solid", "dash", "dot", "dashdot")
AXES = {"flops": "floating-point operations spent", "seconds": "seconds spent", "step": "step"}


def cost_chart(costs: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Runs below each other: seconds by phase on the left, operations by phase on the right.

    Phases that take less than a hundredth of both are one bar, "the rest".

    Args:
        costs: run's name -> content of its `cost.json`.

    Raises:
        UserError: no run, or one without phases.
    """
    if not costs or not all(cost.get("phases") for cost in costs.values()):
        raise UserError("a cost chart needs the costs of at least one finished run")
    names = list(costs)
    shown = _parts(costs)
    figure = go.Figure()
    for place, (phase, parts) in enumerate(shown.items()):
        for axis, key, unit in (("x", "seconds", " s"), ("x2", "flops", "FLOP")):
            values = [part[key] for part in parts]
            said = [f"{v:.1f}{unit}" if key == "seconds" else f"{v:.3g} {unit}" for v in values]
            bar = go.Bar(
                x=values, y=[safe(name) for name in names], orientation="h", name=safe(phase), legendgroup=phase,
                showlegend=key == "seconds", xaxis=axis, marker={"color": COLOURS[place % len(COLOURS)]},
                hovertext=said, hovertemplate="%{hovertext}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
            figure.add_trace(bar)
    return figure.update_layout(
        template=template(), barmode="stack", title={"text": "Cost by phase"}, height=190 + 46 * len(names),
        xaxis={"domain": [0, 0.47], "title": "seconds"}, xaxis2={"domain": [0.53, 1], "title": "FLOP"},
        legend={"y": -0.5, "yanchor": "top", "traceorder": "normal"}, yaxis={"autorange": "reversed"},
    )  # fmt: skip


def _parts(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Seconds and operations by phase, a value a run, the phase that took longest first."""
    names = list(dict.fromkeys(name for cost in costs.values() for name in cost["phases"]))
    found = {
        name: [
            {key: float(cost["phases"].get(name, {}).get(key, 0.0)) for key in ("seconds", "flops")}
            for cost in costs.values()
        ]
        for name in names
    }
    sums = {key: sum(part[key] for parts in found.values() for part in parts) or 1.0 for key in ("seconds", "flops")}
    small = [n for n, parts in found.items() if all(sum(p[k] for p in parts) < 0.01 * sums[k] for k in sums)]
    order = sorted((n for n in names if n not in small), key=lambda n: -sum(p["seconds"] for p in found[n]))
    shown = {name: found[name] for name in order}
    if small:
        shown["the rest"] = [
            {key: sum(found[n][place][key] for n in small) for key in sums} for place in range(len(costs))
        ]
    return shown


def reach_chart(
    curves: Mapping[str, pd.DataFrame], metric: str, *, against: str = "flops", level: float | None = None
) -> go.Figure:
    """What runs had reached when so much was spent: a metric of the forget set (lines) and the retain set (dashes).

    Args:
        curves: run's name -> `RunDirectory.curve()`.
        metric: the metric's name.
        against: "flops", "seconds" or "step".
        level: a level to be reached, as a line across.

    Raises:
        UserError: no run has the metric, or `against` is none of the three.
    """
    if against not in AXES:
        raise UserError(f"against is {', '.join(AXES)}, not '{against}'")
    figure = go.Figure()
    for place, (name, curve) in enumerate(curves.items()):
        if not len(curve) or metric not in curve:
            continue
        for dash, probe_set in zip(DASHES, ("forget", "retain"), strict=False):
            part = curve[(curve["probe_set"] == probe_set) & curve[metric].notna()]
            if len(part):
                line = {"color": COLOURS[place % len(COLOURS)], "dash": dash, "width": 2}
                marks = {"symbol": "circle" if probe_set == "forget" else "square", "size": 7}
                figure.add_trace(
                    go.Scatter(
                        x=part[against], y=part[metric], name=safe(f"{name}: {probe_set}"), line=line, marker=marks
                    )
                )
    if not figure.data:
        raise UserError(f"no run has the metric '{metric}'; runs with probe_every=N have it during the run too")
    if level is not None and math.isfinite(level):
        figure.add_hline(level, line={"color": GREY, "dash": "dot", "width": 1})
    return figure.update_layout(
        template=template(), title={"text": safe(f"{metric.replace('_', ' ')}, and what it cost")}, height=340,
        xaxis={"title": AXES[against]}, yaxis={"rangemode": "tozero"}, margin={"t": 76},
    )  # fmt: skip
