"""Answers one after the other in one row, without padding: what a model computes of a token batch.

Everything in a decoder but attention works on each position alone, so that padding there is waste. Attention is
computed in groups of samples of like length, padded to the longest of the group. Equal to the padded forward to
rounding.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

NAME = "packed"  # of the attention implementation, as transformers knows it
# What another call of attention costs, in padded positions that it must save. Of 16, 64, 256 and one group alone an
# embedded model was fastest with 256; larger ones pay more for padding.
CALL = 128


def length_groups(lengths: Sequence[int], price: int) -> list[list[int]]:
    """Rows in groups that are padded to their own longest each, so that the positions computed are fewest.

    Every group beyond the first counts as `price` positions. Exact: with the rows in order of length the groups are
    intervals, and the best ending at a row is the best ending before an interval plus that interval.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    best, cut = [0], [0]
    for end in range(1, len(order) + 1):
        width = lengths[order[end - 1]]
        costs = [best[start] + price + width * (end - start) for start in range(end)]
        cut.append(min(range(end), key=costs.__getitem__))
        best.append(costs[cut[-1]])
    ends = [len(order)]
    while ends[-1]:
        ends.append(cut[ends[-1]])
    return [sorted(order[start:end]) for start, end in itertools.pairwise(reversed(ends))]


