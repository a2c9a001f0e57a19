"""The chart of a retention matrix: states and sets, with what changed as colour."""

from __future__ import annotations

import numpy as np

from workbench.evals import Retention
from workbench.view.charts.chart import Chart
from workbench.view.charts.scores import SIGNED, safe, template, ticks, tiles
from workbench.view.html import label, number, short_names, shortened


def retention_chart(retention: Retention) -> Chart:
    """A row a state, a column a set: the value, and as colour its change against before (blue lost, orange gained).

    Below the diagonal a set is forgotten, above it not requested yet; a bold number is the request just carried out.
    """
    mean, count = retention.mean(), len(retention.requests)
    change = mean - mean[0]
    shown, hover, states = [], [], ["before", *(f"after {n}" for n in range(1, count + 1))]
    for i, row in enumerate(mean):
        texts = [number(float(x), 2) if np.isfinite(x) else "·" for x in row]
        shown.append([f"<b>{text}</b>" if j == i - 1 else text for j, text in enumerate(texts)])
        hover.append([f"{safe(name)}, {states[i]}: {text}" for name, text in zip(retention.sets, texts, strict=True)])
    shade = [[float(x) if np.isfinite(x) else None for x in row] for row in change]
    bar = {"tickvals": [-1, 0, 1], "ticktext": ["lost 1", "0", "1 gained"], "thickness": 10, "outlinewidth": 0}
    heat = tiles(shade, SIGNED, hover, text=shown, texttemplate="%{text}", showscale=True, colorbar=bar)
    names = short_names(retention.requests)[1]
    columns = [f"{n}: {safe(shortened(name, 16))}" for n, name in enumerate(names, 1)]
    columns += [safe(label(name)) for name in retention.kept]
    seeds = f", mean of {len(retention.seeds)} seeds" if len(retention.seeds) > 1 else ""
    figure = Chart(heat).update_xaxes({**ticks(columns), "side": "bottom"})
    figure.update_yaxes({**ticks(states), "autorange": "reversed"})
    figure.add_vline(x=count - 0.5, line_width=2)
    heading = f"{safe(label(retention.metric))} after each request{seeds}"
    return figure.update_layout(template=template(), height=160 + 34 * len(states), title={"text": heading})
