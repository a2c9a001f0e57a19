"""Attribution by removing tokens: captum's perturbation methods on a sample's units. Options as in `attribution`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.errors import check_least
from workbench.scorers.attribution import attributed
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.inputs import Inputs

CASTRO = "Castro et al. 2009, doi 10.1016/j.cor.2008.04.004, by captum"


def _all(inputs: Inputs) -> Tensor:
    return torch.ones(1, inputs.units, device=inputs.embeddings.device)


@scorer("feature_ablation", range=(None, None), kind="input", source="by captum", certainty="sure")
def feature_ablation(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token"
) -> list[np.ndarray]:
    """How much the target falls when one token is removed, in nats."""
    from captum.attr import FeatureAblation

    @torch.no_grad()
    def method(inputs: Inputs, copies: int) -> Tensor:
        return FeatureAblation(inputs.without).attribute(_all(inputs), 0, perturbations_per_eval=copies)[0]

    return attributed(context, "feature_ablation", method, target=target, units=units, baseline=baseline)


@scorer("occlusion", range=(None, None), kind="input", source="arXiv 1311.2901, by captum", certainty="sure")
def occlusion(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token", window: int = 3
) -> list[np.ndarray]:
    """How much the target falls when a window of tokens is removed, in nats: the mean over windows that contain it.

    `window`: units removed at once.
    """
    from captum.attr import Occlusion

    @torch.no_grad()
    def method(inputs: Inputs, copies: int) -> Tensor:
        shape = (min(window, inputs.units),)
        return Occlusion(inputs.without).attribute(_all(inputs), shape, baselines=0, perturbations_per_eval=copies)[0]

    check_least(1, window=window)
    return attributed(context, "occlusion", method, target=target, units=units, baseline=baseline)


@scorer("shapley_sampling", range=(None, None), kind="input", slow=True, source=CASTRO, certainty="sure")
def shapley_sampling(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "token", permutations: int = 10
) -> list[np.ndarray]:
    """Mean change of the target when a token is added to those before it in a random order, in nats (Shapley value).

    `permutations`: random orders; each costs as many passes as there are units.
    """
    from captum.attr import ShapleyValueSampling

    @torch.no_grad()
    def method(inputs: Inputs, copies: int) -> Tensor:
        return ShapleyValueSampling(inputs.without).attribute(
            _all(inputs), 0, n_samples=permutations, perturbations_per_eval=copies
        )[0]

    check_least(1, permutations=permutations)
    return attributed(context, "shapley_sampling", method, target=target, units=units, baseline=baseline, complete=True)


@scorer(
    "kernel_shap", range=(None, None), kind="input", slow=True, source="arXiv 1705.07874, by captum", certainty="sure"
)
def kernel_shap(
    context: TaskContext, *, target: str = "answer", baseline: str = "eos", units: str = "word", samples: int = 64
) -> list[np.ndarray]:
    """Shapley values by a weighted regression of the target on random sets of kept words, in nats.

    `samples`: random sets; at least twice as many as there are units are drawn.
    """
    from captum.attr import KernelShap

    @torch.no_grad()
    def method(inputs: Inputs, copies: int) -> Tensor:
        if inputs.units == 1:  # nothing to regress on
            return inputs.without(_all(inputs)) - inputs.without(0 * _all(inputs))
        return KernelShap(inputs.without).attribute(
            _all(inputs), 0, n_samples=max(samples, 2 * inputs.units), perturbations_per_eval=copies
        )[0]

    check_least(1, samples=samples)
    return attributed(context, "kernel_shap", method, target=target, units=units, baseline=baseline, complete=True)
