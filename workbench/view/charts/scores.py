"""Charts of scores and of how scorers agree: plotly figures on a transparent ground, for light and dark pages.

Imported only when a chart is drawn. plotly reads labels as a subset of HTML, so every text goes through `safe`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.view.charts.chart import Chart, panels
from workbench.view.charts.palette import (
    ABSENT,
    BELOW,
    DIVERGING,
    GREY,
    INK,
    INKS,
    RISING,
    SIGNED,
    heading,
    safe,
    template,
)
from workbench.view.charts.sources import Agreement, as_agreement, as_disagreement
from workbench.view.html import LEVELS as STEPS
from workbench.view.html import (
    MEASURES,
    NOT_AVAILABLE,
    POOLING,
    Comparison,
    Scores,
    agreement_of,
    as_scores,
    columns,
    number,
    shortened,
    value_of,
)


def _figure(data: Any, title: str, height: int, **layout: Any) -> Chart:
    look = heading(title)
    height += look["margin"]["t"] - 48
    return Chart(data, layout={"template": template(), "height": height, **look}).update_layout(**layout)


def agreement_chart(agreement: Agreement, *, measure: str = "spearman", level: str = "pooled") -> Chart:
    """The scorer x scorer matrix of one measure, blue below zero; hovering over a gap shows its reason.

    Args:
        agreement: what `evals.agreement` gives, or a score table, its file or a run.
        measure: "spearman", "kendall" or "top_k_overlap".
        level: "pooled" or "per_sample".

    Raises:
        UserError: for an unknown measure or level.
    """
    agreement = as_agreement(agreement)
    values, names = agreement_of(agreement, measure, level), [str(n) for n in agreement["scorers"]]
    name = MEASURES[measure][0]
    cells = [[value_of(values[a][b]) for b in names] for a in names]
    hover = []
    for a, row in zip(names, cells, strict=True):
        texts = [number(value, 4) if why == "" else f"{NOT_AVAILABLE}, {safe(why)}" for value, why in row]
        hover.append([f"{safe(a)} / {safe(b)}: {text}" for b, text in zip(names, texts, strict=True)])
    shown = [["–" if value is None else brief(value) for value, _ in row] for row in cells]  # noqa: RUF001
    colours, ends = (RISING, [0, 1]) if measure == "top_k_overlap" else (DIVERGING, [-1, 0, 1])
    look = {"zmin": ends[0], "text": shown, "texttemplate": "%{text}", "textfont": {"color": INK}, "hoverongaps": True}
    bar = {"thickness": 10, "outlinewidth": 0, "tickvals": ends}
    heat = tiles([[value for value, _ in row] for row in cells], colours, hover, **look, showscale=True, colorbar=bar)
    absent = [(i, j) for i, row in enumerate(cells) for j, (value, _) in enumerate(row) if value is None]
    notes = [{"x": j, "y": i, "text": shown[i][j], "showarrow": False} for i, j in absent]
    axis = ticks([safe(n) for n in names])
    return _figure(
        heat,
        f"{name[0].upper()}{name[1:]}, {POOLING[level]}",
        150 + 30 * len(names),
        annotations=notes,
        xaxis={**axis, "tickangle": -90},
        yaxis={**axis, "autorange": "reversed"},
    )


def brief(value: float) -> str:
    """A number between -1 and 1 as tables of correlations have it, without the 0 before the point: .68."""
    text = f"{abs(value):.2f}"
    text = text.removeprefix("0") if text not in ("0.00", "1.00") else text[0]
    return f"−{text}" if value < 0 and text != "0" else text  # noqa: RUF001


def matrix_chart(scores: Scores, sample_id: Any, *, scorers: Sequence[str] | None = None) -> Chart:
    """One sample as a heatmap: a row for each scorer on its own scale, a column for each token; raw scores on hover.

    Raises:
        UserError: for a table without answers, an unknown scorer or an unknown sample.
    """
    comparison = Comparison.of(as_scores(scores), scorers)
    tokens = columns(comparison, comparison.sample(sample_id))
    places, hover = [], []
    for i, scored in enumerate(comparison.scored):
        row, name, scale = [c.scores[i] for c in tokens], safe(scored.answer.name), scored.answer.scale
        places.append([scale.level(x) / STEPS if scale and math.isfinite(x) else None for x in row])
        hover.append([f"{safe(c.title)}<br>{name} {number(x, 4)}" for c, x in zip(tokens, row, strict=True)])
    maps = [tiles(places, SIGNED, hover)]
    notes = ["orange above zero, blue below", "each scorer on its own scale"]
    if any(c.span for c in tokens):
        notes.append("labelled tokens underlined")
    if grey := gaps(places, hover):
        maps.append(grey)
        notes.append(f"grey: {NOT_AVAILABLE}")
    first = sum(c.segment == "question" for c in tokens)
    texts = [(safe(shortened(c.text, 20)), c.span) for c in tokens]
    cut = {"type": "line", "x0": first - 0.5, "x1": first - 0.5, "y0": 0, "y1": 1, "yref": "paper"}
    return _figure(
        maps,
        f"{sample_id} · {', '.join(notes)}",
        130 + 32 * len(places),
        shapes=[{**cut, "line": {"color": GREY, "width": 2}}] if first else [],
        xaxis={**ticks([f"<u>{text}</u>" if span else text for text, span in texts]), "tickangle": -90},
        yaxis={**ticks([safe(s.answer.name) for s in comparison.scored]), "autorange": "reversed"},
    )


def targets_chart(rows: np.ndarray, tokens: Sequence[str]) -> Chart:
    """How much each earlier token contributes to each answer token's log-probability: a row for each answer token.

    Each row has its own scale, since some tokens have far larger contributions than others; the numbers are on hover.

    Args:
        rows: (answer tokens, tokens of question and answer), as `scorers.attribution.each_target` gives it.
        tokens: the texts of question and answer tokens; empty ones are drawn as a dot (a later byte of a character),
            the last as the end.
    """
    last = len(tokens) - 1
    blanks = ["∎" if i == last and not text else "␣" if text else "·" for i, text in enumerate(tokens)]
    texts = [safe(shortened(text.strip(" "), 20)) or blank for text, blank in zip(tokens, blanks, strict=True)]
    answer = texts[len(texts) - len(rows) :]
    hover = [
        [f"{a} ← {b}: {number(x, 3)}" for b, x in zip(texts, row, strict=True)]
        for a, row in zip(answer, rows, strict=True)
    ]
    largest = np.abs(rows).max(axis=1, keepdims=True)
    first = len(texts) - len(rows)  # the token of row i stands in column first + i, and is no cause of itself
    shown = (rows / np.where(largest > 0, largest, 1.0)).tolist()
    shown = [[x if j < first + i else None for j, x in enumerate(row)] for i, row in enumerate(shown)]
    return _figure(
        [tiles(shown, SIGNED, hover), gaps(shown, hover)],
        "What each earlier token (column) does to an answer token (row): orange raises it, blue lowers it; "
        "each row on its own scale",
        170 + 22 * len(rows),
        xaxis={**ticks(texts), "tickangle": -90},
        yaxis={**ticks(answer), "autorange": "reversed"},
    )


def tiles(values: list[list[Any]], colours: list[list[Any]], hover: list[list[str]], **more: Any) -> go.Heatmap:
    """A heatmap of -1..1 (or what `more` says) in `colours`, with gaps where there is no value, and texts `hover`."""
    return go.Heatmap(
        z=values,
        colorscale=colours,
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        **{"zmin": -1, "zmax": 1, "xgap": 2, "ygap": 2, "showscale": False, "hoverongaps": False, **more},
    )


def gaps(values: list[list[Any]], hover: list[list[str]], **more: Any) -> go.Heatmap | None:
    """Grey tiles where `tiles` has gaps; None where there is a value everywhere."""
    absent = [[1 if x is None else None for x in row] for row in values]
    return tiles(absent, [[0, ABSENT], [1, ABSENT]], hover, **more) if any(1 in row for row in absent) else None


def ticks(labels: list[str]) -> dict[str, Any]:
    """An axis with a label at each place; places are numbers, so that equal labels stay apart."""
    places = list(range(len(labels)))
    return {"tickvals": places, "ticktext": labels, "showgrid": False, "zeroline": False, "ticklabelstandoff": 6}


def distribution_chart(scores: Scores) -> Chart:
    """Answer scores of each scorer as boxes (quartiles, whiskers from 5 to 95 %) on an axis of its own.

    With labels, tokens inside and outside labelled spans are separate boxes.

    Raises:
        UserError: for a table without answers.
    """
    comparison = Comparison.of(as_scores(scores), None)
    tokens = pd.concat(comparison.answers.values())
    spans = tokens["span"] if "span" in tokens else pd.Series(None, tokens.index, dtype=object)
    parts = {"in labelled spans": spans.eq(True), "elsewhere": spans.eq(False)}
    if not spans.notna().any():
        parts = {"answer tokens": pd.Series(True, tokens.index)}
    layers = [s.answer for s in comparison.scored]
    figure = panels(len(layers), 1, vertical_spacing=0.36 / len(layers))
    for row, layer in enumerate(layers, 1):
        for place, (name, chosen) in enumerate(parts.items()):
            values = layer.scores[chosen.reindex(layer.scores.index, fill_value=False)].to_numpy(dtype=float)
            figure.add_trace(_box(values, name, place, row == 1), row=row, col=1)
        middle = (len(parts) - 1) / 2
        axis = {"tickvals": [middle], "ticktext": [safe(layer.name)], "range": [2 * middle + 0.6, -0.6]}
        figure.update_yaxes({**axis, "showgrid": False, "zeroline": False, "ticklabelstandoff": 6}, row=row, col=1)
    return figure.update_layout(
        template=template(),
        title={"text": "Scores of answer tokens, each scorer on its own axis"},
        height=104 + 82 * len(layers),
        legend=BELOW,
        margin={"t": 44, "b": 56},
    )


def _box(values: np.ndarray, name: str, place: int, legend: bool) -> go.Box:
    marks = [[q] for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])] if len(values) else [[]] * 5
    keys = ("lowerfence", "q1", "median", "q3", "upperfence")
    return go.Box(
        **dict(zip(keys, marks, strict=True)),
        y=[place] if len(values) else [],
        name=name,
        legendgroup=name,
        showlegend=legend,
        orientation="h",
        width=0.6,
        line={"color": INKS[place], "width": 1.5},
    )


def disagreement_chart(table: Scores, *, limit: int = 20) -> Chart:
    """The samples on which the scorers disagree most, as bars; on hover the two that are furthest apart.

    Args:
        table: what `evals.disagreement` gives, or a score table, its file or a run.
        limit: at most so many samples.
    """
    table = as_disagreement(table)
    shown = table[np.isfinite(table["disagreement"].astype(float))].head(limit)
    values = [float(v) for v in shown["disagreement"]]
    apart = [safe(str(a)) for a in shown["most_apart"]]
    bars = go.Bar(
        x=values,
        y=list(range(len(values))),
        orientation="h",
        text=[number(v) for v in values],
        textposition="outside",
        cliponaxis=False,
        marker={"color": "rgba(230,126,0,.7)"},
        customdata=apart,
        hovertemplate="%{text}<br>furthest apart: %{customdata}<extra></extra>",
    )
    return _figure(
        bars,
        "Disagreement of the scorers (0: alike, 1: unrelated)",
        90 + 24 * len(values),
        xaxis={"rangemode": "tozero"},
        yaxis={**ticks([safe(str(i)) for i in shown["sample_id"]]), "autorange": "reversed"},
    )
