"""The retention matrix as HTML: what is left of every set after every request, and the numbers below it."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from workbench.errors import is_missing
from workbench.evals import NUMBERS, Retention
from workbench.view.html.render import Html, render
from workbench.view.html.scale import LEVELS, Scale, colour
from workbench.view.html.text import label, number

MARKED = 0.05  # a change that gets an arrow
RAISED, LOWERED = "↑", "↓"
STANDING = {"own": "just requested", "forgotten": "requested before", "not yet": "not requested yet", "kept": "to keep"}


def short_names(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """What all names begin with, up to a slash or a colon, and what is left of each; one alone stays as it is."""
    shared = 0
    while len(names) > 1 and all(name[shared : shared + 1] == names[0][shared : shared + 1] != "" for name in names):
        shared += 1
    cut = max(names[0][:shared].rfind("/"), names[0][:shared].rfind(":")) + 1
    return names[0][:cut], [name[cut:] for name in names]


def signed(value: float) -> str:
    """A change with its sign, in two digits."""
    rounded = round(value, 2)
    return "0.00" if rounded == 0 else f"{rounded:+.2f}".replace("-", "−")  # noqa: RUF001


def retention_view(
    retention: Retention, *, chosen: tuple[int, int] | None = None, title: str | None = None, css: bool = True
) -> Html:
    """What is left of every set after every request: rows are states, columns the requests' sets, beneath what is kept.

    Colour is the change against the value before any request: blue lost, orange gained. A frame marks the request that
    was just made; below it a set is forgotten, above it not requested yet. An arrow marks what comes back after it was
    asked (up), and what is lost that nobody has asked for (down), from 0.05.

    `chosen` is (requests so far, set) of a cell that is marked.
    """
    requests = retention.requests
    (shared, short), count = short_names(requests), len(requests)
    heads = [
        {"number": n, "short": s, "name": name} for n, (s, name) in enumerate(zip(short, requests, strict=True), 1)
    ]
    rows = [{"after": i, "cells": [_cell(retention, i, j, chosen) for j in range(count)]} for i in range(count + 1)]
    kept = [
        {"name": label(name), "before": _cell(retention, 0, count + k, chosen),
         "cells": [_cell(retention, i, count + k, chosen) for i in range(1, count + 1)]}
        for k, name in enumerate(retention.kept)
    ]  # fmt: skip
    return render(
        "retention.matrix", shared=shared, heads=heads, rows=rows, kept=kept, numbers=number_rows(retention),
        seeds=retention.seeds, metric=label(retention.metric), legend=Scale(-1.0, 1.0).legend(None, "lost ", " gained"),
        title=title, css=css,
    )  # fmt: skip


def _cell(retention: Retention, i: int, j: int, chosen: tuple[int, int] | None) -> dict[str, Any]:
    """A value of the matrix as it is drawn."""
    count, values = len(retention.requests), retention.values[:, i, j]
    standing = "kept" if j >= count else "own" if j == i - 1 else "forgotten" if j < i else "not yet"
    place = {"after": i, "set": j, "chosen": chosen == (i, j), "standing": standing.replace(" ", "-")}
    if not np.isfinite(values).all():
        return place | {"value": None, "style": "", "mark": "", "change": "", "range": "", "about": "no value"}
    value, before = float(values.mean()), float(retention.values[:, 0, j].mean())
    change, mark = value - before, ""
    if standing == "forgotten" and value - float(retention.values[:, j + 1, j].mean()) >= MARKED:
        mark = RAISED
    elif standing in ("not yet", "kept") and change <= -MARKED:
        mark = LOWERED
    level = max(-LEVELS, min(LEVELS, Scale(-1.0, 1.0).level(change)))
    spread = f"{number(values.min(), 2)}–{number(values.max(), 2)}" if len(values) > 1 else ""  # noqa: RUF001
    when = f"after request {i}" if i else "before any request"
    about = f"{retention.sets[j]} {when}, {STANDING[standing]}: {number(value, 2)}"
    about += f", {signed(change)} against before" if i else ""
    about += {RAISED: "; it comes back", LOWERED: "; it is lost without a request"}.get(mark, "")
    return place | {
        "value": number(value, 2), "change": signed(change) if i else "", "mark": mark, "range": spread,
        "style": Markup(f"background-color:{colour(level)}") if level else "",
        "about": about + (f"; {len(values)} seeds, {spread}" if spread else ""),
    }  # fmt: skip


def number_rows(retention: Retention) -> list[dict[str, Any]]:
    """The four numbers as they are drawn: name, value, range over the seeds, what it says; or why there is none."""
    rows = []
    short = dict(zip(retention.requests, short_names(retention.requests)[1], strict=True))
    for name, value in retention.numbers().items():
        shown, meaning = NUMBERS[name]
        row: dict[str, Any] = {"name": shown, "meaning": meaning, "why": "", "value": "", "range": "", "sets": []}
        if is_missing(value):
            rows.append(row | {"why": value["reason"]})
            continue
        span = f"{signed(value['low'])} to {signed(value['high'])}" if len(value["seeds"]) > 1 else "one seed"
        sets = [(short.get(n, n), signed(v)) for n, v in value["sets"].items()]
        rows.append(row | {"value": signed(value["value"]), "range": span, "sets": sets})
    return rows
