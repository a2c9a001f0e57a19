"""Exercises of notebook 04: how hard a run pulls at a token, and reading a table for a cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.view.course.answers import as_number, as_numbers, close, results, same
from workbench.view.course.exercises import Wrong, exercise


@exercise("04.1", title="How many did not move?", difficulty=1, importance=4, minutes=3)
def hardly_moved(answer: Any, *, rows: pd.DataFrame) -> str:
    """The number of forget answers that kept at least nine tenths of their probability."""
    count, forget = as_number(answer, "the number of answers"), rows[rows["probe_set"] == "forget"]
    kept = {limit: int((forget["left"] >= limit).sum()) for limit in (0.9, 0.5)}
    mean = float(forget["left"].mean())
    if count == kept[0.9]:
        return f"{kept[0.9]} of {len(forget)}, while the mean over all of them is {mean:.2f}"
    mistakes = {
        float(
            (forget["left"] > 0.99).sum()
        ): "fewer have `stayed` in the chart, where a change by 0.01 is one: here nine tenths need be left",
        float((rows["left"] >= 0.9).sum()): "this counts all sets; only `forget` was to be forgotten",
        float(
            (forget["p_after"] >= 0.9).sum()
        ): "this counts those that are probable after the run, whatever they were "
        "before: compare with the probability before",
        float(forget["still remembered"].sum()): "this counts the rule `still remembered`, which reads the text; the "
        "question is about the probability",
        float((forget["left"] < 0.9).sum()): "these are the ones that did move",
    }
    if 0 < count < 1:
        raise Wrong("this is a share; count the answers")
    raise Wrong(mistakes.get(count, f"there are {'fewer' if count > kept[0.9] else 'more'} of them"))


@exercise("04.2", title="How hard does the run pull?", difficulty=3, importance=4, minutes=5)
def pull(answer: Any, *, surprisal: Any) -> str:
    """A function from a token's surprisal l to 1 - p, the factor of the gradient of its log-probability."""
    values = np.unique(np.asarray(surprisal, dtype=float))
    values = values[np.isfinite(values) & (values >= 0)][:: max(1, len(values) // 200)]
    hints = {
        "this is p itself: where the model is sure, p is near 1, and the pull is near 0": np.exp(-values),
        "this is l itself: close for a small l, but a pull is never above 1": values,
        "this is 1 - l: p is not l, but exp(-l)": 1 - values,
        "the sign is the other way round": np.expm1(-values),
        "the sign inside the exponential is the other way round": 1 - np.exp(values),
        "this has the weight in it, which here is the surprisal: leave it out": -values * np.expm1(-values),
    }
    same(results(answer, [(x,) for x in values]), -np.expm1(-values), [f"l = {x:.3g}" for x in values], hints)
    sure = values[: max(1, len(values) // 4)]
    return f"for the surest quarter of these the pull is at most {-np.expm1(-sure.max()):.3f}, and for a guess near 1"


@exercise("04.3", title="Do shared names go with damage?", difficulty=2, importance=5, minutes=4)
def damage_shares(answer: Any, *, table: pd.DataFrame) -> str:
    """The share of damaged answers without a shared name, and with one or more."""
    without, having = as_numbers(answer, "the share without a shared name", "the share with one or more")
    parts = [table[table.index == 0], table[table.index > 0]]
    truth = [part["damaged"].sum() / part["answers"].sum() if len(part) else 0.0 for part in parts]
    if close(without, truth[0]) and close(having, truth[1]):
        return f"{truth[0]:.1%} of the answers without a shared name are damaged, and {truth[1]:.1%} of the others"
    if close(without, truth[1]) and close(having, truth[0]):
        raise Wrong("the right shares in the wrong order: without a shared name comes first")
    if without > 1 or having > 1:
        raise Wrong("give shares between 0 and 1: divide the damaged answers by all answers of their group")
    every = table["damaged"].sum()
    if every and close(having, parts[1]["damaged"].sum() / every):
        raise Wrong("these are shares of all damaged answers, and they grow with the group: divide by its answers")
    if len(parts[1]) > 1 and (parts[1]["damaged"] / parts[1]["answers"]).map(lambda one: close(having, one)).any():
        raise Wrong("the second share is of one row only: one name *or more* means all rows below the first")
    for name in table.columns.drop(["answers", "damaged"]):
        shares = [part[name].sum() / part["answers"].sum() if len(part) else 0.0 for part in parts]
        if shares != truth and close(without, shares[0]) and close(having, shares[1]):
            raise Wrong(f"these are shares of the column `{name}`: the question is about the column `damaged`")
    wrong = "first" if not close(without, truth[0]) else "second"
    raise Wrong(f"the {wrong} share is not right: add up its rows, then divide")
