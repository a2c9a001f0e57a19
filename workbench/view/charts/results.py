"""Charts of results: forget against retain, metrics over the steps, and each answer before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import UserError, unknown
from workbench.view.charts.chart import Chart, panels
from workbench.view.charts.palette import (
    BELOW,
    CLEAR,
    DASHES,
    GREY,
    INKS,
    RUNS,
    SETS,
    SYMBOLS,
    colour_of,
    from_zero,
    logarithmic,
    safe,
    template,
)
from workbench.view.charts.sources import as_curve, metrics_by_name
from workbench.view.html import Probes, as_probes, axis_title, label, number, shortened, value_of
from workbench.view.run_source import RunSource

Metrics = Mapping[str, Any]  # the content of a `metrics.json`
SAME = 0.01  # a change below this is none
TURNS = {"fell": (INKS[1], "triangle-down"), "rose": (INKS[0], "triangle-up"), "stayed": (GREY, "circle")}
WIDTHS = (1, 2, 4, 7)  # of a line for 1, up to 4, up to 16, and more answers


def _short(text: Any, limit: int = 40) -> str:
    return safe(shortened(str(text), limit))


# Forget against retain ----------------------------------------------------------------------------------------------


def tradeoff_chart(
    runs: Any, metric: str = "fact_accuracy", *, kept: str = "retain", kept_metric: str | None = None
) -> Chart:
    """What runs made the model forget (x axis) and what they kept (y axis): an arrow from before to after.

    With several seeds the arrow joins their means, each seed is a small mark, and bars reach from the lowest to the
    highest.

    Args:
        runs: a run, a list of runs, or name -> run; a run is its directory, a path, a `Job`, what `probe` returned
            before and after, or the content of `metrics.json`. By name it may be a list of runs, one a seed.
        metric: of the forget set.
        kept: the set to keep.
        kept_metric: of that set; the same metric by default.

    Raises:
        UserError: no run, or one without that metric before and after.
    """
    named = metrics_by_name(runs)
    if not named:
        raise UserError("a trade-off chart needs the metrics of at least one finished run")
    axes = (("forget", metric), (kept, kept_metric or metric))
    figure, reached = Chart(), []
    for place, (name, seeds) in enumerate(named.items()):
        ends = {p: np.array([[_value(name, m, p, *axis) for axis in axes] for m in seeds]) for p in ("before", "after")}
        _arrow(figure, _short(name), ends["before"].mean(0), ends["after"], place)
        reached += [*ends["before"], *ends["after"]]
    figure.add_annotation(text="○ before", x=1, y=1.01, xref="paper", yref="paper", showarrow=False, yanchor="bottom")
    return figure.update_layout(
        template=template(), height=420, title={"text": "What was forgotten, and what was kept"},
        xaxis=from_zero([x for x, _ in reached], safe(axis_title("forget", metric))),
        yaxis=from_zero([y for _, y in reached], safe(axis_title(*axes[1]))),
        legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"}, hovermode="closest",
    )  # fmt: skip


def _value(name: str, metrics: Metrics, phase: str, probe_set: str, metric: str) -> float:
    value, why = value_of(metrics.get(phase, {}).get(probe_set, {}).get(metric))
    if value is None:
        raise UserError(f"run '{name}' has no {probe_set}.{metric} {phase}" + (f": {why}" if why else ""))
    return value


def _arrow(figure: go.Figure, name: str, before: np.ndarray, after: np.ndarray, place: int) -> None:
    """A run: its start, its seeds, and their mean with bars to the extremes; `after` is (seeds, 2)."""
    colour, symbol = RUNS[place % len(RUNS)], SYMBOLS[place % len(SYMBOLS)]
    mean = after.mean(0)
    look = {"mode": "markers", "legendgroup": name, "name": name, "hovertemplate": "%{customdata}<extra></extra>"}
    hollow = {"color": CLEAR, "size": 11, "line": {"color": GREY, "width": 2}}
    start = {"x": [before[0]], "y": [before[1]], "customdata": [f"{name}, before: {_pair(before)}"]}
    figure.add_scatter(**start, **look, marker=hollow, showlegend=False)
    bars = {}
    if len(after) > 1:
        texts = [f"{name}, seed {n + 1} of {len(after)}: {_pair(p)}" for n, p in enumerate(after)]
        small = {"symbol": symbol, "size": 6, "color": colour, "opacity": 0.55}
        figure.add_scatter(x=after[:, 0], y=after[:, 1], customdata=texts, **look, marker=small, showlegend=False)
        reach = zip(("error_x", "error_y"), after.max(0) - mean, mean - after.min(0), strict=True)
        shared = {"symmetric": False, "color": colour, "thickness": 1.2, "width": 4}
        bars = {key: {"array": [up], "arrayminus": [down], **shared} for key, up, down in reach}
    counted = f" (mean of {len(after)} seeds)" if len(after) > 1 else ""
    large = {"symbol": symbol, "size": 12, "color": colour}
    end = {"x": [mean[0]], "y": [mean[1]], "customdata": [f"{name}{counted}: {_pair(mean)}"]}
    figure.add_scatter(**end, **look, **bars, marker=large)
    figure.add_annotation(
        x=mean[0], y=mean[1], ax=before[0], ay=before[1], xref="x", yref="y", axref="x", ayref="y", text="",
        showarrow=True, arrowhead=2, arrowsize=1.2, arrowwidth=1.6, arrowcolor=colour, standoff=9, startstandoff=7,
    )  # fmt: skip


def _pair(point: np.ndarray) -> str:
    return f"{number(point[0], 3)} / {number(point[1], 3)}"


# Metrics over the steps ---------------------------------------------------------------------------------------------


def metrics_chart(curve: pd.DataFrame | RunSource, metrics: Sequence[str] = ("fact_accuracy", "probability")) -> Chart:
    """Metrics of a run's probe sets over its steps, a panel a metric.

    Args:
        curve: a run, or its `RunDirectory.curve()`; runs with `probe_every` have points between the first and the last.
        metrics: names of the metrics; those that no set has are left out.

    Raises:
        UserError: the run has none of the metrics.
    """
    curve = as_curve(curve)
    shown = [m for m in metrics if m in curve and curve[m].notna().any()]
    if not shown:
        raise UserError(f"the run has none of the metrics {', '.join(metrics)}")
    figure = panels(1, len(shown), subplot_titles=[safe(label(m)) for m in shown])
    for place, probe_set in enumerate(dict.fromkeys(curve["probe_set"])):
        colour = colour_of(str(probe_set), place, SETS)
        look = {
            "name": safe(str(probe_set)), "legendgroup": str(probe_set), "mode": "lines+markers",
            "line": {"color": colour, "dash": DASHES[place % len(DASHES)], "width": 2},
            "marker": {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 7},
        }  # fmt: skip
        parts = {m: curve[(curve["probe_set"] == probe_set) & curve[m].notna()] for m in shown}
        first = next((m for m, part in parts.items() if len(part)), None)
        for column, (m, part) in enumerate(parts.items(), 1):
            if len(part):
                figure.add_scatter(x=part["step"], y=part[m], row=1, col=column, showlegend=m == first, **look)
    figure.update_xaxes(title="step").update_yaxes(rangemode="tozero")
    title, margin = {"text": "Metrics over the run"}, {"t": 84, "b": 76}
    return figure.update_layout(template=template(), height=360, legend=BELOW, margin=margin, title=title)


# Each answer --------------------------------------------------------------------------------------------------------


def slope_chart(probes: Probes, metric: str = "probability", *, sets: Sequence[str] | None = None) -> Chart:
    """Each answer's metric before and after as a line, a panel a probe set; hovering gives its id and question.

    Answers with the same two values are one line, wider for more of them. A change below 0.01 counts as none. Where all
    values are positive and some beyond 100, the axis is logarithmic.

    Args:
        probes: a run, its `probes.parquet` as a table, or what `probe` returned before and after.
        metric: a column of it.
        sets: probe sets; all that have the metric by default.

    Raises:
        UserError: an unknown set or metric, or no answer with the metric before and after.
    """
    pairs = _pairs(as_probes(probes, columns=("phase", "probe_set", "sample_id", "prompt")), metric)
    known = list(dict.fromkeys(pairs["probe_set"]))
    for name in sets or ():
        if name not in known:
            raise unknown("probe set", name, known)
    shown = list(sets or known)
    if not shown:
        raise UserError(f"no answer has '{metric}' before and after the run")
    groups = {name: pairs[pairs["probe_set"] == name] for name in shown}
    between = " · " if len(groups) < 3 else "<br>"
    figure = panels(
        1, len(shown), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[_counts(name, part, between) for name, part in groups.items()],
    )  # fmt: skip
    seen: set[str] = set()
    for column, part in enumerate(groups.values(), 1):
        for turn in TURNS:
            for width, lines in _lines(part[part["turn"] == turn]).items():
                figure.add_trace(_slopes(lines, turn, width, turn not in seen), row=1, col=column)
                seen.add(turn)
    figure.update_xaxes(tickvals=[0, 1], ticktext=["before", "after"], range=[-0.3, 1.3], showgrid=False)
    values = pairs[["before", "after"]].to_numpy().ravel()
    if values.min() > 0 and values.max() > 100:
        figure.update_yaxes(logarithmic(values))
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title=safe(label(metric)), col=1)
    return figure.update_layout(
        template=template(), height=460, hovermode="closest", margin={"t": 90 if len(groups) < 3 else 128, "b": 64},
        legend=BELOW, title={"text": f"Each answer: {safe(label(metric))} before and after"},
    )  # fmt: skip


def _pairs(probes: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each answer: probe_set, sample_id, prompt, before, after, and its `turn`."""
    if metric not in probes:
        raise unknown("metric", metric, [str(c) for c in probes.select_dtypes("number")])
    phases = dict(list(probes.groupby("phase")))
    if not {"before", "after"} <= set(phases):
        raise UserError(f"the probe table has phases {sorted(map(str, phases))}; give one with 'before' and 'after'")
    key = ["probe_set", "sample_id"]
    before = phases["before"][[*key, "prompt", metric]].rename(columns={metric: "before"})
    after = phases["after"][[*key, metric]].rename(columns={metric: "after"})
    pairs = before.merge(after, on=key).dropna(subset=["before", "after"])
    change = pairs["after"] - pairs["before"]
    return pairs.assign(turn=np.select([change <= -SAME, change >= SAME], ["fell", "rose"], "stayed"))


