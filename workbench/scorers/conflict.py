"""Does forgetting a token conflict with what must be kept? To first order, by gradient, and by a short run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from workbench.cost import Phase
from workbench.errors import UserError, check_least
from workbench.models import (
    LanguageModel,
    TokenStats,
    batches,
    count_forward,
    encode,
    in_sample_order,
    split,
    token_stats,
)
from workbench.scorers.base import TaskContext, passes, scorer
from workbench.tasks import Sample, spread


@contextlib.contextmanager
def differentiable(lm: LanguageModel) -> Iterator[tuple[LanguageModel, list[Tensor]]]:
    """A float32 copy of the model and its parameters, with attention that can be differentiated twice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    lm = replace(lm.frozen_copy(), precision="float32")
    lm.module.requires_grad_(True)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield lm, list(lm.module.parameters())


def mean_gradient(
    lm: LanguageModel, parameters: list[Tensor], samples: Sequence[Sample], batch_size: int, cost: Phase
) -> list[Tensor]:
    """Gradient of the mean NLL over the answer tokens of some samples, one tensor a parameter."""
    total, tokens = [torch.zeros_like(p) for p in parameters], 0
    for _, batch, stats in passes(lm, samples, batch_size, cost, times=3, extras=False):
        for sums, part in zip(total, gradient_of(stats.nll.sum(), parameters), strict=True):
            sums += part
        tokens += len(batch.rows)
    return [part / max(1, tokens) for part in total]


def _of_rows(
    context: TaskContext, lm: LanguageModel, parameters: list[Tensor], samples: list[Sample], rows: int
) -> list[Tensor]:
    """`mean_gradient` of at most so many of some samples, evenly spread."""
    check_least(1, rows=rows)
    return mean_gradient(lm, parameters, spread(samples, rows), context.batch_size, context.cost)


def gradient_of(
    value: Tensor, parameters: list[Tensor], *, keep: bool = False, differentiable: bool = False
) -> list[Tensor]:
    """Gradient of a scalar with respect to parameters; zero for those that it does not depend on.

    `keep` keeps the graph for another gradient; `differentiable` makes the gradient itself differentiable.
    """
    keep = keep or differentiable
    return list(
        torch.autograd.grad(value, parameters, None, keep, differentiable, allow_unused=True, materialize_grads=True)
    )


def norm_of(parts: list[Tensor]) -> Tensor:
    """Euclidean norm over a list of tensors."""
    return torch.stack([part.norm() for part in parts]).norm().clamp(min=1e-30)


def rates_along(
    lm: LanguageModel,
    parameters: list[Tensor],
    samples: Sequence[Sample],
    direction: list[Tensor],
    batch_size: int,
    cost: Phase,
) -> Iterator[tuple[list[int], Tensor, TokenStats]]:
    """By batch: the places of its samples, (N,) <grad l_t, direction> of their answer tokens, and their statistics.

    One directional derivative gives it exactly for all tokens of a batch: the gradient of sum_t a_t l_t, differentiated
    by a. The model and its parameters are those of `differentiable`; the direction is one tensor a parameter.
    """
    times = 6  # a forward, its backward, and the backward of both
    for indices, _, stats in passes(lm, samples, batch_size, cost, times=times, extras=False):
        a = torch.ones_like(stats.nll, requires_grad=True)
        each = gradient_of(stats.nll @ a, parameters, differentiable=True)
        along = torch.stack([(e * g).sum() for e, g in zip(each, direction, strict=True)]).sum()
        yield indices, torch.autograd.grad(along, a)[0], stats


@scorer("retain_conflict", range=(None, None), kind="task", needs=("text",), source="ours", certainty="ours")
def retain_conflict(context: TaskContext, *, rows: int = 64) -> list[np.ndarray]:
    """-<grad l_t, u>, u the unit gradient of the retain loss: high where ascent on l_t leaves retain text alone.

    To first order, forgetting token t (a step along grad l_t) raises the retain loss by <grad l_t, grad L_retain>. The
    score is minus the rate at which l_t changes along u, in nats per unit of parameter distance.

    Args:
        context: the task.
        rows: retain samples in the gradient, at most, evenly spread.
    """
    with differentiable(context.lm) as (lm, parameters):
        gradient = _of_rows(context, lm, parameters, context.task.retain, rows)
        length = norm_of(gradient)
        return _of_forget_tokens(context, lm, parameters, [-part / length for part in gradient])


@scorer("span_gradient", range=(0, 1), kind="task", needs=("text",), source="after ACL 2026 short 35",
        certainty="ours, from the abstract")  # fmt: skip
