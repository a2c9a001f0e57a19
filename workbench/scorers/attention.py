"""Attention as an explanation: the folk baseline."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UnsupportedError, UserError
from workbench.models import LanguageModel, attention_by
from workbench.scorers.attribution import attributed
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.inputs import Inputs

ATTENTION = {"self_attn", "attn", "attention", "self_attention"}  # what model families call the module


@scorer("attention_rollout", range=(0, 1), kind="input", source="arXiv 2005.00928", certainty="sure")
def attention_rollout(context: TaskContext, *, target: str = "answer", units: str = "token") -> list[np.ndarray]:
    """Attention from the positions that predict the target, followed down the layers: product of (A + I) / 2.

    A is the mean over a layer's heads. This is the folk baseline: it does not depend on what the model predicts. The
    targets `answer` and `mean` give the same scores; there is no `contrast`.
    """
    if target == "contrast":
        raise UserError("attention_rollout follows positions, so it has no contrast; take target=answer or token:K")

    @torch.no_grad()
    def method(inputs: Inputs, copies: int) -> Tensor:
        rolled: list[Tensor] = []

        def follow(module: torch.nn.Module, arguments: Any, output: Any) -> None:
            if not isinstance(output, tuple) or len(output) < 2 or not isinstance(output[1], Tensor):
                raise UnsupportedError(
                    f"attention_rollout: the attention of {context.lm.name} does not hand out its weights"
                )
            mean = output[1][0].float().mean(0)
            step = (mean + torch.eye(len(mean), device=mean.device)) / 2
            rolled[:] = [step if module is layers[0] else step @ rolled[0]]

        with contextlib.ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(layer.register_forward_hook(follow))
            inputs(inputs.embeddings)
        before = torch.tensor(inputs.encoding.answer_positions) - 1
        weights = (inputs.weights / inputs.weights.sum()).to(rolled[0])
        return inputs.by_unit(weights @ rolled[0][before])

    layers = _attention_layers(context.lm)
    with attention_by(context.lm, "eager"):
        scores = attributed(context, "attention_rollout", method, target=target, units=units)
    context.notes["attention_rollout"]["target"] = "attention, whatever is predicted"
    return scores


def _attention_layers(lm: LanguageModel) -> list[torch.nn.Module]:
    """The attention modules, first layer first; of nested ones the outer, which is what the layer calls."""
    named = {name: m for name, m in lm.module.get_decoder().named_modules() if name.split(".")[-1] in ATTENTION}
    outer = [m for name, m in named.items() if not any(name.startswith(f"{other}.") for other in named)]
    if len(outer) != lm.config.num_hidden_layers:
        raise UnsupportedError(f"attention_rollout: the attention modules of {lm.name} were not found")
    return outer
