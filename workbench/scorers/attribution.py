"""Attribution: how much each token of the question and the answer matters for what the model says.

The methods are captum's, each given a sample's target as a function (see `inputs`), with as many copies a pass as the
free memory holds. They score *input* tokens for a prediction; which tokens to forget is another question. To be
compared with other scorers, read the answer's own log-probability on the answer's tokens.

Options of all: `target` (what is attributed), `units` (tokens, or words) and, where there is one, `baseline` (what
stands for a token that is taken away); their values are explained in `inputs.Inputs`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import NotAvailable, UnsupportedError, UserError
from workbench.models import TEMPLATE, LanguageModel, batches, encode, padding, token_stats
from workbench.scorers.base import TaskContext, random_source, scorer
from workbench.scorers.inputs import Inputs, frozen, seeded, sequences_within, within_memory
from workbench.tasks import Sample

Method = Callable[[Inputs, int], Tensor]  # the sample and how many copies a pass may hold -> (units,)


def attributed(
    given: TaskContext,
    name: str,
    method: Method,
    *,
    target: str,
    units: str,
    baseline: str = "",
    gradient: bool = False,
    complete: bool = False,
) -> list[np.ndarray]:
    """Scores of every token of the forget samples by a method, and a note of what was attributed to what.

    A sample that cannot be scored gets NaN, the reason goes into the note, and the others go on. With `complete` the
    note has the completeness delta: how far the scores of a sample are from adding up to the target's change from the
    baseline, as a share of that change (arXiv 1703.01365): median and largest over the samples.
    """
    found, missing, deltas = [], {}, []
    with frozen(given.lm):
        for done, sample in enumerate(given.task.forget):
            try:
                inputs = Inputs(given.lm, sample, target, baseline or "zero", units, given.cost)

                def scored(copies: int, inputs: Inputs = inputs) -> Tensor:
                    with seeded(random_source(given.seed, inputs.encoding.sample.id), given.lm.device):
                        return method(inputs, copies)

                values = within_memory(scored, inputs.copies(gradient))
                if not bool(torch.isfinite(values).all()):
                    raise NotAvailable("the scores are not finite")
                if complete:
                    deltas.append(_delta(inputs, values))
                found.append(inputs.per_token(values))
            except NotAvailable as reason:
                missing[sample.id] = str(reason)
                segments = encode(given.lm, sample).segments
                found.append(np.full(sum(s != TEMPLATE for s in segments), np.nan))
            given.tell(done + 1)
    note: dict[str, Any] = {"target": target, "units": units} | ({"baseline": baseline} if baseline else {})
    if deltas:
        note["completeness_delta"] = {"median": float(np.median(deltas)), "largest": float(max(deltas))}
    given.notes[name] = note | ({"not_available": missing} if missing else {})
    return found


def positive(**options: int) -> None:
    """Raise for an option below 1."""
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")


@torch.no_grad()
def _delta(inputs: Inputs, values: Tensor) -> float:
    full, empty = (inputs(x).double() for x in (inputs.embeddings, inputs.baseline))
    return float((values.double().sum() - (full - empty)).abs() / (full - empty).abs().clamp(min=1e-12))


@scorer("saliency", range=(0, None), kind="input", source="arXiv 1312.6034, by captum", certainty="sure")
def saliency(given: TaskContext, *, target: str = "answer", units: str = "token") -> list[np.ndarray]:
    """Length of the gradient of the target along a token's embedding, in nats per unit of distance."""
    from captum.attr import Saliency

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = Saliency(inputs).attribute(inputs.embeddings.requires_grad_(), abs=False)
        return inputs.by_unit(raw[0].norm(dim=-1))

    return attributed(given, "saliency", method, target=target, units=units, gradient=True)


@scorer("input_x_gradient", range=(None, None), kind="input", source="arXiv 1605.01713, by captum", certainty="sure")
def input_x_gradient(given: TaskContext, *, target: str = "answer", units: str = "token") -> list[np.ndarray]:
    """Embedding times gradient of the target, summed, in nats: to first order, what zeroing it takes."""
    from captum.attr import InputXGradient

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = InputXGradient(inputs).attribute(inputs.embeddings.requires_grad_())
        return inputs.by_unit(raw[0].sum(-1))

    return attributed(given, "input_x_gradient", method, target=target, units=units, baseline="zero", gradient=True)