def span_gradient(context: TaskContext, *, rows: int = 64, k: float = 1.0, k_span: float = 0.0) -> list[np.ndarray]:
    """1 on spans grown around tokens that the forget gradient needs more than the retain gradient does; else 0.

    c_t = <grad l_t, u_forget - u_retain>, u the unit gradient of the mean loss on the forget and on the retain set.
    Anchors are tokens with c_t > mean + k std of their answer; a span is an anchor and its neighbours, to either side,
    as long as c_t > mean + k_span std. Only the abstract was seen, which has neither number: both are ours.

    Args:
        context: the task.
        rows: samples of each set in its gradient, at most, evenly spread.
        k: standard deviations above the mean that make an anchor.
        k_span: standard deviations above the mean that a span goes on over; at most k.
    """
    if not (math.isfinite(k) and math.isfinite(k_span)):
        raise UserError(f"span_gradient: k and k_span must be finite, not {k} and {k_span}")
    if k_span > k:
        raise UserError(f"span_gradient: k_span must be at most k ({k:g}), not {k_span:g}")
    with differentiable(context.lm) as (lm, parameters):
        forget, retain = (
            _of_rows(context, lm, parameters, samples, rows) for samples in (context.task.forget, context.task.retain)
        )
        lengths = norm_of(forget), norm_of(retain)
        direction = [f / lengths[0] - r / lengths[1] for f, r in zip(forget, retain, strict=True)]
        return [_spans(rates, k, k_span) for rates in _of_forget_tokens(context, lm, parameters, direction)]


def _spans(values: np.ndarray, k: float, k_span: float) -> np.ndarray:
    """1 on each run of values above mean + k_span std that has one above mean + k std, else 0; NaN if one is NaN."""
    anchors, wide = (values > values.mean() + each * values.std() for each in (k, k_span))
    run = np.cumsum(np.diff(wide, prepend=False) != 0)  # numbers the runs, those between them too
    marked = (wide & np.isin(run, run[anchors])).astype(float)
    return marked if np.isfinite(values).all() else np.full(len(values), np.nan)


def _of_forget_tokens(
    context: TaskContext, lm: LanguageModel, parameters: list[Tensor], direction: list[Tensor]
) -> list[np.ndarray]:
    """D l_t / d direction of every forget token, one array a sample: in nats per unit of parameter distance."""
    # Differentiating twice keeps the graphs of both passes in memory, so the batches are small.
    size = max(1, context.batch_size // 4)
    rates = rates_along(lm, parameters, context.task.forget, direction, size, context.cost)
    return in_sample_order([(indices, split(each, stats)) for indices, each, stats in rates])


@scorer("gradient_cosine", range=(-1, 1), kind="task", slow=True, needs=("text",), source="ours", certainty="ours")
def gradient_cosine(context: TaskContext, *, rows: int = 64) -> list[np.ndarray]:
    """-cos(grad l_t, grad L_retain), by one backward pass per token: the slow reference for `retain_conflict`.

    Args:
        context: the task.
        rows: retain samples in the gradient, at most, evenly spread.
    """
    scores = []
    with differentiable(context.lm) as (lm, parameters):
        gradient = _of_rows(context, lm, parameters, context.task.retain, rows)
        length = norm_of(gradient)
        for sample in context.task.forget:
            ((_, batch),) = batches(lm, [encode(lm, sample)], 1)
            stats = token_stats(lm, batch, extras=False)
            count_forward(context.cost, lm, batch, passes=1 + 2 * len(stats.nll))
            cosines = []
            for value in stats.nll:
                each = gradient_of(value, parameters, keep=True)
                dot = torch.stack([(e * g).sum() for e, g in zip(each, gradient, strict=True)]).sum()
                cosines.append(float(-dot / norm_of(each) / length))
            scores.append(np.clip(np.array(cosines), -1, 1))
    return scores


@scorer("relearn_residue", range=(None, None), kind="task", slow=True, needs=("text",), source="ours", certainty="ours")
def relearn_residue(
    context: TaskContext, *, forget_steps: int = 20, relearn_steps: int = 40, lr: float = 1e-4
) -> list[np.ndarray]:
    """l_t after forgetting all tokens alike and then training on retain text alone, minus l_t before, in nats.

    What the retain text supports comes back; what stays lost was supported by the forget text only. The training is a
    short run on a copy of the model.

    Args:
        context: the task.
        forget_steps: steps of uniform, saturating ascent on the forget answers.
        relearn_steps: steps on retain answers after that.
        lr: largest learning rate of both phases.
    """
    if context.trained is None:
        raise UserError("relearn_residue trains a copy of the model; score it by `score_task` or `workbench score`")
    if min(forget_steps, relearn_steps) < 1:
        raise UserError("relearn_residue: forget_steps and relearn_steps must be at least 1")
    after, spent = context.trained(
        context.lm, context.task, forget_steps=forget_steps, relearn_steps=relearn_steps, lr=lr, seed=context.seed
    )
    context.cost.tokens += spent.tokens
    context.cost.flops += spent.flops
    with torch.no_grad():
        losses = [context.per_sample(lm, lambda stats: stats.nll, extras=False) for lm in (after, context.lm)]
    return [now - before for now, before in zip(*losses, strict=True)]
