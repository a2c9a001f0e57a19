"""Where a fact still is, as HTML: tokens x layers of three models beside each other, by log p, rank or UDS.

The cells are put together here and not in a template, as there may be thousands of them: every text goes through
`plain`, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from workbench.evals import NAMES, Where
from workbench.view.html.render import render
from workbench.view.html.scale import HATCH, LEVELS, colour, letter, ramp
from workbench.view.html.text import number, plain, quoted, visible

VALUES = {"logp": "log p", "rank": "rank", "uds": "UDS"}
ENDS = {"logp": ("−10 or less", "0"), "rank": ("1000 or more", "1"), "uds": ("1, gone", "0, untouched")}  # noqa: RUF001
LOWEST, LAST = -10.0, 1000  # log p and rank that have no colour any more
ROOM = 24  # columns up to which a cell has its number


def strength(value: str, x: float) -> float:
    """How much is there by a value, 0 to 1: log p from -10 to 0, ranks 1000 to 1 by their logarithm, 1 less UDS."""
    if value == "uds":
        return 1 - x
    share = 1 - x / LOWEST if value == "logp" else 1 - math.log10(x + 1) / math.log10(LAST)
    return min(1.0, max(0.0, share))


class Column(NamedTuple):
    """A layer (from 0) of a model with so many; `values` by name, (N,) each."""

    model: str
    layer: int
    layers: int
    values: dict[str, np.ndarray]


class Cell(NamedTuple):
    """A value in a map: how much is there by it (0 to 1, NaN for none), whether the token is there, what is drawn."""

    strength: float
    there: bool
    text: str
    shown: str


def cell(column: Column, i: int, name: str, *, narrow: bool) -> Cell:
    """The value `name` of token `i` in a layer; in narrow columns a dot stands where a number has no room."""
    x = float(column.values[name][i]) if name in column.values else math.nan
    known = math.isfinite(x)
    there = known and bool(x < 0.5 if name == "uds" else column.values["rank"][i] == 0)
    text = ("•" if there else "" if known else "·") if narrow else brief(name, x)
    shown = number(x + 1 if name == "rank" else x, 0 if name == "rank" else 2)
    return Cell(strength(name, x) if known else math.nan, there, text, shown)


def columns_of(where: Where) -> list[Column]:
    """The layers of all models, one after the other."""
    columns = []
    for model in where.models:
        lens, depths = where.lenses.get(model), where.depths(model)
        for layer in range(where.layers(model)):
            values = {} if lens is None else {"logp": lens.logp[layer], "rank": lens.rank[layer]}
            values |= {} if depths is None else {"uds": depths[layer]}
            columns.append(Column(model, layer, where.layers(model), values))
    return columns


def known_values(maps: Sequence[Where]) -> list[str]:
    """Which of `VALUES` there is anything of."""
    there = {"logp": any(m.lenses for m in maps), "uds": any(m.drops for m in maps)}
    return [name for name in VALUES if there["uds" if name == "uds" else "logp"]]


def token_text(where: Where, i: int) -> str:
    """A token without the spaces around it; what ends the answer is a sign, later bytes of a character are dots."""
    text = where.tokens[i]
    return text.strip() or ("␣" if text else "…" if any(where.tokens[i:]) else "∎")


def _switch(count: int) -> Markup:
    """Rules that recolour the cells by the value whose radio input is checked."""
    rules = []
    for place in range(count):
        on = f".wb-where:has(.wb-r{place}:checked)"
        rules.append(f"{on} .wb-b{place}{{display:flex}}{on} .wb-v{place}{{display:inline}}")
        rules.append(f'{on} [data-w~="{place}?"]{{background-image:{HATCH}}}')
        for level in range(1, LEVELS + 1):
            rules.append(f'{on} [data-w~="{place}{letter(level)}"]{{background-color:{colour(level)}!important}}')
    return Markup(f"<style>{''.join(rules)}</style>")


def where_view(
    maps: Where | Sequence[Where], *, value: str = "", title: str | None = None, css: bool = True, chosen: int = -1
) -> Markup:
    """Where the facts of answers still are: a row a token, a column a layer, for each model; needs no script.

    The more colour a cell has, the more of the token is there, by the logit lens (log p, rank) or by UDS. A bold
    number, or a dot where there are many layers, marks where the token is the first choice, or UDS is below 0.5.

    `value` is shown first: "logp", "rank" or "uds", by default the first of them that is there; `chosen` is the place
    of a token that is marked.
    """
    maps = [maps] if isinstance(maps, Where) else list(maps)
    values = known_values(maps)
    first = values.index(value) if value in values else 0
    answers = [_answer(each, values, first, chosen) for each in maps]
    missing = [f"{NAMES.get(n, 'UDS')}: {reason}" for each in maps for n, reason in each.reasons.items()]
    return render(
        "where.maps",
        answers=answers, names={name: VALUES[name] for name in values}, first=first, ramp=ramp(120), ends=ENDS,
        switch=_switch(len(values)), reasons=list(dict.fromkeys(missing)), title=title, css=css,
    )  # fmt: skip


def _answer(where: Where, values: list[str], shown: int, chosen: int) -> dict[str, Any]:
    columns = columns_of(where)
    narrow = len(columns) > ROOM
    groups = [{"name": NAMES[m], "layers": where.layers(m)} for m in where.models]
    rows = []
    for i, fact in enumerate(where.facts):
        text = token_text(where, i)
        cells = [_cell(where, column, i, text, values, shown, narrow) for column in columns]
        classes = " ".join(name for name, yes in (("wb-fact", fact), ("wb-chosen", i == chosen)) if yes)
        rows.append({"text": visible(text), "classes": classes, "cells": Markup("").join(cells)})
    step = 5 if narrow else 1
    heads = [
        {"text": first + 1, "span": min(step, where.layers(m) - first), "first": first == 0}
        for m in where.models
        for first in range(0, where.layers(m), step)
    ]
    about = {"sample": where.sample_id, "question": where.prompt, "words": where.summary()}
    return {"groups": groups, "rows": rows, "heads": heads, "narrow": narrow, **about}


def _cell(where: Where, column: Column, i: int, text: str, values: list[str], first: int, narrow: bool) -> Markup:
    model, layer = column.model, column.layer
    title = [f"“{where.tokens[i] or text}” · {NAMES[model]} · layer {layer + 1} of {column.layers}"]
    words, inside, parts, shown = list[str](), list[str](), list[str](), 0
    for place, name in enumerate(values):
        known = cell(column, i, name, narrow=narrow)
        parts.append(_written(name, known, where, model, layer, i))
        level = 0 if math.isnan(known.strength) else round(LEVELS * known.strength)
        words += [f"{place}{letter(level)}"] if level else [f"{place}?"] * (name not in column.values)
        shown = level if place == first else shown
        tag = "b" if known.there else "i"
        inside += [f'<{tag} class="wb-v{place}">{known.text}</{tag}>'] if known.text else []
    title.append(" · ".join(parts))
    if model in where.lenses:
        title.append(f"most probable: {quoted(where.lenses[model].alternatives(layer, i))}")
    classes = ' class="wb-cut"' if layer == 0 else ""
    marks = f' data-w="{" ".join(words)}"' if words else ""
    style = f' style="background-color:{colour(shown)}"' if shown else ""
    joined = "&#10;".join(map(plain, title))
    return Markup(f'<td{classes}{marks}{style} title="{joined}">{"".join(inside)}</td>')


def _written(name: str, known: Cell, where: Where, model: str, layer: int, i: int) -> str:
    """A value in full; for UDS also what it is made of."""
    if name != "uds" or model not in where.drops:
        return f"{VALUES[name]} {known.shown}"
    d1, d2 = (where.drops[each][layer, i] for each in ("retain_only", model))
    told = "none" if math.isnan(known.strength) else known.shown
    return f"UDS {told} (d1 {number(d1)}, d2 {number(d2)})"


def brief(name: str, x: float) -> str:
    """A value in as many characters as a cell has room for."""
    if not math.isfinite(x):
        return "·"
    if name == "rank":
        rank = round(x) + 1
        return str(rank) if rank < 1000 else f"{rank // 1000}k"
    if name == "uds":
        return f"{x:.2f}"
    text = f"{x:.1f}" if x > -9.95 else f"{x:.0f}"
    return text.replace("-0.0", "0.0").replace("-", "−")  # noqa: RUF001
