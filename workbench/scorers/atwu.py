"""The scorer `atwu`: a map of hidden states, trained in alternation with the model. After arXiv 2606.06320.

The objective of the same name, with which the paper trains the model, is in `objectives`.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import UserError
from workbench.models import TokenStats
from workbench.objectives import saturation_factor
from workbench.scorers.base import TaskContext, scorer

AUTHORS = {
    "loss": "B", "unit": "nats", "beta": 5.0, "lam_ent": 1.0, "lam_pop": 1.0, "budget": 0.2, "lam_l2": 0.01,
    "l2_bias": True, "every": 10, "at": "last", "hidden": "token", "inputs": "raw", "optimizer": "sgd", "lr": 0.05,
    "weight_decay": 1e-4, "clip": 1.0, "decay": "linear",
}  # fmt: skip
# The scorer's part of the authors' presets; the model's part (steps, batches, rate) belongs to a run's settings.
PRESETS: dict[str, dict[str, Any]] = {
    "published": AUTHORS,
    "tofu-1b": AUTHORS | {"lam_pop": 10.0, "lam_l2": 1.0, "every": 5, "decay": "none"},
    "tofu-8b": AUTHORS | {"lam_pop": 15.0, "lam_l2": 1.0, "every": 5},
}


# How the authors train the model, whatever the preset.
@scorer("atwu", range=(0, 1), kind="live", presets=PRESETS, run={"objective": "atwu", "lr": 1e-5},
        needs=("text",), source="after arXiv 2606.06320", certainty="sure for the authors' code")  # fmt: skip
@dataclass
class AtwuScorer:
    """A linear scorer g = sigmoid(v . h + b), learned in alternation with the model; every g is 0.5 at the start.

    Scorer step, with the model frozen: minimise, for `loss` "A", mean (1 - g) l + R; for "B" ("matched"),
    -mean g l sg(exp(-g l))^beta + R; with R = lam_ent mean H(g) + lam_pop mean over samples (mean_t STE[g > .5] -
    budget)^2 + lam_l2 |v|^2. Retain text enters through the model alone.

    The defaults are this project's preset (docs/findings); the authors' are in `PRESETS`. Ours differ in more than
    numbers: the scorer learns at steps 1, 1 + N, ... where theirs learns at N, 2 N, ... (`at`), the bias is outside the
    L2 term (`l2_bias`), and the rate does not fall (`decay`; nor does it in their file for TOFU and the 1B model).

    Attributes:
        width: size of the hidden state.
        steps: scorer steps over which the learning rate falls to zero.
        device: where these tensors are.
        state: parameters ("v" with the bias as last entry; "w1", "b1" of the hidden units), the optimiser's moments
            ("m1.v", "m2.v", ...; SGD uses "m1" only), the frame of standardised inputs, and the count of steps.
        loss: the scorer's loss, A or B.
        unit: l in nats, or as a multiple of the batch's mean (ours), so that a scorer learns as much from a model that
            has memorised everything (l near 1e-4) as from one that has forgotten.
        beta: strength of saturation.
        saturation: "weighted", "probability" or "none"; see `saturation_factor`.
        lam_ent: weight of the entropy of g, which drives scores to 0 or 1.
        lam_pop: weight of the budget.
        budget: share of tokens that may be selected.
        lam_l2: weight of the squared norm of v.
        l2_bias: whether that norm includes the bias b, as the authors' does.
        every: model steps a scorer step (N); 0 leaves the scorer as `pretrain` made it.
        at: which of N model steps the scorer learns at; the authors' learns at the last: N, 2 N, ...
        pretrain: scorer steps on the unchanged model, before the run.
        hidden: the state at the token itself, or the one that predicts it.
        inputs: states as they are, scaled to norm 1, or standardised by the first batch.
        output: sigmoid, or softmax over the sample's tokens.
        units: hidden units of an MLP between state and score; 0 is the linear scorer.
        optimizer: "sgd" with momentum, or "adam".
        lr: learning rate at the start.
        momentum: of SGD.
        weight_decay: added to the gradient, times the parameter.
        clip: largest gradient norm; 0 does not clip.
        decay: of the learning rate.
        seed: of the hidden units' initial weights; -1 takes the run's.
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
    l2_bias: bool = False
    every: int = 1
    at: Literal["first", "last"] = "first"
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
    factor: ClassVar[float] = 1.0

    def to(self, device: Any) -> AtwuScorer:
        """The same scorer on another device."""
        return replace(self, device=str(device))

    def __post_init__(self) -> None:
        for key, kind in get_type_hints(type(self)).items():
            if (allowed := get_args(kind)) and get_origin(kind) is Literal and getattr(self, key) not in allowed:
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

    def begin(self, context: TaskContext, steps: int, *, resumed: bool, answers: int = 0) -> None:
        """Get ready for a run of so many model steps; nothing is learned yet."""
        self.steps = self.pretrain + self.turns(steps)

    def go_on_from(self, earlier: AtwuScorer) -> None:
        """Go on with what another run's scorer had learned at its end."""
        self.state = earlier.state
        self.steps += int(earlier.state["step"])

    def flops(self, tokens: int) -> float:
        """Of one scorer step on a batch of so many tokens: three products, of the score and of its gradient."""
        return 6.0 * tokens * (self.width * max(1, self.units) + self.units)

    def learns_at(self, step: int) -> bool:
        """Whether it learns at a model step, counted from 1."""
        return self.every > 0 and (step - (1 if self.at == "first" else 0)) % self.every == 0

    def turns(self, steps: int) -> int:
        """At how many of so many model steps it learns."""
        return (steps + (self.every - 1 if self.at == "first" else 0)) // self.every if self.every else 0

    @property
    def parameters(self) -> list[str]:
        """The names of the learned tensors in `state`."""
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
        """The scorer's loss as a function of its parameters; the hidden states and l have no gradient."""
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
        norm = (parameters["v"] if self.l2_bias else parameters["v"][:-1]).square().sum()
        return fit + self.lam_ent * entropy + self.lam_pop * population + self.lam_l2 * norm

    def learn(self, stats: TokenStats) -> float:
        """One step on a batch's hidden states and losses; returns the scorer's loss before it."""
        assert stats.hidden is not None
        if self.inputs == "standard" and not self.state["step"]:
            spread, self.state["shift"] = torch.std_mean(stats.hidden.float(), dim=0)
            self.state["scale"] = spread + 1e-3 * spread.mean() + 1e-12
        parameters = {name: self.state[name].clone().requires_grad_() for name in self.parameters}
        value = self.objective(parameters, stats)
        value.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(parameters.values(), self.clip)
        self._update(parameters)
        return float(value.detach())

    def _update(self, parameters: dict[str, Tensor]) -> None:
        """One step of torch's optimiser, whose moments are in `state`, so that a run resumes to the same bits.

        Every tensor of `state` is replaced, not changed: a step that is tried again starts from the earlier ones.
        """
        done = float(self.state["step"])
        left = max(0.0, 1 - done / max(1, self.steps)) if self.decay == "linear" else 1.0
        lr, decay = self.lr * left, self.weight_decay
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            moments = {"m1": "momentum_buffer"}
            optimizer = torch.optim.SGD(parameters.values(), lr, self.momentum, weight_decay=decay)
        else:
            moments = {"m1": "exp_avg", "m2": "exp_avg_sq"}
            optimizer = torch.optim.Adam(parameters.values(), lr, weight_decay=decay)
        for name, parameter in parameters.items():
            entry = {long: self.state[f"{short}.{name}"].clone() for short, long in moments.items()}
            optimizer.state[parameter] = {"step": torch.tensor(done), **entry}
        optimizer.step()
        for name, parameter in parameters.items():
            entry = optimizer.state[parameter]
            self.state |= {f"{short}.{name}": entry[long] for short, long in moments.items()}
            self.state[name] = parameter.detach()
        self.state["step"] = self.state["step"] + 1
