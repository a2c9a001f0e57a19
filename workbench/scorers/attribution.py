"""Attribution: how much each token of the question and the answer matters for what the model predicts.

The methods are captum's. Each gets a sample's target as a function (see `inputs`) and processes as many copies per pass
as fit into memory. They score *input* tokens for a prediction; which tokens to forget is another question. To compare
them with other scorers, take the target `answer` and the scores of the answer's tokens.

They share the options `target` (what is attributed), `units` (tokens or words) and, for most, `baseline` (what replaces
a removed token); see `inputs.Inputs` for their values.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import NotAvailable, UnsupportedError, UserError, check_least
from workbench.models import TEMPLATE, LanguageModel, batches, encode, in_sample_order, padding, token_stats
from workbench.scorers.base import TaskContext, random_source, scorer
from workbench.scorers.inputs import Inputs, frozen, seeded, sequences_within, within_memory
from workbench.tasks import Sample

Method = Callable[[Inputs, int], Tensor]  # (the sample, the copies that a pass may hold) -> (units,)


def attributed(
    context: TaskContext,
    name: str,
    method: Method,
    *,
    target: str,
    units: str,
    baseline: str = "",
    gradient: bool = False,
    complete: bool = False,
) -> list[np.ndarray]:
    """Scores of every token of the forget samples by a method; `context.notes` gets its options and its failures.

    A sample that cannot be scored gets NaN, the reason goes into the note, and the others go on. With `complete` the
    note has the median and largest completeness delta over the samples: by how much the sum of the scores misses the
    target's change from the baseline, as a share of that change (arXiv 1703.01365).
    """
    scores, missing, deltas = [], {}, []
    with frozen(context.lm):
        for done, sample in enumerate(context.task.forget):
            context.progress(name, done, len(context.task.forget))
            try:
                inputs = Inputs(context.lm, sample, target, baseline or "zero", units, context.cost)

                def scored(copies: int, inputs: Inputs = inputs) -> Tensor:
                    with seeded(random_source(context.seed, inputs.encoding.sample.id), context.lm.device):
                        return method(inputs, copies)

                values = within_memory(scored, inputs.copies(gradient))
                if not bool(torch.isfinite(values).all()):
                    raise NotAvailable("the scores are not finite")
                if complete:
                    deltas.append(_delta(inputs, values))
                scores.append(inputs.per_token(values))
            except NotAvailable as reason:
                missing[sample.id] = str(reason)
                segments = encode(context.lm, sample).segments
                scores.append(np.full(sum(s != TEMPLATE for s in segments), np.nan))
    note: dict[str, Any] = {"target": target, "units": units} | ({"baseline": baseline} if baseline else {})
    if deltas:
        note["completeness_delta"] = {"median": float(np.median(deltas)), "largest": float(max(deltas))}
    context.notes[name] = note | ({"not_available": missing} if missing else {})
    return scores


@torch.no_grad()
def _delta(inputs: Inputs, values: Tensor) -> float:
    full, empty = (inputs(x).double() for x in (inputs.embeddings, inputs.baseline))
    return float((values.double().sum() - (full - empty)).abs() / (full - empty).abs().clamp(min=1e-12))


@scorer("saliency", range=(0, None), kind="input", source="arXiv 1312.6034, by captum", certainty="sure")
def saliency(context: TaskContext, *, target: str = "answer", units: str = "token") -> list[np.ndarray]:
    """Norm of the target's gradient with respect to a token's embedding, in nats per unit of distance."""
    from captum.attr import Saliency

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = Saliency(inputs).attribute(inputs.embeddings.requires_grad_(), abs=False)
        return inputs.by_unit(raw[0].norm(dim=-1))

    return attributed(context, "saliency", method, target=target, units=units, gradient=True)


@scorer("input_x_gradient", range=(None, None), kind="input", source="arXiv 1605.01713, by captum", certainty="sure")
def input_x_gradient(context: TaskContext, *, target: str = "answer", units: str = "token") -> list[np.ndarray]:
    """Embedding times the target's gradient, summed, in nats: to first order, the loss from zeroing the embedding."""
    from captum.attr import InputXGradient

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = InputXGradient(inputs).attribute(inputs.embeddings.requires_grad_())
        return inputs.by_unit(raw[0].sum(-1))

    return attributed(context, "input_x_gradient", method, target=target, units=units, baseline="zero", gradient=True)


@scorer(
    "integrated_gradients", range=(None, None), kind="input", source="arXiv 1703.01365, by captum", certainty="sure"
)
def integrated_gradients(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token", steps: int = 32
) -> list[np.ndarray]:
    """(x - x0) times the mean gradient on the straight line from the baseline x0 to the embeddings x, in nats.

    The scores of a sample add up to the target's change from the baseline, up to the completeness delta.

    `steps`: points on the line (Gauss-Legendre).
    """
    from captum.attr import IntegratedGradients

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = IntegratedGradients(inputs).attribute(
            inputs.embeddings, inputs.baseline, n_steps=steps, internal_batch_size=copies
        )
        return inputs.by_unit(raw[0].sum(-1))

    check_least(1, steps=steps)
    return attributed(
        context,
        "integrated_gradients",
        method,
        target=target,
        units=units,
        baseline=baseline,
        gradient=True,
        complete=True,
    )


