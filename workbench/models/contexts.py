"""Keys and values of a whole batch, computed without gradient before a sparse step."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from workbench.models import forward
from workbench.models.batch import TokenBatch
from workbench.models.language_model import LanguageModel
from workbench.models.lockstep import inserted
from workbench.models.packing import packs
from workbench.models.token_stats import TokenStats, token_stats

Keys = dict[int, tuple[Tensor, Tensor]]  # by layer, keys and values (H, tokens, D) of one sample


class _Known(Exception):
    """All keys and values are known: what the last layer does with them is not needed."""


@functools.cache
def _caches() -> tuple[type, type]:
    """The two caches; defined on demand, since transformers' takes seconds to import."""
    from transformers import DynamicCache

    class Recorder(DynamicCache):
        """Keeps the keys and values that a forward pass computes, and ends it when the last ones are there."""

        def __init__(self, last: int | None) -> None:
            super().__init__()
            self.last, self.layers_seen = last, {}  # type: ignore[var-annotated]

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            self.layers_seen[layer_idx] = (key_states.detach(), value_states.detach())
            if layer_idx == self.last:
                raise _Known
            return key_states, value_states

    class Inserter(DynamicCache):
        """Puts fresh keys and values in the places of the old ones; `index` (B, S) are these places."""

        def __init__(self, context: Keys, index: Tensor) -> None:
            super().__init__()
            self.context, self.index = context, index

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            keys, values = self.context[layer_idx]
            return inserted(keys, self.index, key_states), inserted(values, self.index, value_states)

    return Recorder, Inserter


def inserter(context: Keys, index: Tensor) -> Any:
    """A cache that puts fresh keys and values in the places (B, S) of those of a whole batch's context."""
    return _caches()[1](context, index)


@torch.no_grad()
def contexts(lm: LanguageModel, batch: TokenBatch, *, stats: bool = False) -> tuple[list[Keys], TokenStats | None]:
    """Keys and values of each sample of a batch, without gradient and dropout.

    Args:
        lm: the model.
        batch: the samples.
        stats: also the statistics of the answer tokens. Without them the pass ends at the last layer's attention.
    """
    training = lm.module.training
    lm.module.eval()
    recorder = _caches()[0](None if stats else lm.config.num_hidden_layers - 1)
    values = None
    try:
        if stats:
            with lm.autocast():  # logits in the step's own format: they only choose tokens
                values = token_stats(lm, batch, extras=False, cache=recorder)
        else:
            forward.states_and_head(lm, batch, [], None, cache=recorder)
    except _Known:
        pass
    finally:
        lm.module.train(training)
    packed, lengths = packs(lm, batch.width), [len(e.ids) for e in batch.encodings]
    starts = batch.packing.starts.tolist() if packed else [0] * len(lengths)
    parts: list[Keys] = []
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        own = slice(start, start + length)
        parts.append({
            layer: (keys[0 if packed else row, :, own], values_[0 if packed else row, :, own])
            for layer, (keys, values_) in recorder.layers_seen.items()
        })  # fmt: skip
    return parts, values