@dataclass(frozen=True)
class Group:
    """Samples of like length, which follow on each other in the row.

    Attributes:
        start: its first position in the row.
        lengths: of its samples.
        spread: (samples * width,) position in the group's part of the row of each padded position; None where none is
            padded. Padding repeats a sample's last token: causal attention shows it to nobody.
        kept: (positions,) padded position of each of its tokens, the inverse.
    """

    start: int
    lengths: list[int]
    spread: Tensor | None
    kept: Tensor | None

    @property
    def stop(self) -> int:
        """The position after its last."""
        return self.start + sum(self.lengths)

    @property
    def width(self) -> int:
        """Tokens of its longest sample."""
        return max(self.lengths)

    def padded(self, values: Tensor) -> Tensor:
        """(samples, H, width, D) of values (1, H, P, D) of the whole row."""
        own = values[0, :, self.start : self.stop]
        if self.spread is not None:
            own = own.index_select(1, self.spread)
        return own.unflatten(1, (len(self.lengths), self.width)).transpose(0, 1)

    def flat(self, values: Tensor) -> Tensor:
        """(positions, H, D) of values (samples, width, H, D)."""
        values = values.flatten(0, 1)
        return values if self.kept is None else values.index_select(0, self.kept)


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a padded batch (B, L) are in the row.

    Attributes:
        rows: (P,) sample of each position.
        columns: (P,) its place in the sample.
        starts: (B,) first position of each sample.
        groups: the samples by length.
    """

    rows: Tensor
    columns: Tensor
    starts: Tensor
    groups: list[Group]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Packing:
        """Pack samples of these lengths."""
        groups: list[Group] = []
        order: list[int] = []
        starts, begun = [0] * len(lengths), 0
        for chosen in length_groups(lengths, CALL):
            own = [lengths[i] for i in chosen]
            groups.append(_group(begun, own, device))
            order += chosen
            for row, length in zip(chosen, own, strict=True):
                starts[row], begun = begun, begun + length
        rows = [row for row in order for _ in range(lengths[row])]
        columns = [column for row in order for column in range(lengths[row])]

        def on_device(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        return cls(on_device(rows), on_device(columns), on_device(starts), groups)


def _group(start: int, lengths: list[int], device: torch.device) -> Group:
    if len(set(lengths)) == 1:
        return Group(start, lengths, None, None)
    length, width = torch.tensor(lengths), max(lengths)
    column = torch.arange(width)
    spread = (length.cumsum(0) - length)[:, None] + torch.minimum(column, length[:, None] - 1)
    kept = (column < length[:, None]).flatten().nonzero()[:, 0]
    return Group(start, lengths, spread.flatten().to(device), kept.to(device))


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    packing: Packing | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention as transformers' `sdpa`, of each group of a packed row where there is a `packing`.

    Args:
        module: the attention layer.
        query: (1, H, P, D) of a row of P positions; (B, H, L, D) of a padded batch.
        key: the same, possibly of fewer heads.
        value: as key.
        mask: not read where there is a packing.
        packing: of the row; None for a padded batch.
        rest: what `sdpa` takes.

    Returns:
        (1, P, H, D) or (B, L, H, D), and no attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packing is None:
        return sdpa_attention_forward(module, query, key, value, mask, **rest)
    found = []
    for group in packing.groups:
        q, k, v = (group.padded(each) for each in (query, key, value))
        found.append(group.flat(sdpa_attention_forward(module, q, k, v, None, **rest | {"is_causal": True})[0]))
    return torch.cat(found)[None], None


def arguments(packing: Packing, read: Tensor, name: str) -> dict[str, Any]:
    """What a model or its decoder is called with, to compute `read`, (B, L) ids or (B, L, d) embeddings, as one row."""
    return {
        name: read[packing.rows, packing.columns][None],
        "position_ids": packing.columns[None],
        # transformers takes a mask of four dimensions for one that is ready, and makes none.
        "attention_mask": torch.empty(1, 1, 1, 1, dtype=torch.bool, device=read.device),
        "packing": packing,
    }


_packs: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


def packs(lm: LanguageModel, width: int) -> bool:
    """Whether a model computes samples of at most `width` tokens as one row: tried once, against padding.

    On a CPU: a GPU's step is bound by launching kernels (measured, see docs/findings), and groups launch more.
    Compiled steps and sharded models are padded, since they want the same shapes every time.
    """
    model = lm.module
    if lm.device.type != "cpu" or hasattr(model, "run_inside") or (model.training and lm.compiled is not None):
        return False
    # A copy of a model that was tried has its attention, and is tried anew; one that was tried has "sdpa" to pad.
    if model.config._attn_implementation not in ((NAME,) if model in _packs else (NAME, "sdpa")):
        return False
    limits = [getattr(model.config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(limit is not None and limit < width for limit in limits):
        return False
    if model not in _packs:
        _packs[model] = _tried(lm)
    return _packs[model]


@contextlib.contextmanager
def attention_by(lm: LanguageModel, name: str) -> Iterator[None]:
    """Another implementation of attention for a while."""
    before = lm.module.config._attn_implementation
    lm.module.set_attn_implementation(name)
    try:
        yield
    finally:
        lm.module.set_attn_implementation(before)


def padding(lm: LanguageModel) -> contextlib.AbstractContextManager[None]:
    """For a while no row: for what tells samples from each other inside the model."""
    return attention_by(lm, "sdpa") if packs(lm, 1) else contextlib.nullcontext()


@torch.no_grad()
def _tried(lm: LanguageModel) -> bool:
    """Whether two samples in a row have the logits that they have when padded; if not, attention is sdpa's again."""
    # Not at the top: it loads all of transformers' modelling code, seconds for a command that needs no model.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model, training = lm.module, lm.module.training
    lengths = [3, 5]
    packing = Packing.of(lengths, lm.device)
    ids = torch.arange(10, device=lm.device).view(2, 5) % model.config.vocab_size
    mask = torch.arange(5, device=lm.device) < torch.tensor(lengths, device=lm.device)[:, None]
    model.eval()
    works = False
    try:
        model.set_attn_implementation(NAME)
        # By the whole model, which hands its arguments on to the decoder, if it does.
        packed = model(**arguments(packing, ids, "input_ids"), use_cache=False).logits[0]
        padded = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        works = torch.allclose(packed, padded[packing.rows, packing.columns], rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        pass  # it does not hand its arguments on to attention
    finally:
        model.train(training)
        if not works:
            model.set_attn_implementation("sdpa")
    return works
