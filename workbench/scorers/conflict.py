"""Does forgetting a token conflict with what must be kept? To first order, by gradient, and by a short run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import LanguageModel, batches, count_forward, encode, split, token_stats
from workbench.scorers.base import TaskContext, scorer
from workbench.tasks import spread


@contextlib.contextmanager
def differentiable(given: TaskContext) -> Iterator[tuple[LanguageModel, list[Tensor]]]:
    """A float32 copy of the model and its parameters, with attention that can be differentiated twice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    lm = replace(given.lm.frozen_copy(), precision="float32")
    lm.module.requires_grad_(True)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield lm, list(lm.module.parameters())


def retain_gradient(given: TaskContext, lm: LanguageModel, parameters: list[Tensor], rows: int) -> list[Tensor]:
    """Gradient of the mean NLL over the answer tokens of at most `rows` retain samples, one tensor a parameter."""
    if rows < 1:
        raise UserError(f"rows must be at least 1, not {rows}")
    total, tokens = [torch.zeros_like(p) for p in parameters], 0
    for _, batch in batches(lm, [encode(lm, s) for s in spread(given.task.retain, rows)], given.batch_size):
        stats = token_stats(lm, batch, extras=False)
        count_forward(given.cost, lm, batch, passes=3)
        for sums, part in zip(total, gradient_of(stats.nll.sum(), parameters), strict=True):
            sums += part
        tokens += len(batch.rows)
    return [part / tokens for part in total]


def gradient_of(
    value: Tensor, parameters: list[Tensor], *, keep: bool = False, differentiable: bool = False
) -> list[Tensor]:
    """Gradient of a number with respect to parameters; zero for those that it does not depend on.

    `keep` keeps the graph for another gradient, `differentiable` makes one of the gradient itself.
    """
    found = torch.autograd.grad(
        value,
        parameters,
        retain_graph=keep or differentiable,
        create_graph=differentiable,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)


def norm_of(parts: list[Tensor]) -> Tensor:
    """Euclidean norm over a list of tensors."""
    return torch.stack([part.norm() for part in parts]).norm().clamp(min=1e-30)


@scorer("retain_conflict", range=(None, None), kind="task", source="ours", certainty="ours")
def retain_conflict(given: TaskContext, *, rows: int = 64) -> list[np.ndarray]:
    """-<grad l_t, u>, u the unit gradient of the retain loss: high where ascent on l_t leaves retain text alone.

    To first order, forgetting token t (a step along grad l_t) raises the retain loss by <grad l_t, grad L_retain>; it
    is the rate at which l_t changes along u, in nats per unit of parameter distance. One directional derivative gives
    it for all tokens of a batch: exact, by differentiating the gradient of sum_t a_t l_t with respect to a.

    Args:
        given: the task.
        rows: retain samples in the gradient, at most, evenly spread.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(given.task.forget)
    with differentiable(given) as (lm, parameters):
        gradient = retain_gradient(given, lm, parameters, rows)
        length = norm_of(gradient)
        # Differentiating twice keeps the graph of both passes in memory: small batches.
        for indices, batch in batches(lm, [encode(lm, s) for s in given.task.forget], max(1, given.batch_size // 4)):
            stats = token_stats(lm, batch, extras=False)
            count_forward(given.cost, lm, batch, passes=6)  # forward, backward, and the backward of both
            a = torch.ones_like(stats.nll, requires_grad=True)
            each = gradient_of(stats.nll @ a, parameters, differentiable=True)
            along = torch.stack([(e * g).sum() for e, g in zip(each, gradient, strict=True)]).sum()
            (rates,) = torch.autograd.grad(along, a)
            for index, part in zip(indices, split(-rates / length, stats), strict=True):
                found[index] = part
    return found


@scorer("gradient_cosine", range=(-1, 1), kind="task", slow=True, source="ours", certainty="ours")
def gradient_cosine(given: TaskContext, *, rows: int = 64) -> list[np.ndarray]:
    """-cos(grad l_t, grad L_retain), one backward pass a token: the slow reference of `retain_conflict`.

    Args:
        given: the task.
        rows: retain samples in the gradient, at most, evenly spread.
    """
    found = []
    with differentiable(given) as (lm, parameters):
        gradient = retain_gradient(given, lm, parameters, rows)
        length = norm_of(gradient)
        for sample in given.task.forget:
            ((_, batch),) = batches(lm, [encode(lm, sample)], 1)
            stats = token_stats(lm, batch, extras=False)
            count_forward(given.cost, lm, batch, passes=1 + 2 * len(stats.nll))
            cosines = []
            for value in stats.nll:
                each = gradient_of(value, parameters, keep=True)
                dot = torch.stack([(e * g).sum() for e, g in zip(each, gradient, strict=True)]).sum()
                cosines.append(float(-dot / norm_of(each) / length))
            found.append(np.clip(np.array(cosines), -1, 1))
    return found


@scorer("relearn_residue", range=(None, None), kind="task", slow=True, source="ours", certainty="ours")
def relearn_residue(
    given: TaskContext, *, forget_steps: int = 20, relearn_steps: int = 40, lr: float = 1e-4
) -> list[np.ndarray]:
    """l_t after forgetting all tokens alike and then training on retain text alone, minus l_t before.

    What retain text carries too comes back; what stays lost was carried by the forget text only. A short run on a copy.

    Args:
        given: the task.
        forget_steps: steps of uniform, saturating ascent on the forget answers.
        relearn_steps: steps on retain answers after that.
        lr: largest learning rate of both.
    """
    if given.trained is None:
        raise UserError("relearn_residue trains a copy of the model; score it by `score_task` or `workbench score`")
    if min(forget_steps, relearn_steps) < 1:
        raise UserError("relearn_residue: forget_steps and relearn_steps must be at least 1")
    after, spent = given.trained(
        given.lm, given.task, forget_steps=forget_steps, relearn_steps=relearn_steps, lr=lr, seed=given.seed
    )
    given.cost.tokens += spent.tokens
    given.cost.flops += spent.flops
    with torch.no_grad():
        losses = [given.per_sample(lm, lambda stats: stats.nll, extras=False) for lm in (after, given.lm)]
    return [now - before for now, before in zip(*losses, strict=True)]
