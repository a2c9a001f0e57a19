"""The scorer `learned`: a linear map of hidden states that starts from other text and learns from what is lost.

`atwu` starts from nothing and learns from l_t alone, which on memorised text says little. This one starts as a map of
the kind that `amortised` fits, and each step of the run adds what its own states and losses show.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import LanguageModel, TokenStats
from workbench.scorers.amortised import draw_folds, other_text, read
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.specificity import COPIED, copied, rarity
from workbench.tasks import Sample

WHERE = ("token", "predicting", "token", "predicting")  # two states of the last layer and two of an inner one
DEPTH = 0.75  # of the layers: the inner one
FLOOR = 1e-6  # nats: below it l_t is rounding


@scorer("learned", range=(0, 1), kind="live", needs=("text",), run={"objective": "wga", "lr": 3e-5},
        source="ours", certainty="ours")  # fmt: skip
@dataclass
class LearnedScorer:
    """g = Phi(s)^power, s = w . z in units of its spread over forget tokens: learned while the model forgets them.

    z are four states side by side, standardised: of the last layer and of the one three quarters up, at the token and
    at the one that predicts it. w solves ((1 - a) C0 + a C + ridge I) w = (1 - a) c0 + a c. C0 is the covariance of
    z, and c0 that of z and (1 + u) r c, on other text before the run: where is the model unsure (u, the signal above
    its least, in units of its deviation), of what is rare there and not copied (r and c as in `specificity`)? C and c
    are the same on the forget batches of the run with log l_t in place of (1 + u) r c: what is lost, and not kept by
    the retain text? a = `share` min(1, mean l_t), so that the run counts as far as it has made something forgotten. No
    label is read, and no pass is made but one over `rows` samples at the start.

    Attributes:
        width: size of the hidden state.
        device: where these tensors are.
        state: the frame of z ("shift", "scale"); the covariances of the start and of the run ("start.states",
            "start.signal", "states", "signal", and the "mean" of z); "penalty", "w", the "level" and "spread" of w . z
            on forget tokens, and the "average" of g there; the count of "step"s.
        layer: the layers whose states are read, as indices into the model's hidden states.
        signal: the scorer that w predicts on other text; any that reads one forward pass.
        rows: samples of other text, at most.
        ridge: the penalty, in units of the variance of z; 0 takes 3 times what cross-validation on the other text
            chooses, since neither memorised text nor a model that changes is among its folds.
        share: how much the run counts beside the start, once a nat a token is lost; from 0 to 1.
        memory: model steps after which a batch counts for 1/e.
        every: model steps a scorer step; 0 leaves w as it is at the start.
        power: contrast, as of `specificity`.
    """

    width: int
    device: str = "cpu"
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    layer: tuple[int, ...] = (-1, -1, -1, -1)
    _: KW_ONLY
    signal: str = "alternatives"
    rows: int = 100
    ridge: float = 0.0
    share: float = 0.2
    memory: float = 10.0
    every: int = 4
    power: float = 4.0
    name: ClassVar[str] = "learned"
    hidden: ClassVar[tuple[str, ...]] = WHERE
    relative: ClassVar[bool] = False
    pretrain: ClassVar[int] = 0

    def __post_init__(self) -> None:
        self.layer = tuple(self.layer)  # a list, if it comes from a file
        for key, least in (("ridge", 0), ("memory", 1), ("power", 0.01), ("every", 0), ("share", 0)):
            most = 1 if key == "share" else math.inf
            if not (least <= getattr(self, key) <= most and math.isfinite(getattr(self, key))):
                limit = f"from 0 to 1, not {self.share}" if key == "share" else f"at least {least} and finite"
                raise UserError(f"learned: {key} must be {limit}" + f", not {getattr(self, key)}" * (key != "share"))

    def to(self, device: Any) -> LearnedScorer:
        """The same scorer on another device."""
        return replace(self, state={name: tensor.to(device) for name, tensor in self.state.items()}, device=str(device))

    @property
    def factor(self) -> float:
        """As weights, scores are multiplied by this: over the batch learned last their mean is 1, as of fixed ones."""
        return 1 / float(self.state["average"].clamp(min=1e-6))

    def begin(self, context: TaskContext, steps: int, *, resumed: bool) -> None:
        """Fit the start on other text by one forward pass; a resumed run has it in its checkpoint."""
        inner = max(1, round(DEPTH * context.lm.config.num_hidden_layers))
        self.layer = (-1, -1, inner, inner)
        if resumed:
            return
        samples = other_text(context, self.rows)
        text = read(context, context.lm, samples, self.signal, WHERE, self.layer)
        text.signal = _specific(context.lm, samples, text.signal)
        folds = draw_folds(samples, context.seed)
        fitted, penalty = text.fit([folds[s.id] for s in samples], self.ridge)
        self.state = {name: fitted[name] for name in ("shift", "scale")} | {"step": torch.zeros(1)}
        self.state["penalty"] = torch.tensor([float(penalty) * (1 if self.ridge else 3)])
        self.state = {name: tensor.to(self.device) for name, tensor in self.state.items()}
        mean, states, signal = self._moments(torch.cat(text.states), torch.cat(text.signal))
        self.state |= {"start.states": states, "start.signal": signal}
        self.state |= {"mean": mean, "states": states.clone(), "signal": torch.zeros_like(signal)}
        self._solve(0.0)
        self.state["average"] = self._g(torch.cat(text.states)).mean()[None]

    def go_on_from(self, earlier: LearnedScorer) -> None:
        """Go on with what another run's scorer had learned at its end."""
        self.state = earlier.state

    def learns_at(self, step: int) -> bool:
        """Whether it learns at a model step, counted from 1."""
        return self.every > 0 and step % self.every == 0

    def flops(self, tokens: int) -> float:
        """Of learning from a batch of so many tokens: the covariance, and the solution by Cholesky's factors."""
        size = self.width * len(WHERE)
        return 2.0 * tokens * size**2 + size**3 / 3

    def scores(self, stats: TokenStats) -> Tensor:
        """(N,) g of a batch's answer tokens, from their hidden states."""
        assert stats.hidden is not None
        return self._g(stats.hidden)

    def learn(self, stats: TokenStats) -> None:
        """Add a batch's states and losses, and solve for w again. Tensors of `state` are replaced, not changed."""
        assert stats.hidden is not None
        nll = stats.nll.detach().float()
        done = float(self.state["step"]) + 1
        new = max(1 / done, 1 - math.exp(-self.every / self.memory))  # at first the mean over all batches
        for name, value in zip(
            ("mean", "states", "signal"), self._moments(stats.hidden, nll.clamp(min=FLOOR).log()), strict=True
        ):
            self.state[name] = (1 - new) * self.state[name] + new * value
        self.state["step"] = self.state["step"] + 1
        self._solve(self.share * min(1.0, float(nll.mean())))
        self.state["average"] = self._g(stats.hidden).mean()[None]

    def _g(self, hidden: Tensor) -> Tensor:
        s = (self._standard(hidden) @ self.state["w"] - self.state["level"]) / self.state["spread"]
        return torch.special.ndtr(s) ** self.power

    def _standard(self, hidden: Tensor) -> Tensor:
        return (hidden.float() - self.state["shift"]) / self.state["scale"]

    def _moments(self, hidden: Tensor, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of z, its covariance, and its covariance with the signal in units of the signal's deviation."""
        z, y = self._standard(hidden), signal.float() - signal.float().mean()
        mean = z.mean(0)
        z = z - mean
        deviation = y.square().mean().sqrt().clamp(min=1e-12)
        return mean, z.T @ z / len(z), z.T @ y / deviation / len(z)

    def _solve(self, share: float) -> None:
        """w, and the level and spread of w . z over the tokens seen last."""
        state = self.state
        states, signal = ((1 - share) * state[f"start.{name}"] + share * state[name] for name in ("states", "signal"))
        penalty = state["penalty"] * torch.eye(len(states), device=states.device)
        factor, _ = torch.linalg.cholesky_ex(states + penalty)  # NaN where the states are; then the run's loss is, too
        w = torch.cholesky_solve(signal[:, None], factor)[:, 0]
        spread = (w @ state["states"] @ w).clamp(min=0).sqrt()[None] + 1e-12
        self.state |= {"w": w, "level": (w @ state["mean"])[None], "spread": spread}


def _specific(lm: LanguageModel, samples: list[Sample], signal: list[Tensor]) -> list[Tensor]:
    """(1 + u) r c of each sample's answer tokens, from their signal; r compares the samples with one another."""
    values = torch.cat(signal)
    deviation, least = values.std(correction=0).clamp(min=1e-12), values.min()
    parts = []
    for sample, rare, own in zip(samples, rarity(lm, samples, samples), signal, strict=True):
        factor = rare * np.where(copied(lm, sample), COPIED, 1.0)
        parts.append((1 + (own - least) / deviation) * torch.tensor(factor, device=own.device).float())
    return parts
