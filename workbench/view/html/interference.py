"""Interference between domains as HTML: what forgetting one did to the others, beside what was predicted."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup

from workbench.evals import DAMAGES, PREDICTORS, Interference, in_range
from workbench.view.html.highlight import token_view
from workbench.view.html.render import Html, render
from workbench.view.html.scale import HATCH, LEVELS, colour, letter, ramp
from workbench.view.html.text import number, plain, shortened, visible

SHORT = {"logp": "log-probability", "accuracy": "facts lost"}
FIRST = 0.1  # share of the pairs that are marked: those with the most damage, or the highest prediction
WIDE = 12  # columns up to which a cell has its number
LABEL = 22  # characters of a domain's name in the map
DETAILS = 3  # pairs of which a page shows what carries the damage


def strengths(values: np.ndarray, others: np.ndarray, *, damage: bool) -> np.ndarray:
    """(I, J) colour of each cell, -1 to 1; NaN for a domain and itself.

    Of damage it is the root of its share of the largest, of a prediction its place from the least to the greatest.
    """
    shown = np.where(others, values, np.nan)
    known = shown[np.isfinite(shown)]
    if not known.size or not np.ptp(known):
        return np.where(np.isfinite(shown), 0.0, np.nan)
    if damage:
        share = shown / np.abs(known).max()
        return np.asarray(np.sign(share) * np.sqrt(np.abs(share)))
    return np.asarray((shown - known.min()) / np.ptp(known))


def firsts(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(I, J) whether a pair is among the tenth with the highest values that are above the least."""
    known = np.sort(values[others & np.isfinite(values)])[::-1]
    if not known.size or known[0] == known[-1]:
        return np.zeros_like(others)
    edge = known[max(1, round(FIRST * len(known))) - 1]
    return np.asarray(others & (values >= edge) & (values > known[-1]))


def interference_view(
    result: Interference,
    *,
    metric: str = "logp",
    predictor: str = "",
    title: str | None = None,
    css: bool = True,
    chosen: tuple[int, int] | None = None,
    details: int = DETAILS,
) -> Html:
    """Two maps of domains x domains, damage beside prediction, and what carries the damage; needs no script.

    The more orange, the more damage, or the higher the prediction; blue is a gain. A bold number, or on a large map a
    dot, marks the tenth of the pairs that is hurt most, or expected to be.

    `metric` ("logp" or "accuracy") and `predictor` (by default the best one) are shown first. `chosen` is the places
    (i, j) of a pair that is marked; of `details` pairs, those that are hurt most and the chosen one, the tokens are
    shown.
    """
    predictor = predictor if predictor in result.predicted else result.best(metric)
    grids = [
        _grid(result, "damage", {name: result.mean(name) for name in result.damage}, metric, chosen),
        _grid(result, "predicted", result.predicted, predictor, chosen),
    ]
    words = {name: result.correlations(name) for name in result.damage}
    table = [[PREDICTORS[name], *(in_range(words[m][name]) for m in result.damage)] for name in result.predicted]
    pairs = [(result.forgotten[chosen[0]], result.measured[chosen[1]])] if chosen else []
    pairs += [pair for pair in result.pairs(metric) if pair not in pairs][: max(0, details - len(pairs))]
    texts = {pair: pair_view(result, *pair) for pair in pairs} if details else {}
    shorts = {"damage": {m: SHORT[m] for m in result.damage}, "predicted": {p: PREDICTORS[p] for p in result.predicted}}
    return render(
        "interference.maps",
        by=result.by, grids=grids, words=result.summary(metric), heads=[DAMAGES[m] for m in result.damage],
        names=shorts, short=SHORT, shown={"damage": metric, "predicted": predictor}, ramp=ramp(90), blue=ramp(90, -1),
        table=table, metrics=list(result.damage), seeds=len(result.seeds), about=result.about,
        switch=_switch(grids), title=title, css=css,
        details=[{"i": i, "j": j, "html": html} for (i, j), html in texts.items() if html],
    )  # fmt: skip


