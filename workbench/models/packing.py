"""Packing: the samples of a batch one after the other in one row, so that nothing is computed for padding.

Everything in a decoder except attention works on each position alone, where padding is waste. Attention is computed in
groups of samples of similar length, padded to the longest of the group. The results equal those of the padded forward
pass up to rounding.
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

from workbench.models.attention import by_products, suits_products
from workbench.models.language_model import quiet

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

NAME = "packed"  # of the attention implementation in transformers' registry
# The cost of another call of attention, in padded positions. Of 16, 64, 256 and a single group, 256 was the fastest for
# an embedded model; larger models pay more for padding.
CALL = 128


def length_groups(lengths: Sequence[int], price: int) -> list[list[int]]:
    """Split rows into groups, each padded to its longest row, so that the fewest positions are computed.

    Every group beyond the first costs `price` positions. The split is optimal, by dynamic programming: with the rows in
    order of length the groups are intervals, and the best split of the first rows is the best split before an interval
    plus that interval.
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
    """Samples of similar length, which are consecutive in the row.

    Attributes:
        start: its first position in the row.
        lengths: of its samples.
        padded_from: (samples * width,) for each padded position, its source in the group's part of the row; None where
            all samples have the same length. Padding repeats a sample's last token, which no other token attends to.
        kept: (positions,) the inverse: for each token its padded position.
    """

    start: int
    lengths: list[int]
    padded_from: Tensor | None
    kept: Tensor | None

    @property
    def stop(self) -> int:
        """The position after its last one."""
        return self.start + sum(self.lengths)

    @property
    def width(self) -> int:
        """Tokens of its longest sample."""
        return max(self.lengths)

    def padded(self, values: Tensor) -> Tensor:
        """The group's values, padded: (samples, H, width, D) from (1, H, P, D) of the whole row."""
        own = values[0, :, self.start : self.stop]
        if self.padded_from is not None:
            own = own.index_select(1, self.padded_from)
        return own.unflatten(1, (len(self.lengths), self.width)).transpose(0, 1)

    def flat(self, values: Tensor) -> Tensor:
        """Values without their padding: (positions, H, D) from (samples, width, H, D)."""
        values = values.flatten(0, 1)
        return values if self.kept is None else values.index_select(0, self.kept)


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a padded batch (B, L) are in the row.

    Attributes:
        rows: (P,) sample of each position.
        columns: (P,) its index in the sample.
        starts: (B,) first position of each sample.
        groups: the samples by length.
    """

    rows: Tensor
    columns: Tensor
    starts: Tensor
    groups: list[Group]

    @property
    def parts(self) -> list[tuple[Group, Group, None]]:
        """For each group its queries, its keys, and no mask, since all is causal."""
        return [(group, group, None) for group in self.groups]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Packing:
        """Pack samples of these lengths."""
        groups: list[Group] = []
        order: list[int] = []
        starts, position = [0] * len(lengths), 0
        for chosen in length_groups(lengths, CALL):
            groups.append(group_of(position, [lengths[i] for i in chosen], device))
            order += chosen
            for row in chosen:
                starts[row] = position
                position += lengths[row]
        rows = [row for row in order for _ in range(lengths[row])]
        columns = [column for row in order for column in range(lengths[row])]

        def on_device(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        return cls(on_device(rows), on_device(columns), on_device(starts), groups)


def group_of(start: int, lengths: list[int], device: torch.device) -> Group:
    """The group of consecutive samples of these lengths that begins at a position of the row."""
    if len(set(lengths)) == 1:
        return Group(start, lengths, None, None)
    length, width = torch.tensor(lengths), max(lengths)
    column = torch.arange(width)
    padded_from = (length.cumsum(0) - length)[:, None] + torch.minimum(column, length[:, None] - 1)
    kept = (column < length[:, None]).flatten().nonzero()[:, 0]
    return Group(start, lengths, padded_from.flatten().to(device), kept.to(device))


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    packing: Any = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention by transformers' `sdpa`, group by group where there is a `packing` (or a `SparsePacking`).

    In bfloat16 training it is by plain products where these are faster (`workbench.models.attention`).

    Args:
        module: the attention layer.
        query: (1, H, P, D) of a row of P positions; (B, H, L, D) of a padded batch.
        key: the same, possibly with fewer heads.
        value: as key.
        mask: ignored where there is a packing.
        packing: of the row; None for a padded batch.
        rest: further arguments of `sdpa`.

    Returns:
        (1, P, H, D) or (B, L, H, D), and no attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packing is None:
        return sdpa_attention_forward(module, query, key, value, mask, **rest)
    outputs = []
    for queries, keys, seen in packing.parts:
        q, k, v = queries.padded(query), keys.padded(key), keys.padded(value)
        if suits_products(q, k, v, rest):
            out = by_products(q, k, v, seen, rest.get("scaling"))
        else:
            out, _ = sdpa_attention_forward(module, q, k, v, seen, **rest | {"is_causal": seen is None})
        outputs.append(queries.flat(out))
    return torch.cat(outputs)[None], None


def packed_arguments(packing: Packing, inputs: Tensor, name: str) -> dict[str, Any]:
    """Arguments with which a model or its decoder computes (B, L) ids or (B, L, d) embeddings as one row.

    Args:
        packing: of the batch.
        inputs: the ids or embeddings.
        name: of the argument that takes them: "input_ids" or "inputs_embeds".
    """
    return {
        name: inputs[packing.rows, packing.columns][None],
        "position_ids": packing.columns[None],
        # transformers takes a mask of four dimensions as ready for use and makes none.
        "attention_mask": torch.empty(1, 1, 1, 1, dtype=torch.bool, device=inputs.device),
        "packing": packing,
    }


_packs: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


def packs(lm: LanguageModel, width: int) -> bool:
    """Whether a model can compute samples of at most `width` tokens as one row; tested once, against padding.

    Only on a CPU: a GPU's step is bound by kernel launches (measured, see docs/findings), and groups launch more
    kernels. Compiled steps and sharded models are padded, since they need the same shapes at every step.
    """
    model = lm.module
    if lm.device.type != "cpu" or hasattr(model, "run_inside") or (model.training and lm.compiled is not None):
        return False
    # A copy of a tested model has its attention and is tested again; a tested model with "sdpa" is to be padded.
    if model.config._attn_implementation not in ((NAME,) if model in _packs else (NAME, "sdpa")):
        return False
    if windowed(lm, width):
        return False
    if model not in _packs:
        _packs[model] = _try_packing(lm)
    return _packs[model]


def windowed(lm: LanguageModel, width: int) -> bool:
    """Whether a token of a sample of `width` tokens may not see all before it."""
    limits = [getattr(lm.config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return any(limit is not None and limit < width for limit in limits)


@contextlib.contextmanager
def attention_by(lm: LanguageModel, name: str) -> Iterator[None]:
    """Use another implementation of attention for a while."""
    before = lm.module.config._attn_implementation
    _set_attention(lm.module, name)
    try:
        yield
    finally:
        _set_attention(lm.module, before)


def _set_attention(model: Any, name: str) -> None:
    """Choose the implementation of attention; transformers warns of models that have only their own."""
    with quiet():
        model.set_attn_implementation(name)


def padding(lm: LanguageModel) -> contextlib.AbstractContextManager[None]:
    """Pad instead of packing for a while, for code that must tell the samples apart inside the model."""
    return attention_by(lm, "sdpa") if packs(lm, 1) else contextlib.nullcontext()


@torch.no_grad()
def _try_packing(lm: LanguageModel) -> bool:
    """Whether two samples get the same logits packed as padded; if not, the model's attention is "sdpa" again."""
    # Imported here, since it loads all of transformers' modelling code, which takes seconds.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model, training = lm.module, lm.module.training
    lengths = [3, 5]
    packing = Packing.of(lengths, lm.device)
    ids = torch.arange(10, device=lm.device).view(2, 5) % lm.config.vocab_size
    mask = torch.arange(5, device=lm.device) < torch.tensor(lengths, device=lm.device)[:, None]
    model.eval()
    works = False
    try:
        _set_attention(model, NAME)
        # Through the whole model, to see whether it passes its arguments on to the decoder.
        packed = model(**packed_arguments(packing, ids, "input_ids"), use_cache=False).logits[0]
        padded = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        works = torch.allclose(packed, padded[packing.rows, packing.columns], rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        pass  # it does not pass its arguments on to attention
    finally:
        model.train(training)
        if not works:
            _set_attention(model, "sdpa")
    return works
