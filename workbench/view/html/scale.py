"""Colours of scores: scales, levels and hues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from workbench.view.html.render import render
from workbench.view.html.text import number

LEVELS = 12
ORANGE, BLUE = "230,126,0", "31,111,220"


def alpha(level: int) -> float:
    """Opacity of a colour step, 0 for step 0; at most 0.62 so that text keeps a contrast of 4.5 in both themes."""
    step = min(abs(level), LEVELS)
    return round(0.04 + 0.58 * (step / LEVELS) ** 1.25, 2) if step else 0.0


def colour(level: int) -> str:
    """The rgba of a step: orange above zero, blue below."""
    return f"rgba({BLUE if level < 0 else ORANGE},{alpha(level):.2f})"


@dataclass(frozen=True)
class Scale:
    """The range of a scorer's numbers: 0..1 where all are in it, -m..m where some are negative, else min..max.

    Where nearly all of them fill a tenth of an unsigned scale, a proportional one would show nothing: colour then goes
    by rank, and the legend says so.
    """

    low: float
    high: float
    flat: bool = False
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, scores: np.ndarray) -> Scale | None:
        """The scale of finite `scores`; None where there are none."""
        if not len(scores):
            return None
        least, most = float(scores.min()), float(scores.max())
        low, high = least, most
        if low < 0:
            low, high = -max(-low, high), max(-low, high)
        elif high <= 1:
            low, high = 0.0, 1.0
        marks = np.quantile(scores, np.linspace(0, 1, 101))
        if low >= 0 and marks[90] - marks[10] < 0.1 * (high - low) and len(np.unique(scores)) > 2:
            return cls(least, most, False, tuple(marks))
        return cls(low, high, least == most)

    @property
    def signed(self) -> bool:
        """Whether zero is in the middle and two hues are used."""
        return self.low < 0

    def place(self, score: float) -> float:
        """Strength of colour, 0..1, or -1..1 where two hues are used."""
        if self.quantiles:
            places = [np.searchsorted(self.quantiles, score, side=side) for side in ("left", "right")]
            return float(np.clip(np.mean(places) / 100, 0, 1))
        if self.signed:
            return score / self.high
        return (score - self.low) / ((self.high - self.low) or 1.0)

    def level(self, score: float) -> int:
        """Colour step of `score`, -LEVELS..LEVELS."""
        if self.flat or not math.isfinite(score):
            return 0
        return round(LEVELS * self.place(score))

    def legend(self, threshold: float | None = None, low: str = "", high: str = "") -> Markup:
        """The ramp as drawn, with its numbers (zero in the middle of two hues) and a tick at the threshold."""
        ends = [self.low, 0.0, self.high] if self.signed else [self.low, self.high]
        texts = [number(e, 0 if e == int(e) else 2) for e in ends]
        texts[0], texts[-1] = low + texts[0], texts[-1] + high
        ramps = []
        for text, (left, right) in zip(texts[1:], pairwise([-1, 0, 1] if self.signed else [0, 1]), strict=True):
            colours = ",".join(colour(round(LEVELS * (left + i / 6))) for i in range(7))
            at = math.nan if threshold is None else self.place(threshold) - left
            style = f"width:{120 // (len(ends) - 1)}px;background-image:linear-gradient(90deg,{colours})"
            ramps.append({"style": style, "tick": 100 * at if 0 <= at <= right - left else None, "text": text})
        return render("scores.legend", first=texts[0], ramps=ramps, by_rank=bool(self.quantiles))
