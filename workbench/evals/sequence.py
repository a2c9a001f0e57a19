"""Many requests, one after the other: what each left of every set, and the four numbers that follow.

R[i, j] is a metric of set j after request i, b_j = R[0, j] before any, and T the number of requests. The numbers have
the metric's unit, and are means over sets, so that two requests and twenty can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import Missing, missing

KNOWN = "the sets have no value of it"


@dataclass(frozen=True)
class Retention:
    """What is left of every set after every request, by one metric.

    Attributes:
        metric: its name; higher means that more is known.
        requests: names, in the order in which they were asked.
        kept: names of the sets that nobody asked to forget: retain, neighbours, general, ...
        seeds: of the sequences.
        values: (seeds, requests + 1, requests + kept) R, NaN where a set has no value.
    """

    metric: str
    requests: tuple[str, ...]
    kept: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray

    @property
    def sets(self) -> tuple[str, ...]:
        """The columns: the requests' own sets, in order, then what is kept."""
        return self.requests + self.kept

    def mean(self) -> np.ndarray:
        """(requests + 1, sets) means over the seeds."""
        return self.values.mean(axis=0)

    def numbers(self) -> dict[str, Any]:
        """The four numbers, each over the seeds; see `NUMBERS` for what they are."""
        return {name: over_seeds(self.values, len(self.requests), self.sets, how) for name, how in FORMULAS.items()}

    def to_frame(self) -> pd.DataFrame:
        """A row a seed, state and set: metric, seed, after (requests so far), set, asked, value, before, change."""
        rows = []
        for seed, matrix in zip(self.seeds, self.values, strict=True):
            for i, state in enumerate(matrix):
                for j, name in enumerate(self.sets):
                    own = j < len(self.requests)
                    standing = "kept" if not own else "forgotten" if j < i else "not yet"
                    row = {"metric": self.metric, "seed": seed, "after": i, "set": name, "standing": standing}
                    rows.append(row | {"value": state[j], "before": matrix[0, j], "change": state[j] - matrix[0, j]})
        return pd.DataFrame(rows)


Parts = dict[int, float]  # by column of R


def reversal(matrix: np.ndarray, requests: int) -> Parts:
    """R[T, j] - R[j, j] of each request j < T: how much comes back until the last request; positive: it comes back."""
    return {j - 1: matrix[requests, j - 1] - matrix[j, j - 1] for j in range(1, requests)}


def spill_over(matrix: np.ndarray, requests: int) -> Parts:
    """R[j-1, j] - b_j of each request j > 1: what it loses (negative) before it is asked."""
    return {j - 1: matrix[j - 1, j - 1] - matrix[0, j - 1] for j in range(2, requests + 1)}


def erosion(matrix: np.ndarray, requests: int) -> Parts:
    """B - R[T] of each kept set: what is lost of it in all; positive: it erodes."""
    return {j: matrix[0, j] - matrix[requests, j] for j in range(requests, matrix.shape[1])}


def erosion_growth(matrix: np.ndarray, requests: int) -> Parts:
    """Slope of b - R[i] over i = 0..T of each kept set, by least squares: how much a further request costs."""
    steps = np.arange(requests + 1) - requests / 2
    return {j: float(-steps @ matrix[:, j] / (steps @ steps)) for j in range(requests, matrix.shape[1])}


def forgetting(matrix: np.ndarray, requests: int) -> Parts:
    """Max over l < T of R[l, j] - R[T, j] of each kept set: how far it is below its best. After Chaudhry 2018."""
    return {j: matrix[:requests, j].max() - matrix[requests, j] for j in range(requests, matrix.shape[1])}


Formula = Callable[[np.ndarray, int], Parts]
FORMULAS: dict[str, Formula] = {f.__name__: f for f in (reversal, erosion, erosion_growth, spill_over, forgetting)}
NUMBERS: Mapping[str, tuple[str, str]] = {  # what people call it, and what it says
    "reversal": ("forgetting reversal", "how much of what was forgotten comes back; above 0: it comes back"),
    "erosion": ("knowledge erosion", "what the sets to keep have lost; above 0: they erode"),
    "erosion_growth": ("erosion per request", "the slope of the erosion: what one more request costs the sets to keep"),
    "spill_over": ("spill-over", "the change of a request's set before its turn; below 0: earlier requests hurt it"),
    "forgetting": ("forgetting of what is kept", "how far the sets to keep are below their best"),
}


def over_seeds(values: np.ndarray, requests: int, sets: Sequence[str], formula: Formula) -> dict[str, Any] | Missing:
    """A number over seeds: its mean, least and greatest value, each seed's, and the mean of each of its sets.

    A set without a value is left out of the mean, and so not in `sets`.

    Returns:
        `value`, `low`, `high`, `seeds` (one value a seed) and `sets` (name -> mean over the seeds); a missing value
        where no set has one.
    """
    parts = [formula(matrix, requests) for matrix in values]
    known = [j for j in parts[0] if all(np.isfinite(each[j]) for each in parts)]
    if not known:
        return missing("it needs two requests" if not parts[0] and requests < 2 else KNOWN)
    of_seeds = [float(np.mean([each[j] for j in known])) for each in parts]
    of_sets = {sets[j]: float(np.mean([each[j] for each in parts])) for j in known}
    value = {"value": float(np.mean(of_seeds)), "low": min(of_seeds), "high": max(of_seeds)}
    return value | {"seeds": of_seeds, "sets": of_sets}
