"""One call of a model's `generate`: new tokens after left-padded prompts, greedy or drawn."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from workbench.models.drawing import Draws
    from workbench.models.language_model import LanguageModel

T = TypeVar("T")
_locks: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def exclusive(lm: LanguageModel) -> Any:
    """The lock of a model's module, for what changes it for a while: a widget's thread may use it beside a cell.

    Whoever holds one must not wait for another's.
    """
    with _guard:
        return _locks.setdefault(lm.module, threading.RLock())


def until(generated: torch.Tensor, ends: set[int]) -> list[list[int]]:
    """Each row's tokens before its first end of a turn; not every such token is a special one, which decoding skips."""
    return [list(itertools.takewhile(lambda index: index not in ends, row)) for row in generated.tolist()]


def in_batches(order: Sequence[T], at_once: int, room: Callable[[T], int]) -> Iterator[tuple[list[T], int]]:
    """Neighbours in `order`, at most `at_once`, whose answers have the same room in the context; and that room.

    So no answer is cut because another prompt in its batch is long.
    """
    for size, group in itertools.groupby(order, room):
        alike = list(group)
        for start in range(0, len(alike), at_once):
            yield alike[start : start + at_once], size


def _pad(lm: LanguageModel) -> int:
    return lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else 0


def padded(lm: LanguageModel, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts (B, T) with padding on their left, and the mask of what is no padding."""
    gaps = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
    ids = [[_pad(lm)] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * len(prompt) for gap, prompt in zip(gaps, prompts, strict=True)]
    return torch.tensor(ids, device=lm.device), torch.tensor(mask, device=lm.device)


def generate(
    lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, room: int, ends: set[int], draws: Draws | None = None
) -> tuple[torch.Tensor, list[bool]]:
    """New tokens (B, at most `room`) after left-padded prompts (B, T), and whether all logits of a row were finite.

    They are the most probable ones or, with `draws` of B rows, drawn.
    """
    from transformers import GenerationConfig

    own_ends = {"pad_token_id": _pad(lm), "eos_token_id": sorted(ends) or None}
    config = GenerationConfig(max_new_tokens=room, do_sample=False, **own_ends)
    width, finite = ids.shape[1], torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    stops = torch.tensor(sorted(ends), device=ids.device, dtype=ids.dtype)

    def watch(so_far: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        ended = torch.isin(so_far[:, width:], stops).any(-1)  # what follows is padding
        finite.logical_and_(ended | logits.sum(-1).isfinite())
        if draws is None:
            return logits
        rows = torch.arange(len(logits), device=logits.device)
        tokens = draws.take(logits, so_far.shape[1] - width, rows, rows)
        return torch.full_like(logits, -torch.inf).scatter_(1, tokens[:, None], 0.0)

    with exclusive(lm):
        # What `config` leaves open, generate takes from the model's own defaults, which may penalise repetition.
        own, lm.module.generation_config = lm.module.generation_config, config
        try:
            with lm.autocast():
                output = lm.module.generate(
                    input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[watch]
                )
        finally:
            lm.module.generation_config = own
    return output[:, width:], finite.tolist()
