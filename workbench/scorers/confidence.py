"""How far a fitted scorer can be trusted on what it scores, without labels, and what it falls back to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

SURE = 0.9  # a weight from which the fitted scores count in full
FEW = 20  # texts: below it two halves of them agree by chance
KIN = 0.5  # share of tokens that even a few texts of the same kind and language have
LONG = 2.0  # times the longest text that was read: so far into a text a map has not seen states


@dataclass(frozen=True)
class Confidence:
    """What a scorer was fitted on, against what it scores.

    Attributes:
        texts: how many it was fitted on.
        known: share of the scored tokens that occur in the answers of those texts; small for another kind of text or
            another language.
        stable: rank correlation of the scores of two maps, each fitted on half of the texts; NaN for fewer than four.
        longer: length of the text that a scored token is in, on average, over that of the longest fitted text.
    """

    texts: int
    known: float
    stable: float
    longer: float = 1.0

    @property
    def weight(self) -> float:
        """Share of the fitted scores in the result; the rest is surprisal, which needs no fit.

        `stable`, times texts / 20, (`known` / .5)^2 and (2 / `longer`)^2 where these are below 1; 1 from .9 on, 0 for
        fewer than four texts.
        """
        agreeing = 0.0 if np.isnan(self.stable) else max(0.0, self.stable)
        weight = agreeing * min(1.0, self.texts / FEW) * min(1.0, self.known / KIN) ** 2
        weight *= min(1.0, LONG / max(self.longer, 1e-9)) ** 2
        return 1.0 if weight >= SURE else weight

    @property
    def low(self) -> bool:
        """Whether part of the scores, or all, is surprisal."""
        return self.weight < 1

    def __str__(self) -> str:
        """One line for people."""
        halves = "" if np.isnan(self.stable) else f"; halves of them agree to {self.stable:.2f}"
        basis = f"fitted on {self.texts:,} texts that have {self.known:.0%} of the tokens{halves}"
        if self.longer > LONG:
            basis += f"; the scored texts are {self.longer:.0f} times as long as the longest of them"
        if not self.low:
            return f"good confidence: {basis}"
        share = (
            f"{1 - self.weight:.0%} of each score is surprisal instead" if self.weight else "surprisal is shown instead"
        )
        return f"low confidence: {basis}. {share}; give more text of the same kind, language and length"

    def note(self) -> dict[str, Any]:
        """The same as a dictionary for `TaskContext.notes`: its numbers, and the line that says them."""
        numbers = {key: None if value != value else value for key, value in asdict(self).items()}
        return numbers | {"weight": self.weight, "line": str(self)}


def times_longer(scored: list[list[int]], fitted: list[list[int]]) -> float:
    """Length of the text that a token of `scored` is in, on average, over that of the longest of `fitted`."""
    lengths = np.array([len(ids) for ids in scored], dtype=float)
    longest = max(map(len, fitted), default=0)
    return float((lengths**2).sum() / lengths.sum() / longest) if longest and lengths.sum() else 1.0


def known_share(scored: list[list[int]], fitted: list[list[int]]) -> float:
    """Share of the tokens of `scored` that occur in `fitted`."""
    seen = {token for ids in fitted for token in ids}
    each = [token in seen for ids in scored for token in ids]
    return float(np.mean(each)) if each else 0.0


def ranks(values: list[np.ndarray]) -> list[np.ndarray]:
    """Values of each sample's tokens as shares of all tokens that are lower, ties by halves; NaN stays NaN."""
    flat = pd.Series(np.concatenate(values))
    share = (2 * flat.rank() - 1) / (2 * max(1, flat.count()))
    return np.split(share.to_numpy(), np.cumsum([len(each) for each in values])[:-1])


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one of them has no spread."""
    x, y = (ranks([each])[0] for each in (a, b))
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread else float("nan")
