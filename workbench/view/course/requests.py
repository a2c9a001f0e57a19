"""Exercises of notebook 07: what comes back after many requests, the number for it, and whom forgetting hurts."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.errors import is_missing
from workbench.evals import Interference, Retention
from workbench.evals.sequence import reversal
from workbench.view.course.answers import as_name, as_names, results, same
from workbench.view.course.exercises import Wrong, exercise

WORST = 2  # so many people are to be named


@exercise("07.1", title="Which request comes back most?", difficulty=2, importance=4, minutes=3)
def comes_back_most(answer: Any, *, retention: Retention) -> str:
    """The request whose set has risen most from its own turn to the last request."""
    number = retention.numbers()["reversal"]
    if is_missing(number):
        raise Wrong(f"nothing can be read here: {number['reason']}")
    back, name = number["sets"], as_name(answer, retention.sets, "set")
    if name in retention.kept:
        raise Wrong("nobody asked to forget this set: it can erode, but not come back")
    if name not in back:
        raise Wrong("no request follows this one, so nothing has had the time to come back")
    place = sum(value > back[name] for value in back.values()) + 1
    if place == 1:
        return f"it rises by {back[name]:+.2f} after its own turn; the mean over {len(back)} is {number['value']:+.2f}"
    last = retention.mean()[-1]
    if last[retention.sets.index(name)] == max(last[retention.sets.index(each)] for each in back):
        raise Wrong("most of this one is *there* at the end. How much of that was there right after its own turn?")
    raise Wrong(f"place {place} of {len(back)}: compare each set's last row with its frame")


@exercise("07.2", title="Write the forgetting reversal", difficulty=3, importance=4, minutes=8)
def write_reversal(answer: Any, *, retention: Retention) -> str:
    """A function of the matrix R and the number of requests T: the mean of R[T, j] - R[j, j] over j < T."""
    random, own = np.random.default_rng(0), len(retention.requests)
    cases = [(random.uniform(size=(count + 1, count + kept)), count) for count, kept in ((2, 0), (3, 2), (5, 1))]
    cases += [(retention.mean(), own)] if own > 1 else []
    truth = np.array([np.mean(list(reversal(*case).values())) for case in cases])
    sizes = np.array([count for _, count in cases])
    before, shifted, step, best = np.array([_mistaken(*case) for case in cases]).T
    hints = {
        "the sign is the other way round: above zero means that it comes back": -truth,
        "this is the sum: take the mean, so that four requests and twenty can be compared": truth * (sizes - 1),
        "leave the last request out of the mean: none follows it, and its 0 says nothing": truth * (sizes - 1) / sizes,
        "this is the change since *before* all requests: compare with the frame": before,
        "R[0] is the state before any request, and column 0 is the first request: its frame is R[1, 0]": shifted,
        "this is what the last request alone brings back: compare with the frame": step,
        "this is the most that had come back at any time: compare the last row with the frame": best,
    }
    same(results(answer, cases), truth, [f"a matrix of {count} requests" for count in sizes], hints)
    return f"right on your matrix, where it is {truth[-1]:+.3f}, and on others" if own > 1 else "right on any matrix"


def _mistaken(matrix: np.ndarray, count: int) -> list[float]:
    """What is taken for the reversal: the rise since before, from one row too high, by the last request, at most."""
    end, turns = matrix[count, : count - 1], [matrix[j + 1, j] for j in range(count - 1)]
    most = [matrix[j + 1 :, j].max() - turns[j] for j in range(count - 1)]
    starts = (matrix[0, : count - 1], matrix.diagonal()[: count - 1], matrix[count - 1, : count - 1])
    return [*(float(np.mean(end - start)) for start in starts), float(np.mean(most))]


@exercise("07.3", title="Whom does it hurt?", difficulty=2, importance=5, minutes=4)
def hurt_most(answer: Any, *, result: Interference) -> str:
    """The two others that lose most log-probability when the first domain is forgotten."""
    forgotten, others = result.forgotten[0], result.others()[0]
    chosen = as_names(answer, result.measured, result.by)
    if forgotten in chosen:
        raise Wrong(f"{forgotten} was to be forgotten; the question is about the others")
    if len(chosen) != WORST:
        raise Wrong(f"name {WORST} of them; you name {len(chosen)}")
    truth = _first(result, result.mean()[0], others)
    if chosen == truth:
        shares = dict(zip(result.measured, result.predicted["names"][0] > 0, strict=True))
        every = sum(shares[name] for name in np.array(result.measured)[others])
        count = sum(shares[name] for name in truth)
        return f"{count} of these {WORST} share a name with {forgotten}, and {every} of all {others.sum()} others do"
    for name, values in result.predicted.items():
        if chosen == _first(result, values[0], others):
            raise Wrong(f"these come first by `{name}`, which is a prediction; the damage is in the other map")
    for row, name in enumerate(result.forgotten[1:], 1):
        if chosen == _first(result, result.mean()[row], result.others()[row]):
            raise Wrong(f"these are hurt by forgetting {name}: read the first row")
    raise Wrong(f"{len(chosen & truth)} of these {WORST} are right: look for the darkest cells of the first row")


def _first(result: Interference, values: np.ndarray, others: np.ndarray) -> set[str]:
    """The domains with the greatest values among the others."""
    order = np.argsort(-np.where(others, values, -np.inf), kind="stable")
    return {result.measured[j] for j in order[:WORST]}