@scorer(
    "integrated_gradients", range=(None, None), kind="input", source="arXiv 1703.01365, by captum", certainty="sure"
)
def integrated_gradients(
    given: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token", steps: int = 32
) -> list[np.ndarray]:
    """(x - x0) times the mean gradient on the straight way from the baseline x0 to the embeddings x, in nats.

    The scores of a sample add up to the target's change from the baseline; how nearly is the completeness delta.

    `steps`: points on the way (Gauss-Legendre).
    """
    from captum.attr import IntegratedGradients

    def method(inputs: Inputs, copies: int) -> Tensor:
        raw = IntegratedGradients(inputs).attribute(
            inputs.embeddings, inputs.baseline, n_steps=steps, internal_batch_size=copies
        )
        return inputs.by_unit(raw[0].sum(-1))

    positive(steps=steps)
    return attributed(
        given,
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
    given: TaskContext,
    *,
    target: str = "answer",
    baseline: str = "eos",
    units: str = "token",
    samples: int = 8,
    noise: float = 0.01,
) -> list[np.ndarray]:
    """(x - x0) times the mean gradient at random points between the baseline x0 and the noisy embeddings x, in nats.

    `samples`: random points.
    `noise`: standard deviation of what is added to the embeddings.
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

    positive(samples=samples)
    if not 0 <= noise < math.inf:
        raise UserError(f"noise must be at least 0 and finite, not {noise}")
    return attributed(
        given, "gradient_shap", method, target=target, units=units, baseline=baseline, gradient=True, complete=True
    )


@scorer("deep_lift", range=(None, None), kind="input", source="arXiv 1704.02685, by captum", certainty="sure")
def deep_lift(
    given: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token"
) -> list[np.ndarray]:
    """Differences from the baseline, carried back by DeepLIFT's rescale rule through the activations that have one.

    captum knows the rule for ReLU and its like, not for the SiLU and GELU of most language models, where it would
    silently be a plain gradient: those are refused. Attention and norms are carried back by their gradient.
    """
    from captum.attr import DeepLift

    if target == "contrast":
        raise UserError("deep_lift runs the model once, so it has no contrast; take another target")
    if without := _activations_without_rule(given.lm):
        raise UnsupportedError(
            f"deep_lift has no rule for {', '.join(without)} in {given.lm.name}; take integrated_gradients"
        )

    def method(inputs: Inputs, copies: int) -> Tensor:
        with torch.no_grad():
            inputs(inputs.baseline)  # what is tried out with a new model comes before the hooks
        # Inside the model captum tells the input from the baseline by their rows.
        with warnings.catch_warnings(), padding(given.lm):
            warnings.simplefilter("ignore")  # that it sets hooks, and takes them away again
            raw = DeepLift(_AsModule(inputs)).attribute(inputs.embeddings.requires_grad_(), inputs.baseline)
        return inputs.by_unit(raw[0].sum(-1))

    return attributed(
        given, "deep_lift", method, target=target, units=units, baseline=baseline, gradient=True, complete=True
    )


class _AsModule(torch.nn.Module):
    """A sample's target as a module with the model inside, as DeepLift wants it."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.model, self.inputs = inputs.lm.module, inputs

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.inputs(embeddings)


def _activations_without_rule(lm: LanguageModel) -> list[str]:
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    modules = lm.module.named_modules(remove_duplicate=False)
    found = [m for name, m in modules if name.split(".")[-1] in {"act_fn", "activation_fn", "act"}]
    if not found:
        return ["an activation that is no module"]
    if len({id(m) for m in found}) < len(found):
        return ["an activation that several layers share"]
    return sorted({type(m).__name__ for m in found if type(m) not in SUPPORTED_NON_LINEAR})


def each_target(lm: LanguageModel, samples: list[Sample], *, gradient_only: bool = False) -> list[np.ndarray]:
    """Input x gradient (or saliency, with `gradient_only`) of every answer token's log-probability on every token.

    What `target=token:K` gives for all K, with one forward pass a batch: the k-th tokens of all its samples are
    differentiated together, since no sample depends on another.

    Returns:
        for each sample (answer tokens, tokens of question and answer), in nats.
    """
    if not samples:
        return []
    found: list[np.ndarray] = [np.empty(0)] * len(samples)
    coded = [encode(lm, s) for s in samples]
    longest = max(coded, key=lambda e: len(e.ids))
    size = min(8, sequences_within(lm, len(longest.ids), len(longest.answer_positions), gradient=True))
    with frozen(lm):
        for indices, batch in batches(lm, coded, size):
            embeddings = lm.module.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
            stats = token_stats(lm, batch, extras=False, embeddings=embeddings)
            places = torch.cat([torch.arange(int(n), device=batch.device) for n in stats.counts])
            rows = []
            for place in range(int(stats.counts.max())):
                (each,) = torch.autograd.grad(stats.logp[places == place].sum(), embeddings, retain_graph=True)
                with torch.no_grad():
                    rows.append(each.norm(dim=-1) if gradient_only else (each * embeddings).sum(-1))
            values = torch.stack(rows, dim=1).double().cpu().numpy()
            for row, index in enumerate(indices):
                encoding = batch.encodings[row]
                columns = [p for p, s in enumerate(encoding.segments) if s != TEMPLATE]
                found[index] = values[row][: len(encoding.answer_positions), columns]
    return found
