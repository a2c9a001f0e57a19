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
from workbench.models import PROMPT, Encoding, TokenStats, encode
from workbench.scorers.amortised import draw_folds, other_text, read
from workbench.scorers.base import TaskContext, scorer

WHERE = ("token", "predicting", "token", "predicting")  # two states of the last layer and two of an inner one
DEPTH = 0.75  # of the layers: the inner one
NEAREST = 20  # samples whose answers are searched for a token
ROWS = (10, 100)  # samples of other text that a start reads: the fewest and the most
EACH = 100  # answers of the run for each of them


@scorer("learned", range=(0, 1), kind="live", needs=("text",), run={"objective": "wga", "lr": 3e-5},
        source="ours", certainty="ours")  # fmt: skip
@dataclass
class LearnedScorer:
    """g = Phi(s)^power, s = w . z in units of its spread over forget tokens: learned while the model forgets them.

    z are four states side by side, standardised: of the last layer and of the one three quarters up, at the token and
    at the one that predicts it. w solves ((1 - a) C0 + a C + ridge I) w = (1 - a) c0 + a c. C0 is the covariance of
    z, and c0 that of z and (1 + u) r c, on other text before the run: where is the model unsure (u), of what is rare
    there (r) and not copied from the question (c; see `specific`)? C and c are the same on the forget batches of the
    run, with g0 rank(l_t) in place of (1 + u) r c, g0 by the w of the start: what is lost, of what only memory can
    supply? (l_t alone leads to names, which are lost along with the facts.) a = `share` min(1, mean l_t), so that the
    run counts as far as it has made something forgotten. No label is read, and no pass is made but one over `rows`
    samples at the start.

    Attributes:
        width: size of the hidden state.
        device: where these tensors are.
        state: the frame of z ("shift", "scale"); the covariances of the start and of the run ("start.states",
            "start.signal", "states", "signal"); "penalty", "start.w", "w", the "level" and "spread" of w . z on the
            tokens seen last, and the "average" of g there; the count of "step"s.
        layer: the layers whose states are read, as indices into the model's hidden states.
        signal: the scorer that w predicts on other text; any that reads one forward pass.
        rows: samples of other text, at most; 0 takes one for every 100 answers that the run reads, from 10 to 100, so
            that the start is a small part of the run.
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
    rows: int = 0
    ridge: float = 0.0
    share: float = 0.25
    memory: float = 10.0
    every: int = 5
    power: float = 4.0
    name: ClassVar[str] = "learned"
    hidden: ClassVar[tuple[str, ...]] = WHERE
    relative: ClassVar[bool] = False
    pretrain: ClassVar[int] = 0

    def __post_init__(self) -> None:
        self.layer = tuple(self.layer)  # a list, if it comes from a file
        if len(self.layer) != len(WHERE) or not all(isinstance(layer, int) for layer in self.layer):
            raise UserError(f"learned: layer is {len(WHERE)} whole numbers, not {self.layer}")
        for key, least in (("ridge", 0), ("memory", 1), ("power", 0.01), ("every", 0), ("share", 0)):
            most = 1 if key == "share" else math.inf
            if not (least <= getattr(self, key) <= most and math.isfinite(getattr(self, key))):
                limit = "from 0 to 1" if key == "share" else f"at least {least} and finite"
                raise UserError(f"learned: {key} must be {limit}, not {getattr(self, key)}")

    def to(self, device: Any) -> LearnedScorer:
        """The same scorer on another device."""
        return replace(self, state={name: tensor.to(device) for name, tensor in self.state.items()}, device=str(device))

    @property
    def factor(self) -> float:
        """As weights, scores are multiplied by this: over the batch learned last their mean is 1, as of fixed ones."""
        return 1 / float(self.state["average"].clamp(min=1e-6))

    def begin(self, context: TaskContext, steps: int, *, resumed: bool, answers: int = 0) -> None:
        """Fit the start on other text by one forward pass; a resumed run has it in its checkpoint."""
        inner = max(1, round(DEPTH * context.lm.config.num_hidden_layers))
        self.layer = (-1, -1, inner, inner)
        if resumed:
            return
        samples = other_text(context, self.rows or min(ROWS[1], max(ROWS[0], answers // EACH)))
        text = read(context, context.lm, samples, self.signal, WHERE, self.layer)
        text.signal = specific([encode(context.lm, s) for s in samples], text.signal)
        folds = draw_folds(samples, context.seed)
        fitted, penalty = text.fit([folds[s.id] for s in samples], self.ridge)
        state = {name: fitted[name] for name in ("shift", "scale")} | {"step": torch.zeros(1)}
        state["penalty"] = torch.tensor([float(penalty) * (1 if self.ridge else 3)])
        self.state = {name: tensor.to(self.device) for name, tensor in state.items()}
        z = self._standard(torch.cat(text.states))
        states, signal = _moments(z, torch.cat(text.signal))
        self.state |= {"start.states": states, "start.signal": signal}
        self.state |= {"states": torch.zeros_like(states), "signal": torch.zeros_like(signal)}
        self._solve(0.0, z)
        self.state["start.w"] = self.state["w"].clone()

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
        s = (self._standard(stats.hidden) @ self.state["w"] - self.state["level"]) / self.state["spread"]
        return torch.special.ndtr(s) ** self.power

    def learn(self, stats: TokenStats) -> None:
        """Add a batch's states and losses, and solve for w again. Tensors of `state` are replaced, not changed."""
        assert stats.hidden is not None
        nll, z = stats.nll.detach().float(), self._standard(stats.hidden)
        rank = nll.argsort(stable=True).argsort().float() / len(nll)
        moments = _moments(z, self._g(z @ self.state["start.w"]) * rank)
        done = float(self.state["step"]) + 1
        new = max(1 / done, 1 - math.exp(-self.every / self.memory))  # at first the mean over all batches
        for name, value in zip(("states", "signal"), moments, strict=True):
            self.state[name] = (1 - new) * self.state[name] + new * value
        self.state["step"] = self.state["step"] + 1
        self._solve(self.share * min(1.0, float(nll.mean())), z)

    def _standard(self, hidden: Tensor) -> Tensor:
        return (hidden.float() - self.state["shift"]) / self.state["scale"]

    def _g(self, s: Tensor) -> Tensor:
        """(N,) g of tokens with these w . z, in units of their own spread."""
        return torch.special.ndtr((s - s.mean()) / (s.std(correction=0) + 1e-12)) ** self.power

    def _solve(self, share: float, z: Tensor) -> None:
        """W of a mix of the start and the run, with the level and spread of w . z, and the average of g, over z."""
        state = self.state
        states, signal = ((1 - share) * state[f"start.{name}"] + share * state[name] for name in ("states", "signal"))
        penalty = state["penalty"] * torch.eye(len(states), device=states.device)
        factor, _ = torch.linalg.cholesky_ex(states + penalty)  # NaN where the states are; then the run's loss is, too
        w = torch.cholesky_solve(signal[:, None], factor)[:, 0]
        s = z @ w
        spread = s.std(correction=0)[None] + 1e-12
        state |= {"w": w, "level": s.mean()[None], "spread": spread, "average": self._g(s).mean()[None]}


