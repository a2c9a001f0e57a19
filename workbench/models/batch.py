"""Padded batches of encoded samples."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from workbench.models.encoding import Encoding
from workbench.models.packing import Packing

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel
    from workbench.models.sparse import Chosen

T = TypeVar("T")


@dataclass(frozen=True)
class TokenBatch:
    """Encodings padded to one length L: `input_ids` and `attention_mask` (B, L); padded on the right.

    Where positions are `chosen`, only these are computed.
    """

    encodings: list[Encoding]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor  # (N,) sample of each answer token
    columns: Tensor  # (N,) its position in the sequence
    chosen: Chosen | None = None

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.input_ids.device

    @property
    def tokens(self) -> int:
        """Tokens that are computed, without padding."""
        return self.chosen.tokens if self.chosen is not None else sum(len(e.ids) for e in self.encodings)

    @functools.cached_property
    def packing(self) -> Packing:
        """Where the tokens are when the samples are computed as one row without padding."""
        return Packing.of([len(e.ids) for e in self.encodings], self.device)

    @property
    def width(self) -> int:
        """L: tokens of the longest sample."""
        return self.input_ids.shape[1]

    def places(self, packed: bool) -> Tensor:
        """(N,) position of each answer token in the packed row, or in the padded rows one after the other."""
        starts = self.packing.starts if packed else self.width * torch.arange(len(self.encodings), device=self.device)
        return starts[self.rows] + self.columns


def collate(lm: LanguageModel, encodings: Sequence[Encoding]) -> TokenBatch:
    """Pad on the right; the mask comes from the lengths, never from the padding id (it may equal the end token)."""
    lengths = [len(e.ids) for e in encodings]
    pad = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else 0
    ids = torch.full((len(encodings), max(lengths)), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    rows, columns = [], []
    for row, encoding in enumerate(encodings):
        ids[row, : lengths[row]] = torch.tensor(encoding.ids)
        mask[row, : lengths[row]] = 1
        positions = encoding.answer_positions
        rows += [row] * len(positions)
        columns += positions
    device = lm.device
    return TokenBatch(
        list(encodings),
        ids.to(device),
        mask.to(device),
        rows=torch.tensor(rows, dtype=torch.long, device=device),
        columns=torch.tensor(columns, dtype=torch.long, device=device),
    )


def batches(lm: LanguageModel, encodings: Sequence[Encoding], size: int) -> Iterator[tuple[list[int], TokenBatch]]:
    """Batches of at most `size` samples of similar length, each with the indices of its samples in `encodings`."""
    order = sorted(range(len(encodings)), key=lambda i: (len(encodings[i].ids), i))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, collate(lm, [encodings[i] for i in chosen])


def in_sample_order(parts: Iterable[tuple[Sequence[int], Iterable[T]]]) -> list[T]:
    """One value a sample, in the samples' order, from batches of (indices, values)."""
    values = {index: value for indices, part in parts for index, value in zip(indices, part, strict=True)}
    return [values[index] for index in sorted(values)]
