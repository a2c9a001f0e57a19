"""ATWU's scorer: a linear map of hidden states, trained in alternation with the model. After arXiv 2606.06320."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from workbench.models import LanguageModel
from workbench.registry import UserError
from workbench.scorers.table import scorer
from workbench.tokens import TokenStats


@dataclass
class AtwuScorer:
    """g_t = sigmoid(v . h_t + b), weights zero at the start, so that every g is 0.5.

    Scorer step, with the model frozen: minimise, for `loss` "A", mean (1 - g) l + R; for "B" ("matched"),
    -mean g l sg(exp(-g l))^beta + R; with R = lam_ent mean H(g) + lam_pop mean over samples (mean_t STE[g > .5] -
    budget)^2 + lam_l2 |v|^2. SGD with momentum, gradient clipping and linear decay. The defaults are the authors'.

    Attributes:
        width: size of the hidden state.
        loss: which scorer objective.
        beta: saturation.
        lam_ent: weight of the entropy of g (drives scores to 0 or 1).
        lam_pop: weight of the budget.
        budget: share of tokens that may be selected.
        lam_l2: weight of the squared norm.
        every: model steps a scorer step (N).
        lr: learning rate at the start.
        momentum: of SGD.
        weight_decay: of SGD.
        clip: largest gradient norm.
        steps: scorer steps over which the learning rate falls to zero.
    """

    width: int
    loss: Literal["A", "B"] = "B"
    beta: float = 5.0
    lam_ent: float = 1.0
    lam_pop: float = 1.0
    budget: float = 0.2
    lam_l2: float = 0.01
    every: int = 10
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 1.0
    steps: int = 1
    device: str = "cpu"
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"atwu: every must be at least 1, not {self.every}")
        if self.loss not in ("A", "B"):
            raise UserError(f"atwu: loss is 'A' or 'B', not '{self.loss}'")
        if not self.state:
            shape = self.width + 1  # the bias is the last entry
            self.state = {"v": torch.zeros(shape), "velocity": torch.zeros(shape), "step": torch.zeros(1)}
        self.state = {name: tensor.to(self.device) for name, tensor in self.state.items()}

    def scores(self, hidden: Tensor) -> Tensor:
        """(N,) g in (0, 1) for states (N, d)."""
        return torch.sigmoid(hidden.float() @ self.state["v"][:-1] + self.state["v"][-1])

    def objective(self, v: Tensor, hidden: Tensor, nll: Tensor, stats: TokenStats) -> Tensor:
        """The scorer's loss at parameters `v` (d + 1,), for states (N, d) and losses (N,), both without gradient."""
        logit = hidden @ v[:-1] + v[-1]
        g = torch.sigmoid(logit)
        if self.loss == "A":
            fit = ((1 - g) * nll).mean()
        else:
            fit = -(g * nll * (-self.beta * (g * nll).detach()).exp()).mean()
        entropy = (torch.nn.functional.softplus(logit) - g * logit).mean()  # H(g), stable at both ends
        hard = (g > 0.5).float() + g - g.detach()
        population = ((stats.sample_mean(hard) - self.budget) ** 2).mean()
        return fit + self.lam_ent * entropy + self.lam_pop * population + self.lam_l2 * v[:-1].square().sum()

    def learn(self, stats: TokenStats) -> float:
        """One SGD step on a batch's hidden states and losses; returns the scorer's loss before it."""
        assert stats.hidden is not None
        v = self.state["v"].clone().requires_grad_(True)
        value = self.objective(v, stats.hidden.detach(), stats.nll.detach(), stats)
        (gradient,) = torch.autograd.grad(value, v)
        gradient = gradient * (self.clip / gradient.norm().clamp(min=self.clip))
        gradient = gradient + self.weight_decay * self.state["v"]
        done = float(self.state["step"])
        rate = self.lr * max(0.0, 1 - done / max(1, self.steps))
        self.state["velocity"] = self.momentum * self.state["velocity"] + gradient
        self.state["v"] = self.state["v"] - rate * self.state["velocity"]
        self.state["step"] = self.state["step"] + 1
        return float(value.detach())

    def save(self, path: Path) -> None:
        """Write the parameters alone, as safetensors."""
        from safetensors.torch import save_file

        save_file({name: tensor.cpu() for name, tensor in self.state.items()}, path)


@scorer("atwu", range=(0, 1), live=True, source="after arXiv 2606.06320; sure for the authors' code")
def atwu(
    lm: LanguageModel,
    *,
    loss: str = "B",
    beta: float = 5.0,
    lam_ent: float = 1.0,
    lam_pop: float = 1.0,
    budget: float = 0.2,
    lam_l2: float = 0.01,
    every: int = 10,
) -> AtwuScorer:
    """The learned scorer with the authors' default preset, ready to be trained in alternation with the model."""
    return AtwuScorer(
        lm.module.config.hidden_size,
        loss=loss,  # type: ignore[arg-type]
        beta=beta,
        lam_ent=lam_ent,
        lam_pop=lam_pop,
        budget=budget,
        lam_l2=lam_l2,
        every=every,
        device=str(lm.device),
    )