def _moments(z: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    """The covariance of z (N, d), and that of z and a signal (N,) in units of the signal's deviation."""
    z, y = z - z.mean(0), signal.float() - signal.float().mean()
    deviation = y.square().mean().sqrt().clamp(min=1e-12)
    return z.T @ z / len(z), z.T @ y / deviation / len(z)


def specific(encodings: list[Encoding], signal: list[Tensor]) -> list[Tensor]:
    """(1 + u) r c of the answer tokens of each sample, from their signal.

    u is the signal above its least, in units of its deviation. r = log((k + 1) / (n + 1/2)) / log((k + 1) / (1/2)),
    where n of the k = 20 samples with the most similar questions (by TF-IDF of their tokens; the sample itself is one)
    have the token in their answer. c is 1/2 for a token that the question has too, else 1.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    answers = [[e.ids[p] for p in e.answer_positions] for e in encodings]
    questions = [[e.ids[p] for p in e.positions(PROMPT)] for e in encodings]
    texts = [question or answer for question, answer in zip(questions, answers, strict=True)]
    vectors = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True).fit_transform(texts)
    values, k, parts = torch.cat(signal), min(NEAREST, len(encodings)), []
    for place, (own, answer) in enumerate(zip(signal, answers, strict=True)):
        nearest = np.argsort(-(vectors @ vectors[place].T).toarray()[:, 0].round(9), kind="stable")[:k]  # ties by place
        n = np.array([sum(token in answers[i] for i in nearest) for token in answer])
        factor = (
            np.log((k + 1) / (n + 0.5)) / np.log((k + 1) / 0.5) * np.where(np.isin(answer, questions[place]), 0.5, 1)
        )
        u = (own - values.min()) / values.std(correction=0).clamp(min=1e-12)
        parts.append((1 + u) * torch.tensor(factor, device=own.device).float())
    return parts