def pair_view(result: Interference, i: str, j: str, *, css: bool = False) -> Html:
    """The answers of domain j, coloured by how much each token is in the way of forgetting i; empty without tokens."""
    tokens = result.tokens_of(i, j)
    if tokens.empty:
        return Html("")
    texts = {name: (question, answer) for name, (question, answer, domain) in result.texts.items() if domain == j}
    return token_view(tokens, texts, title=f"What carries it: {i} forgotten, answers of {j}", css=css)


def _grid(
    result: Interference, name: str, values: dict[str, np.ndarray], shown: str, chosen: tuple[int, int] | None
) -> dict[str, Any]:
    """One of the two maps: its heads and its rows of cells."""
    others, keys = result.others(), list(values)
    levels = {
        key: np.nan_to_num(strengths(value, others, damage=name == "damage") * LEVELS).round().astype(int)
        for key, value in values.items()
    }
    dots = {key: firsts(value, others) for key, value in values.items()}
    wide = len(result.measured) <= WIDE
    # Each domain stands under its set, whose name it need not say again.
    under_sets = [name.removesuffix(f" ({s})") for name, s in zip(result.measured, result.sets, strict=True)]
    rows = []
    for i, forgotten in enumerate(result.forgotten):
        cells = []
        for j, measured in enumerate(result.measured):
            title = [f"{forgotten} forgotten, {measured} measured"]
            title += [_written(name, key, value[i, j]) for key, value in values.items()]
            words, inside = [], []
            for place, key in enumerate(keys):
                level = int(levels[key][i, j])
                words += [f"{place}{letter(level)}"] if level else []
                tag, value = "b" if dots[key][i, j] else "i", round(values[key][i, j], 2) + 0.0
                text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "·"  # noqa: RUF001
                text = text if wide else "•" if tag == "b" else ""
                inside += [f'<{tag} class="wb-v{place}">{text}</{tag}>'] if text else []
            own = not others[i, j]
            if own:
                words, inside = [], ['<b class="wb-own">×</b>']  # noqa: RUF001
            marks = {"wb-own": own, "wb-chosen": chosen == (i, j), "wb-cut": _cut(result, j)}
            names = [name for name, yes in marks.items() if yes]
            cells.append(_cell(title, words, inside, names, int(levels[shown][i, j])))
        rows.append({"name": visible(shortened(forgotten, LABEL)), "cells": Markup("").join(cells)})
    return {
        "name": name, "rows": rows, "keys": keys, "shown": keys.index(shown),
        "heads": [{"name": visible(shortened(n, LABEL)), "cut": _cut(result, j)} for j, n in enumerate(under_sets)],
        "groups": [{"name": s, "span": len(list(part))} for s, part in groupby(result.sets)], "wide": wide,
    }  # fmt: skip


def _cut(result: Interference, j: int) -> bool:
    return j > 0 and result.sets[j] != result.sets[j - 1]


def _cell(title: list[str], words: list[str], inside: list[str], names: list[str], level: int) -> Markup:
    own = "wb-own" in names
    attributes = [f'class="{" ".join(names)}"'] if names else []
    attributes += [f'data-w="{" ".join(words)}"'] if words else []
    attributes += [f'style="background-color:{colour(level)}"'] if level and not own else []
    joined = "&#10;".join(map(plain, title))
    return Markup(f"<td {' '.join([*attributes, f'title={chr(34)}{joined}{chr(34)}'])}>{''.join(inside)}</td>")


def _written(grid: str, key: str, value: float) -> str:
    if grid == "predicted":
        return f"{PREDICTORS[key]} {number(value)}"
    unit = " nats" if key == "logp" else ""
    return f"{SHORT[key]} {number(value, 3)}{unit}"


def _switch(grids: list[dict[str, Any]]) -> Markup:
    """Rules that recolour the cells of each map by its radio input that is checked."""
    rules = [f".wb-interference td.wb-own{{background-image:{HATCH}}}"]
    for grid in grids:
        for place in range(len(grid["keys"])):
            on = f".wb-interference:has(.wb-{grid['name']}{place}:checked) .wb-map-{grid['name']}"
            rules.append(f"{on} .wb-v{place}{{display:inline}}")
            for level in [*range(-LEVELS, 0), *range(1, LEVELS + 1)]:
                rules.append(f'{on} [data-w~="{place}{letter(level)}"]{{background-color:{colour(level)}!important}}')
    return Markup(f"<style>{''.join(rules)}</style>")