@scorer("gradient_shap", range=(None, None), kind="input", source="arXiv 1705.07874, by captum", certainty="sure")
def gradient_shap(
    context: TaskContext,
    *,
    target: str = "answer",
    baseline: str = "eos",
    units: str = "token",
    samples: int = 8,
    noise: float = 0.01,
) -> list[np.ndarray]:
    """(x - x0) times the mean gradient at random points between the baseline x0 and the noisy embeddings x, in nats.

    `samples`: random points.
    `noise`: standard deviation of the noise added to the embeddings.
    """
    from captum.attr import GradientShap

    def method(inputs: Inputs, copies: int) -> Tensor:
        parts, left = [], samples
        while left:
            part = min(left, copies)
            raw = GradientShap(inputs).attribute(inputs.embeddings, inputs.baseline, n_samples=part, stdevs=noise)
            parts.append(part * inputs.by_unit(raw[0].sum(-1)))
            left -= part
        return torch.stack(parts).sum(0) / samples

    check_least(1, samples=samples)
    if not 0 <= noise < math.inf:
        raise UserError(f"noise must be at least 0 and finite, not {noise}")
    return attributed(
        context, "gradient_shap", method, target=target, units=units, baseline=baseline, gradient=True, complete=True
    )


@scorer("deep_lift", range=(None, None), kind="input", source="arXiv 1704.02685, by captum", certainty="sure")
def deep_lift(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token"
) -> list[np.ndarray]:
    """Differences from the baseline, propagated back by DeepLIFT's rescale rule through activations that have one.

    captum has the rule for ReLU and similar functions, not for the SiLU and GELU of most language models, for which it
    would silently use the plain gradient: such models are refused. Attention and norms use their gradient.
    """
    from captum.attr import DeepLift

    if target == "contrast":
        raise UserError("deep_lift runs the model once, so it has no contrast; take another target")
    if without := _activations_without_rule(context.lm):
        raise UnsupportedError(
            f"deep_lift has no rule for {', '.join(without)} in {context.lm.name}; take integrated_gradients"
        )

    def method(inputs: Inputs, copies: int) -> Tensor:
        with torch.no_grad():
            inputs(inputs.baseline)  # so that the checks of a new model run before captum sets its hooks
        # captum runs input and baseline as the two rows of one batch, and tells them apart inside the model.
        with warnings.catch_warnings(), padding(context.lm):
            warnings.simplefilter("ignore")  # captum announces that it sets hooks and removes them
            raw = DeepLift(_AsModule(inputs)).attribute(inputs.embeddings.requires_grad_(), inputs.baseline)
        return inputs.by_unit(raw[0].sum(-1))

    return attributed(
        context, "deep_lift", method, target=target, units=units, baseline=baseline, gradient=True, complete=True
    )


class _AsModule(torch.nn.Module):
    """A sample's target as a module that contains the model, as DeepLift requires."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.model, self.inputs = inputs.lm.module, inputs

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.inputs(embeddings)


def _activations_without_rule(lm: LanguageModel) -> list[str]:
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    modules = lm.module.named_modules(remove_duplicate=False)
    activations = [m for name, m in modules if name.split(".")[-1] in {"act_fn", "activation_fn", "act"}]
    if not activations:
        return ["an activation that is no module"]
    if len({id(m) for m in activations}) < len(activations):
        return ["an activation that several layers share"]
    return sorted({type(m).__name__ for m in activations if type(m) not in SUPPORTED_NON_LINEAR})


def each_target(lm: LanguageModel, samples: list[Sample], *, gradient_only: bool = False) -> list[np.ndarray]:
    """Input x gradient (or saliency, with `gradient_only`) of every answer token's log-probability on every token.

    The same as `target=token:K` for all K, with one forward pass per batch: the k-th tokens of all its samples are
    differentiated together, since no sample depends on another.

    Returns:
        for each sample (answer tokens, tokens of question and answer), in nats.
    """
    if not samples:
        return []
    parts: list[tuple[list[int], list[np.ndarray]]] = []
    encodings = [encode(lm, s) for s in samples]
    longest = max(encodings, key=lambda e: len(e.ids))
    size = min(8, sequences_within(lm, len(longest.ids), len(longest.answer_positions), gradient=True))
    with frozen(lm):
        for indices, batch in batches(lm, encodings, size):
            embeddings = lm.module.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
            stats = token_stats(lm, batch, extras=False, embeddings=embeddings)
            places = torch.cat([torch.arange(int(n), device=batch.device) for n in stats.counts])
            rows = []
            for place in range(int(stats.counts.max())):
                (each,) = torch.autograd.grad(stats.logp[places == place].sum(), embeddings, retain_graph=True)
                with torch.no_grad():
                    rows.append(each.norm(dim=-1) if gradient_only else (each * embeddings).sum(-1))
            values = torch.stack(rows, dim=1).double().cpu().numpy()
            own = []
            for encoding, matrix in zip(batch.encodings, values, strict=True):
                columns = [p for p, s in enumerate(encoding.segments) if s != TEMPLATE]
                own.append(matrix[: len(encoding.answer_positions), columns])
            parts.append((indices, own))
    return in_sample_order(parts)
