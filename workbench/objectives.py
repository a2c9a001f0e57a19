"""Forget and retain losses. A forget loss is a function of packed token log-probabilities and token weights.

Notation: l_t = -log p_t in nats, w_t the token's weight, sg() stop-gradient, mean over the batch's answer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.registry import Registry, UserError
from workbench.tokens import TokenStats

objective = Registry("objective")
retain_loss = Registry("retain loss")


@dataclass
class ForgetTokens:
    """The forget batch as an objective sees it.

    Attributes:
        stats: packed statistics with gradient; N answer tokens.
        weights: (N,) token weights, without gradient.
    """

    stats: TokenStats
    weights: Tensor


def saturation_factor(kind: str, nll: Tensor, weighted: Tensor, beta: float) -> Tensor:
    """(N,) what a token's pull is multiplied by, without gradient: it falls as the token is forgotten.

    "weighted" is exp(-beta w l), "probability" is p^beta (which the weight does not enter), "none" is 1.
    """
    if kind not in ("weighted", "probability", "none"):
        raise UserError(f"saturation is weighted, probability or none, not '{kind}'")
    if kind == "none":
        return torch.ones_like(nll)
    return (-beta * (weighted if kind == "weighted" else nll).detach()).exp()


@objective("grad_diff", source="arXiv 2310.10683; sure")
def grad_diff(tokens: ForgetTokens) -> Tensor:
    """-mean w l: gradient ascent on the forget tokens. Unbounded: pair it with a retain loss and few steps."""
    return -(tokens.weights * tokens.stats.nll).mean()


@objective("wga", source="arXiv 2502.19301; sure")
def wga(tokens: ForgetTokens, *, beta: float = 1.0) -> Tensor:
    """-mean w sg(p^beta) l: ascent that fades on tokens already improbable."""
    saturation = (tokens.stats.logp.detach() * beta).exp()
    return -(tokens.weights * saturation * tokens.stats.nll).mean()


@objective("atwu", source="after arXiv 2606.06320; sure for the authors' code")
def atwu(tokens: ForgetTokens, *, beta: float = 5.0, saturation: str = "weighted") -> Tensor:
    """-mean w l sg(exp(-w l))^beta: weighted ascent; a token already forgotten stops pulling.

    `saturation` "probability" replaces the factor by sg(p^beta), which the weight does not enter; "none" by 1.
    """
    nll = tokens.stats.nll
    weighted = tokens.weights * nll
    return -(weighted * saturation_factor(saturation, nll, weighted, beta)).mean()


@retain_loss("nll", needs=(), source="sure")
def nll(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean l_t on the retain answers."""
    return stats.nll.mean()


@retain_loss("kl", needs=("reference",), source="sure")
def kl(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean over retain answer tokens of KL(p before unlearning || p now), in nats."""
    assert reference is not None
    assert reference.logits is not None
    assert stats.logits is not None
    target = reference.logits.log_softmax(-1)
    return (target.exp() * (target - torch.log_softmax(stats.logits, -1))).sum(-1).mean()
