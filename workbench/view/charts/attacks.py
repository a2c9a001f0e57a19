"""The chart of attacks: what comes back, between a retain-only model and the model before the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import UserError
from workbench.view.charts.chart import Chart
from workbench.view.charts.palette import GREY, MODELS, safe, template
from workbench.view.charts.sources import as_attacks
from workbench.view.html import attack_bars, number
from workbench.view.run_source import RunSource

BAR = {"color": "rgba(121,126,134,.15)", "line": {"color": GREY, "width": 1}}  # pale below text, with clear ends
WIDTH = 0.1  # of the axis, which a number takes on a narrow page


def attacks_chart(attacks: Mapping[str, Any] | RunSource) -> Chart:
    """A bar an attack from the retain-only model to the model before, with the run on it; most comes back on top.

    A depth (`uds`) is drawn as 1 less itself, so that right always means "there". An attack that alone gets little of
    the model before is marked as weak: with the plain answer its bar still ends at 1.

    Args:
        attacks: a run, what `wb.attack` returns, or its `attacks`.

    Raises:
        UserError: no attack has a value of the run.
    """
    bars = [bar for bar in attack_bars(as_attacks(attacks)) if bar.run is not None]
    if not bars:
        raise UserError("a chart of attacks needs at least one with a value of the run")
    figure = Chart()
    spans = [bar for bar in bars if bar.floor is not None and bar.ceiling is not None]
    if spans:
        floors, ceilings = ([getattr(bar, end) for bar in spans] for end in ("floor", "ceiling"))
        ends = zip(spans, floors, ceilings, strict=True)
        texts = [safe(f"retain-only {number(a)}, before {number(b)} {bar.weak}".strip()) for bar, a, b in ends]
        figure.add_bar(
            y=[safe(bar.marked) for bar in spans], base=floors,
            x=[b - a for a, b in zip(floors, ceilings, strict=True)],
            orientation="h", name="retain-only to before", marker=BAR, hovertext=texts,
            hovertemplate="%{y}: %{hovertext}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        y=[safe(bar.marked) for bar in bars], x=[bar.run for bar in bars], mode="markers+text", name="run",
        text=[number(bar.run) for bar in bars], textposition=[_side(bar.run, bar.ceiling) for bar in bars],
        marker={"symbol": "diamond", "size": 12, "color": MODELS["run"]},
        hovertemplate="%{y}: run %{text}<extra></extra>",
    )  # fmt: skip
    order = {"categoryorder": "array", "categoryarray": [safe(bar.marked) for bar in reversed(bars)]}
    return figure.update_layout(
        template=template(), title={"text": "What comes back"}, height=150 + 28 * len(bars), yaxis=order,
        xaxis={"range": [0, 1.08], "title": "share of the facts that are given"}, margin={"l": 150, "t": 72},
    )  # fmt: skip


def _side(run: float | None, ceiling: float | None) -> str:
    """Where the run's number stands: to the right, unless the bar ends there."""
    ends = run is not None and ceiling is not None and 0 < ceiling - run < WIDTH
    return "middle left" if ends else "middle right"
