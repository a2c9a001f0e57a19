"""The chart of where a fact still is: tokens and layers of each model."""

from __future__ import annotations

import math
from typing import Any

from workbench.errors import UserError, printable
from workbench.evals import NAMES, Where
from workbench.view.charts.chart import Chart, panels
from workbench.view.charts.palette import ABOVE, heading, safe, template
from workbench.view.charts.scores import gaps, ticks, tiles
from workbench.view.html import ENDS, NOT_AVAILABLE, ROOM, VALUES, cell, columns_of, known_values, shortened, token_text


def where_chart(where: Where, value: str = "") -> Chart:
    """A row a token (of the fact: bold), a column a layer, for each model: the more colour, the more is there.

    Bold numbers, or dots where there are many layers, mark where the token is the first choice, or UDS is below 0.5.

    Args:
        where: the maps of an answer: `view.where`, or one of `view.maps` of what `wb.where` returns.
        value: "logp", "rank" or "uds"; the first of them that is there by default.

    Raises:
        UserError: another value, or one that the maps do not have.
    """
    known = known_values([where])
    if (value := value or known[0]) not in known:
        raise UserError(f"the maps have {', '.join(known)}; not '{printable(value)}'")
    columns, models = columns_of(where), list(where.models)
    figure = panels(
        1, len(models), shared_yaxes=True, horizontal_spacing=0.02,
        subplot_titles=[NAMES[m] for m in models], column_widths=[where.layers(m) for m in models],
    )  # fmt: skip
    texts, grey = [token_text(where, i) for i in range(len(where.tokens))], ""
    for place, model in enumerate(models, 1):
        own = [column for column in columns if column.model == model]
        cells = [[cell(column, i, value, narrow=len(columns) > ROOM) for column in own] for i in range(len(texts))]
        hover = [
            [f"“{safe(text)}” · {NAMES[model]} · layer {n}: {known.shown}" for n, known in enumerate(row, 1)]
            for text, row in zip(texts, cells, strict=True)
        ]
        marks = [[f"<b>{c.text}</b>" if c.there else c.text for c in row] for row in cells]
        last = place == len(models)
        bar: dict[str, Any] = {"tickvals": [0, 1], "ticktext": list(ENDS[value]), "thickness": 10, "outlinewidth": 0}
        shade = [[None if math.isnan(c.strength) else c.strength for c in row] for row in cells]
        look = {"zmin": 0, "zmax": 1, "showscale": last, "colorbar": bar, "text": marks, "texttemplate": "%{text}"}
        figure.add_trace(tiles(shade, ABOVE, hover, xgap=1, ygap=1, **look), row=1, col=place)
        if absent := gaps(shade, hover, xgap=1, ygap=1):
            grey = f"; grey: {NOT_AVAILABLE}"
            figure.add_trace(absent, row=1, col=place)
        step = 1 if len(own) <= 8 else 5
        layers = {"tickvals": list(range(0, len(own), step)), "ticktext": list(range(1, len(own) + 1, step))}
        figure.update_xaxes({**layers, "title": "layer", "showgrid": False, "zeroline": False}, row=1, col=place)
    short = [safe(shortened(text, 20)) for text in texts]
    labels = [f"<b>{text}</b>" if fact else text for text, fact in zip(short, where.facts, strict=True)]
    figure.update_yaxes({**ticks(labels), "autorange": "reversed"})
    about = f"{VALUES[value]} of each token by layer{grey}"
    title = heading(shortened(f"{where.prompt} {where.answer}".strip(), 90), about)
    title["margin"]["t"] += 24  # for the models' names
    return figure.update_layout(template=template(), height=60 + title["margin"]["t"] + 20 * len(texts), **title)
