"""How far a fitted scorer can be trusted on what it scores, without labels, and what it falls back to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SURE, ENOUGH = 0.9, 50  # share of tokens known, and texts fitted on, from which a warning is not needed


@dataclass(frozen=True)
class Confidence:
    """What a scorer was fitted on, against what it scores.

    Attributes:
        texts: how many it was fitted on.
        known: share of the scored tokens that occur in the answers of those texts; small for another kind of text or
            another language, and where there are few.
        stable: rank correlation of the scores of two maps, each fitted on half of the texts; NaN for fewer than four.
    """

    texts: int
    known: float
    stable: float

    @property
    def weight(self) -> float:
        """Share of the fitted scores in the result; the rest is surprisal, which needs no fit."""
        return self.known if self.low else 1.0

    @property
    def low(self) -> bool:
        """Whether the scores deserve a warning."""
        return self.known < SURE or self.texts < ENOUGH

    def __str__(self) -> str:
        halves = "" if np.isnan(self.stable) else f", and its halves agree to {self.stable:.2f}"
        warned = (
            f"; {1 - self.weight:.0%} of each score is surprisal instead: give more text of the same kind and language"
        )
        count = f"{self.texts:,} text{'s' * (self.texts != 1)}"
        return (
            f"{'low' if self.low else 'good'} confidence: fitted on {count} that have {self.known:.0%} of the tokens"
            f"{halves}{warned * self.low}"
        )

    def note(self) -> dict[str, Any]:
        """The same as a dictionary for `TaskContext.notes`: its numbers, and the line that says them."""
        return {key: None if value != value else value for key, value in asdict(self).items()} | {
            "low": self.low,
            "line": str(self),
        }


def known_share(scored: list[list[int]], fitted: list[list[int]]) -> float:
    """Share of the tokens of `scored` that occur in `fitted`."""
    seen = {token for ids in fitted for token in ids}
    each = [token in seen for ids in scored for token in ids]
    return float(np.mean(each)) if each else 0.0


def ranks(values: list[np.ndarray]) -> list[np.ndarray]:
    """Values of each sample's tokens as shares of all tokens that are lower, ties by halves; NaN stays NaN."""
    flat = np.concatenate(values)
    finite = flat[~np.isnan(flat)]
    places = np.sort(finite)
    share = (np.searchsorted(places, flat) + np.searchsorted(places, flat, side="right")) / (2 * max(1, len(finite)))
    share[np.isnan(flat)] = np.nan
    return np.split(share, np.cumsum([len(each) for each in values])[:-1])


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one of them has no spread."""
    x, y = (ranks([each])[0] for each in (a, b))
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread else float("nan")
