"""ATWU's scorer: a map of hidden states, trained in alternation with the model. After arXiv 2606.06320."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import UserError
from workbench.models import TokenStats
from workbench.objectives import saturation_factor
from workbench.scorers.base import scorer

AUTHORS = {
    "loss": "B", "unit": "nats", "beta": 5.0, "lam_ent": 1.0, "lam_pop": 1.0, "budget": 0.2, "lam_l2": 0.01,
    "every": 10, "hidden": "token", "inputs": "raw", "optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-4,
    "clip": 1.0, "decay": "linear",
}  # fmt: skip
# The scorer's part of the authors' presets; the model's (steps, batches, rate) stands in a run's settings.
PRESETS: dict[str, dict[str, Any]] = {
    "published": AUTHORS,
    "tofu-1b": AUTHORS | {"lam_pop": 10.0, "lam_l2": 1.0, "every": 5},
    "tofu-8b": AUTHORS | {"lam_pop": 15.0, "lam_l2": 1.0, "every": 5},
}
CHOICES = {
    "loss": ("A", "B"),
    "unit": ("nats", "mean"),
    "saturation": ("weighted", "probability", "none"),
    "hidden": ("token", "predicting"),
    "inputs": ("raw", "unit", "standard"),
    "output": ("sigmoid", "softmax"),
    "optimizer": ("sgd", "adam"),
    "decay": ("linear", "none"),
}


@scorer(
    "atwu",
    range=(0, 1),
    kind="live",
    presets=PRESETS,
    source="after arXiv 2606.06320",
    certainty="sure for the authors' code",
)
@dataclass
class AtwuScorer:
    """A linear scorer g = sigmoid(v . h + b), learned in alternation with the model; every g is 0.5 at the start.

    Scorer step, with the model frozen: minimise, for `loss` "A", mean (1 - g) l + R; for "B" ("matched"),
    -mean g l sg(exp(-g l))^beta + R; with R = lam_ent mean H(g) + lam_pop mean over samples (mean_t STE[g > .5] -
    budget)^2 + lam_l2 |v|^2. Retain text enters through the model alone.

    The defaults are this project's preset (docs/findings); the authors' stand in `PRESETS`.

    Attributes:
        width: size of the hidden state.
        steps: scorer steps over which the learning rate falls to zero.
        device: where the parameters live.
        state: parameters ("v" with the bias as last entry; "w1", "b1" of the hidden units), optimiser and counters.
        loss: which scorer objective.
        unit: l in nats, or as a multiple of the batch's mean (ours), so that a scorer learns as much from a model that
            has memorised everything (l near 1e-4) as from one that has forgotten.
        beta: strength of saturation.
        saturation: "weighted", "probability" or "none"; see `saturation_factor`.
        lam_ent: weight of the entropy of g (drives scores to 0 or 1).
        lam_pop: weight of the budget.
        budget: share of tokens that may be selected.
        lam_l2: weight of the squared norm of v.
        every: model steps a scorer step (N); 0 leaves the scorer as `pretrain` made it.
        pretrain: scorer steps on the unchanged model, before the run.
        hidden: the state at the token itself, or the one that predicts it.
        inputs: states as they are, at length 1, or standardised by the first batch that is learned from.
        output: sigmoid, or softmax over the sample's tokens.
        units: hidden units of an MLP between state and score; 0 is the linear scorer.
        optimizer: "sgd" with momentum, or "adam".
        lr: learning rate at the start.
        momentum: of SGD.
        weight_decay: added to the gradient, times the parameter.
        clip: largest gradient norm; 0 does not clip.
        decay: of the learning rate.
        seed: of the hidden units' first weights; -1 takes the run's.
    """

    width: int
    device: str = "cpu"
    steps: int = 1
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _: KW_ONLY
    loss: Literal["A", "B"] = "A"
    unit: Literal["nats", "mean"] = "mean"
    beta: float = 5.0
    saturation: Literal["weighted", "probability", "none"] = "weighted"
    lam_ent: float = 0.0
    lam_pop: float = 1.0
    budget: float = 0.2
    lam_l2: float = 0.01
    every: int = 1
    pretrain: int = 0
    hidden: Literal["token", "predicting"] = "predicting"
    inputs: Literal["raw", "unit", "standard"] = "standard"
    output: Literal["sigmoid", "softmax"] = "sigmoid"
    units: int = 0
    optimizer: Literal["sgd", "adam"] = "adam"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 1.0
    decay: Literal["linear", "none"] = "none"
    seed: int = -1
    name: ClassVar[str] = "atwu"
    layer: ClassVar[int] = -1
    relative: ClassVar[bool] = False

    def to(self, device: Any) -> AtwuScorer:
        """The same scorer on another device."""
        return replace(self, device=str(device))

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UserError(f"atwu: {key} is {' or '.join(allowed)}, not '{getattr(self, key)}'")
        for key in ("beta", "lam_ent", "lam_pop", "budget", "lam_l2", "lr", "momentum", "weight_decay", "clip"):
            if not (getattr(self, key) >= 0 and math.isfinite(getattr(self, key))):
                raise UserError(f"atwu: {key} must be at least 0 and finite, not {getattr(self, key)}")
        for key in ("every", "pretrain", "units"):
            if getattr(self, key) < 0:
                raise UserError(f"atwu: {key} must be at least 0, not {getattr(self, key)}")
        if not self.every and not self.pretrain and not self.state:
            raise UserError("atwu: with every=0 the scorer learns before the run or never; give pretrain=N too")
        if not self.state:
            self.state = self._start()
        self.state = {name: tensor.to(self.device) for name, tensor in self.state.items()}

    def _start(self) -> dict[str, Tensor]:
        parts = {"v": torch.zeros((self.units or self.width) + 1)}
        if self.units:
            generator = torch.Generator().manual_seed(max(0, self.seed))
            parts["w1"] = torch.randn(self.width, self.units, generator=generator) / self.width**0.5
            parts["b1"] = torch.zeros(self.units)
        moments = {f"{m}.{name}": torch.zeros_like(p) for name, p in parts.items() for m in ("m1", "m2")}
        frame = {"shift": torch.zeros(self.width), "scale": torch.ones(self.width), "step": torch.zeros(1)}
        return {**parts, **moments, **frame}

    @property
    def products(self) -> int:
        """Multiply-adds of one token's score, for the cost ledger."""
        return self.width * max(1, self.units) + self.units

    @property
    def parameters(self) -> list[str]:
        """Names of what is learned."""
        return [name for name in ("v", "w1", "b1") if name in self.state]

    def logits(self, parameters: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """(N,) scores before the sigmoid or softmax, for states (N, d)."""
        hidden = hidden.float()
        if self.inputs == "unit":
            hidden = F.normalize(hidden, dim=-1)
        elif self.inputs == "standard":
            hidden = (hidden - self.state["shift"]) / self.state["scale"]
        if self.units:
            hidden = torch.relu(hidden @ parameters["w1"] + parameters["b1"])
        return hidden @ parameters["v"][:-1] + parameters["v"][-1]

    def weights(self, logits: Tensor, stats: TokenStats) -> Tensor:
        """(N,) g in (0, 1)."""
        if self.output == "sigmoid":
            return torch.sigmoid(logits)
        top = torch.full((stats.samples,), -torch.inf, device=logits.device)
        top = top.scatter_reduce(0, stats.rows, logits.detach(), "amax")
        mass = (logits - top[stats.rows]).exp()
        return mass / stats.sample_sum(mass)[stats.rows]

    def scores(self, stats: TokenStats) -> Tensor:
        """(N,) g of a batch's answer tokens, from their hidden states."""
        assert stats.hidden is not None
        return self.weights(self.logits(self.state, stats.hidden), stats)

    def objective(self, parameters: dict[str, Tensor], stats: TokenStats) -> Tensor:
        """The scorer's loss at some parameters, for hidden states and losses without gradient."""
        assert stats.hidden is not None
        logits, nll = self.logits(parameters, stats.hidden), stats.nll.detach()
        g = self.weights(logits, stats)
        pull = nll / nll.mean().clamp(min=1e-12) if self.unit == "mean" else nll
        if self.loss == "A":
            fit = ((1 - g) * pull).mean()
        else:
            fit = -(g * pull * saturation_factor(self.saturation, nll, g * nll, self.beta)).mean()
        if self.output == "sigmoid":
            entropy = (F.softplus(logits) - g * logits).mean()  # H(g), stable at both ends
        else:
            inside = g.clamp(1e-12, 1 - 1e-6)  # log has no gradient at 0
            entropy = -(inside * inside.log() + (1 - inside) * (1 - inside).log()).mean()
        hard = (g > 0.5).float() + g - g.detach()
        population = ((stats.sample_mean(hard) - self.budget) ** 2).mean()
        norm = parameters["v"][:-1].square().sum()
        return fit + self.lam_ent * entropy + self.lam_pop * population + self.lam_l2 * norm

    def learn(self, stats: TokenStats) -> float:
        """One step on a batch's hidden states and losses; returns the scorer's loss before it."""
        assert stats.hidden is not None
        if self.inputs == "standard" and not self.state["step"]:
            spread, self.state["shift"] = torch.std_mean(stats.hidden.float(), dim=0)
            self.state["scale"] = spread + 1e-3 * spread.mean() + 1e-12
        names = self.parameters
        parameters = {name: self.state[name].clone().requires_grad_(True) for name in names}
        value = self.objective(parameters, stats)
        gradients = torch.autograd.grad(value, [parameters[name] for name in names])
        if self.clip:
            norm = torch.stack([g.norm() for g in gradients]).norm()
            gradients = tuple(g * (self.clip / norm.clamp(min=self.clip)) for g in gradients)
        left = 1 - float(self.state["step"]) / max(1, self.steps) if self.decay == "linear" else 1.0
        self.state["step"] = self.state["step"] + 1
        for name, gradient in zip(names, gradients, strict=True):
            direction = self._direction(name, gradient + self.weight_decay * self.state[name])
            self.state[name] = self.state[name] - self.lr * max(0.0, left) * direction
        return float(value.detach())

    def _direction(self, name: str, gradient: Tensor) -> Tensor:
        """SGD with momentum, or Adam with its usual constants, bias corrected."""
        first, second = f"m1.{name}", f"m2.{name}"
        if self.optimizer == "sgd":
            self.state[first] = self.momentum * self.state[first] + gradient
            return self.state[first]
        count = float(self.state["step"])
        self.state[first] = 0.9 * self.state[first] + 0.1 * gradient
        self.state[second] = 0.999 * self.state[second] + 0.001 * gradient.square()
        unbiased = self.state[second] / (1 - 0.999**count)
        return self.state[first] / (1 - 0.9**count) / (unbiased.sqrt() + 1e-8)
