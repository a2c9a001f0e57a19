"""A step's batch: which samples, in which parts, and which of their answer tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models import Encoding, LanguageModel, TokenBatch, collate, processes


@dataclass(frozen=True)
class Part:
    """What of a step's batch is computed at once: its samples, and its shares of the whole batch.

    Attributes:
        lm: for whose tokenizer and device the batch is made.
        indices: of the samples in their set.
        encodings: of these samples; the answer tokens of an encoding are those that are computed.
        of_tokens: its computed answer tokens, as a share of all of the whole batch's, computed or not.
        of_samples: share of its samples.
        kept: for each sample the places of its computed answer tokens among all of its; None where all are.
    """

    lm: LanguageModel
    indices: list[int]
    encodings: list[Encoding]
    of_tokens: float
    of_samples: float
    kept: list[Tensor] | None = None

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return sum(len(e.ids) for e in self.encodings)

    @functools.cached_property
    def batch(self) -> TokenBatch:
        """The samples as a batch."""
        return collate(self.lm, self.encodings)


class Batcher:
    """Batches of a set of samples in an order that depends on the seed and the epoch alone.

    Attributes:
        most: samples computed at once in a process; the loop halves it where memory runs out.
        kept: for a sample, which of its answer tokens (T,) are computed; by default all are.
    """

    def __init__(self, lm: LanguageModel, encodings: list[Encoding], size: int, seed: int, most: int = 0) -> None:
        self.lm, self.encodings, self.size, self.seed = lm, encodings, min(size, len(encodings)), seed
        self.most = most or self.size
        self.kept: Callable[[int], Tensor] | None = None
        self.tokens = [len(e.answer_positions) for e in encodings]
        self._orders: dict[int, list[int]] = {}

    def parts(self, step: int) -> list[Part]:
        """A step's batch in parts of at most `most` samples: those of this process."""
        whole = self.indices(step)
        masks = {i: self.kept(i) for i in set(whole)} if self.kept is not None else {}
        own = [i for i in processes().part(whole) if not masks or bool(masks[i].any())]
        found = []
        for start in range(0, len(own), self.most):
            chosen = list(own[start : start + self.most])
            if all(bool(masks[i].all()) for i in chosen if masks):
                encodings, kept = [self.encodings[i] for i in chosen], None
                computed = sum(self.tokens[i] for i in chosen)
            else:
                encodings = [self.encodings[i].only(masks[i].tolist()) for i in chosen]
                kept = [masks[i].nonzero()[:, 0] for i in chosen]
                computed = sum(len(k) for k in kept)
            of_tokens = computed / sum(self.tokens[i] for i in whole)
            found.append(Part(self.lm, chosen, encodings, of_tokens, len(chosen) / len(whole), kept))
        return found

    def indices(self, step: int) -> list[int]:
        """Sample indices of a step."""
        count = len(self.encodings)
        places = range((step - 1) * self.size, step * self.size)
        return [self._order(place // count)[place % count] for place in places]

    def seen(self, steps: int) -> set[int]:
        """Samples that the first steps visit."""
        return {i for step in range(1, steps + 1) for i in self.indices(step)}

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._orders = {epoch - 1: self._orders.get(epoch - 1, [])} | {
                epoch: torch.randperm(len(self.encodings), generator=generator).tolist()
            }
        return self._orders[epoch]