def _counts(name: str, part: pd.DataFrame, between: str) -> str:
    counts = part["turn"].value_counts()
    return f"<b>{_short(name)}</b><br>" + between.join(f"{counts.get(turn, 0)} {turn}" for turn in TURNS)


def _lines(part: pd.DataFrame) -> dict[int, list[tuple[float, float, str]]]:
    """Width -> lines of that width: before, after, and the text on hover."""
    by_width: dict[int, list[tuple[float, float, str]]] = {}
    for _, same in part.groupby([part["before"].round(4), part["after"].round(4)]):
        before, after = float(same["before"].iloc[0]), float(same["after"].iloc[0])
        texts = [f"{_short(i)}: {_short(q, 90)}" for i, q in zip(same["sample_id"], same["prompt"], strict=True)][:4]
        if len(same) > len(texts):
            texts.append(f"and {len(same) - len(texts)} more answers")
        text = f"{number(before, 3)} → {number(after, 3)}<br>" + "<br>".join(texts)
        by_width.setdefault(sum(len(same) > 4**n for n in range(3)), []).append((before, after, text))
    return {WIDTHS[place]: lines for place, lines in sorted(by_width.items())}


def _slopes(lines: Sequence[tuple[float, float, str]], turn: str, width: int, legend: bool) -> go.Scatter:
    """Lines as one trace, with points along each of them so that it can be hovered over anywhere."""
    along, colour, symbol = (0.0, 0.25, 0.5, 0.75, 1.0), *TURNS[turn]
    x, y, texts, sizes = [], [], [], []
    for before, after, text in lines:
        x += [*along, None]
        y += [before + t * (after - before) for t in along] + [None]
        texts += [text] * len(along) + [""]
        sizes += [4, 0, 0, 0, 8, 0]
    return go.Scatter(
        x=x, y=y, customdata=texts, hovertemplate="%{customdata}<extra></extra>", name=turn, legendgroup=turn,
        mode="lines+markers", line={"color": colour, "width": width}, showlegend=legend,
        marker={"symbol": symbol, "size": sizes, "color": colour, "line": {"width": 0}},
    )  # fmt: skip
