"""Two models in the memory of little more than one: parameters that are equal need to be there once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from workbench.models.language_model import LanguageModel


def share_weights(lm: LanguageModel, other: LanguageModel) -> None:
    """Let those parameters of `lm` that equal `other`'s of the same name use its memory.

    After training with LoRA these are the embeddings and norms, after training some layers all the others. Neither
    model may be trained afterwards.
    """
    own = {name.replace(".base_layer", ""): p for name, p in other.module.named_parameters()}
    for name, parameter in lm.module.named_parameters():
        same = own.get(name.replace(".base_layer", ""))
        alike = same is not None and (same.device, same.dtype, same.shape) == (
            parameter.device,
            parameter.dtype,
            parameter.shape,
        )
        if same is not None and alike and torch.equal(same, parameter):
            parameter.data = same.data


def memory_of(lm: LanguageModel, others: Iterable[LanguageModel] = ()) -> tuple[int, int]:
    """A model's parameters, and the bytes of memory that they take beside those of `others`."""
    taken = {p.data_ptr() for other in others for p in other.module.parameters()}
    own = list(lm.module.parameters())
    return sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own if p.data_ptr() not in taken)
