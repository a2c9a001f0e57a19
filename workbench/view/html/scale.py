"""Colours of scores: scales, levels and hues."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from markupsafe import Markup

from workbench.errors import unknown
from workbench.scorers import scorer as declared
from workbench.view.html.render import render
from workbench.view.html.text import number

LEVELS = 12
ORANGE, BLUE = "230,126,0", "31,111,220"
HATCH = "repeating-linear-gradient(135deg,rgba(128,128,128,.22) 0 2px,transparent 2px 6px)"  # of no score
NEAR = 0.1  # a greatest score below this share of a scorer's bound ends the scale itself: there would be no colour
DECADES = 3  # of a logarithmic scale, at most; what is below has no colour
By = Literal["value", "rank", "logarithm"]
BY: tuple[By, ...] = get_args(By)  # what colour goes by; the first is the default, of every scorer and view


def check_by(by: str) -> By:
    """`by` itself, if colour can go by it; else raises UserError."""
    for known in BY:
        if by == known:
            return known
    raise unknown("choice of colour", by, list(BY))


def alpha(level: int) -> float:
    """Opacity of a colour step, 0 for step 0; at most 0.62 so that text keeps a contrast of 4.5 in both themes."""
    step = min(abs(level), LEVELS)
    return round(0.04 + 0.58 * (step / LEVELS) ** 1.25, 2) if step else 0.0


def colour(level: int) -> str:
    """The rgba of a step: orange above zero, blue below."""
    return f"rgba({BLUE if level < 0 else ORANGE},{alpha(level):.2f})"


def letter(level: int) -> str:
    """The letter of a step, a for 1; a capital below zero."""
    return chr((96 if level > 0 else 64) + abs(level))


def ramp(width: int, left: int = 0) -> str:
    """The style of a bar with the colours from strength `left` (-1 or 0) to one more."""
    colours = ",".join(colour(round(LEVELS * (left + i / 6))) for i in range(7))
    return f"width:{width}px;background-image:linear-gradient(90deg,{colours})"


@dataclass(frozen=True)
class Scale:
    """The range of a scorer's numbers: -m..m with two hues where some are negative, else from 0.

    It ends at the bound that the scorer declares, so that a probability or a weight looks the same in every text; where
    it declares none, or all scores are below NEAR of it, at the greatest score.

    Colour goes by the value, unless the reader chooses another way:

    - value: proportional, from `low` (or zero, where there are two hues) to `high`;
    - rank: the share of the scores that are lower (of two hues: nearer to zero);
    - logarithm: of the distance from zero, from `floor` to `top`.

    Attributes:
        low: the least number.
        high: the greatest.
        flat: whether all scores are equal, so that none is coloured.
        quantiles: 101 quantiles of the scores, or with two hues of their distance from zero.
        floor: where a logarithmic scale begins: the least distance from zero, at least `top` / 10^DECADES.
        top: where it ends: the greatest.
        by: what colour goes by.
    """

    low: float
    high: float
    flat: bool = False
    quantiles: tuple[float, ...] = ()
    floor: float = 0.0
    top: float = 0.0
    by: By = "value"

    @classmethod
    def of(cls, scores: np.ndarray, by: By = "value", *, scorer: str = "") -> Scale | None:
        """The scale of finite `scores`, of a scorer that may be known; None where there are none."""
        if not len(scores):
            return None
        low, high = float(scores.min()), float(scores.max())
        if low < 0:
            low, high = -max(-low, high), max(-low, high)
        else:
            bound = declared[scorer].range[1] if scorer in declared else None
            low, high = 0.0, bound if bound and NEAR * bound <= high <= bound else high
        return cls.between(low, high, scores, by)

    @classmethod
    def between(cls, low: float, high: float, scores: np.ndarray, by: By = "value") -> Scale:
        """The scale of `scores`, with ends that are known."""
        sizes = np.abs(scores)
        above = sizes[sizes > 0]
        top = float(sizes.max())
        floor = max(float(above.min()), top / 10**DECADES) if len(above) else top
        quantiles = np.quantile(sizes if low < 0 else scores, np.linspace(0, 1, 101))
        return cls(low, high, bool(scores.min() == scores.max()), tuple(quantiles.tolist()), floor, top, by)

    def going_by(self, by: By) -> Scale:
        """The same scale with colour by something else."""
        return replace(self, by=by)

    @property
    def signed(self) -> bool:
        """Whether zero is in the middle and two hues are used."""
        return self.low < 0

    @property
    def ends(self) -> tuple[float, float]:
        """The numbers at the ends of the legend, by what colour goes by."""
        low, high = self.low, self.high
        if self.by == "rank" and self.quantiles:
            low, high = self.quantiles[0], self.quantiles[-1]
        elif self.by == "logarithm":
            low, high = self.floor, self.top
        return (-high if self.signed else low), high

    def place(self, score: float) -> float:
        """Strength of colour, 0..1, or -1..1 where two hues are used."""
        if self.by == "value":
            return score / self.high if self.signed else (score - self.low) / ((self.high - self.low) or 1.0)
        sign, size = (math.copysign(1, score), abs(score)) if self.signed else (1, score)
        if self.by == "rank" and self.quantiles:
            share = (bisect_left(self.quantiles, size) + bisect_right(self.quantiles, size)) / 200
            return sign * min(1.0, share) if size or not self.signed else 0.0
        if size <= self.floor or not 0 < self.floor < self.top:
            return sign * float(size >= self.top > 0)
        return sign * min(1.0, math.log(size / self.floor) / math.log(self.top / self.floor))

    def level(self, score: float) -> int:
        """Colour step of `score`, -LEVELS..LEVELS."""
        if self.flat or not math.isfinite(score):
            return 0
        return round(LEVELS * self.place(score))

    def legend(self, threshold: float | None = None, before: str = "", after: str = "") -> Markup:
        """The ramp as drawn, with its numbers (zero in the middle of two hues), what colour goes by, and a tick."""
        low, high = self.ends
        ends = [low, 0.0, high] if self.signed else [low, high]
        texts = [number(e, 0 if e == int(e) else 2) for e in ends]
        texts[0], texts[-1] = before + texts[0], texts[-1] + after
        ramps = []
        for text, (left, right) in zip(texts[1:], pairwise([-1, 0, 1] if self.signed else [0, 1]), strict=True):
            at = math.nan if threshold is None else self.place(threshold) - left
            style = ramp(120 // (len(ends) - 1), left)
            ramps.append({"style": style, "tick": 100 * at if 0 <= at <= right - left else None, "text": text})
        return render("scores.legend", first=texts[0], ramps=ramps, by=self.by)
