"""Quantisation: what rounding the weights brings back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import NotAvailable
from workbench.evals.attacks.asking import beside_plain, generating
from workbench.evals.attacks.spec import Outcome, Target, WrongOption, recovery
from workbench.models import LanguageModel, decoder_layers

SOURCE: dict[str, Any] = {"source": "arXiv 2410.16454 (Q), 2605.02196", "certainty": "sure"}


def rounded(weight: Tensor, bits: int, group: int = 64) -> Tensor:
    """Weights (out, in) as they are after symmetric rounding to nearest, in groups of `group` along the input.

    Each group is round(w / s) * s with s = max |w| / (2^(bits-1) - 1), so that its largest weight stays as it is, as in
    bitsandbytes' int8 (torchao's symmetric int4 divides by 7.5 and clips the largest positive weight). The last group
    is shorter where the width is no multiple.
    """
    if group < 1:
        raise WrongOption(f"group must be at least 1, not {group}")
    levels = 2 ** (bits - 1) - 1
    grouped = F.pad(weight, (0, -weight.shape[1] % group)).unflatten(1, (-1, group))
    scale = grouped.abs().amax(-1, keepdim=True) / levels
    steps = (grouped / torch.where(scale > 0, scale, 1.0)).round()
    return (steps * scale).flatten(1)[:, : weight.shape[1]]


def linear_weights(lm: LanguageModel) -> Iterator[tuple[torch.nn.Module, bool]]:
    """The linear layers inside the decoder's layers, and whether their weight is stored (in, out), as GPT-2's are.

    Embeddings and the head stay as they are.
    """
    for layer in decoder_layers(lm):
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
                yield module, not isinstance(module, torch.nn.Linear)


@torch.no_grad()
def quantised(lm: LanguageModel, change: Callable[[Tensor], Tensor]) -> LanguageModel:
    """A copy of a model whose linear layers have their weights (out, in) changed; NotAvailable where it has none."""
    copy = lm.frozen_copy()
    modules = list(linear_weights(copy))
    if not modules:
        raise NotAvailable("the model's layers have no linear weights")
    for module, turned in modules:
        weight: Any = module.weight
        weight.copy_(change(weight.T).T if turned else change(weight))
    return copy


def similarity(a: float, b: float) -> float:
    """1 - |a - b| / (|a| + |b|), the Q and R of the papers: 1 where nothing changed."""
    return 1.0 if a == b else 1 - abs(a - b) / (abs(a) + abs(b))


def _attack(target: Target, change: Callable[[Tensor], Tensor], what: str) -> Outcome:
    outcome = beside_plain(target, target.questions, what, lm=quantised(target.lm, change))
    outcome.parts["Q"] = similarity(outcome.parts["greedy"], outcome.parts["alone"])
    return outcome


@recovery("int8", cost=lambda target, **_: generating(target, 2), **SOURCE)
def int8(target: Target, *, group: int = 64) -> Outcome:
    """Share of facts given by a copy with weights rounded to 8 bits, or by the model: symmetric, to nearest, per group.

    Linear layers only, without the head. The parts have Q = 1 - |a - b| / (|a| + |b|), a and b the shares without and
    with rounding.

    `group`: weights that share a scale.
    """
    return _attack(target, lambda weight: rounded(weight, 8, group), "int8")


@recovery("int4", cost=lambda target, **_: generating(target, 2), **SOURCE)
def int4(target: Target, *, group: int = 64) -> Outcome:
    """The same with 4 bits.

    `group`: weights that share a scale.
    """
    return _attack(target, lambda weight: rounded(weight, 4, group), "int4")


@recovery("nf4", needs=("gpu",), cost=lambda target, **_: generating(target, 2), **SOURCE)
def nf4(target: Target, *, group: int = 64) -> Outcome:
    """The same with bitsandbytes' 4-bit NormalFloat.

    `group`: weights that share a scale.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    def change(weight: Tensor) -> Tensor:
        codes, state = quantize_4bit(weight.contiguous(), blocksize=group, quant_type="nf4")
        return dequantize_4bit(codes, state).to(weight)

    return _attack(target, change, "nf4")
