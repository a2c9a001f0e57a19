"""A step's batch: its samples, its micro-batches, and which answer tokens are computed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models import Encoding, Keys, LanguageModel, TokenBatch, TokenStats, choose, collate, processes

# Samples, the positions of each that get a gradient, and their contexts; None where the others are computed along.
Recipe = tuple[list[Encoding], list[list[int]], list[Keys] | None]


@dataclass(frozen=True)
class MicroBatch:
    """The samples of a batch that are computed at once.

    Attributes:
        lm: the model, whose tokenizer and device the batch is made for.
        indices: of the samples in their set.
        encodings: of these samples; only the answer tokens of an encoding are computed.
        token_share: its computed answer tokens over all answer tokens of the batch, skipped ones included.
        sample_share: its samples over all samples of the batch.
        places: for each sample, which of its answer tokens are computed, as indices; None where all are.
    """

    lm: LanguageModel
    indices: list[int]
    encodings: list[Encoding]
    token_share: float
    sample_share: float
    places: list[Tensor] | None = None
    recipe_of: Callable[[MicroBatch], Recipe] | None = None

    @property
    def tokens(self) -> int:
        """Tokens that are computed, those of the questions included."""
        return sum(len(e.ids) for e in self.encodings) if self.recipe is None else sum(map(len, self.recipe[1]))

    @functools.cached_property
    def recipe(self) -> Recipe | None:
        """Of a sparse step: the samples, the positions of each that are computed, and the contexts of all."""
        return None if self.recipe_of is None else self.recipe_of(self)

    @functools.cached_property
    def batch(self) -> TokenBatch:
        """The samples as one batch."""
        return merged(self.lm, [self])


def merged(lm: LanguageModel, parts: list[MicroBatch]) -> TokenBatch:
    """Micro-batches as one batch; all of them are sparse with contexts, or sparse without, or none is."""
    recipes = [part.recipe for part in parts if part.recipe is not None]
    assert len(recipes) in (0, len(parts))
    if not recipes:
        return collate(lm, [e for part in parts for e in part.encodings])
    encodings, chosen = ([each for recipe in recipes for each in recipe[i]] for i in (0, 1))  # type: ignore[union-attr]
    contexts = [keys for recipe in recipes for keys in recipe[2] or ()]
    return choose(lm, encodings, chosen, contexts or None)  # type: ignore[arg-type]


class BatchSampler:
    """Batches of a set of samples, in an order that depends on the seed and the epoch only.

    Attributes:
        micro_batch_size: samples computed at once in a process; the trainer halves it when memory runs out.
        token_mask: for a sample, which of its answer tokens (T,) are computed; None computes all.
        recipe: of a micro-batch in a sparse step; None computes all positions.
    """

    def __init__(
        self, lm: LanguageModel, encodings: list[Encoding], batch_size: int, seed: int, micro_batch_size: int = 0
    ) -> None:
        self.lm, self.encodings, self.seed = lm, encodings, seed
        self.batch_size = min(batch_size, len(encodings))
        self.micro_batch_size = micro_batch_size or self.batch_size
        self.token_mask: Callable[[int], Tensor] | None = None
        self.recipe: Callable[[MicroBatch], Recipe] | None = None
        self.tokens = [len(e.answer_positions) for e in encodings]
        self._orders: dict[int, list[int]] = {}

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This process's share of a step's batch, in micro-batches; samples without a computed token are left out."""
        batch = self.indices(step)
        masks = {i: self.token_mask(i) for i in set(batch)} if self.token_mask is not None else {}
        own = [i for i in processes().part(batch) if not masks or bool(masks[i].any())]
        starts = range(0, len(own), self.micro_batch_size)
        return [self._micro_batch(batch, own[start : start + self.micro_batch_size], masks) for start in starts]

    def _micro_batch(self, batch: list[int], indices: list[int], masks: dict[int, Tensor]) -> MicroBatch:
        places = None
        encodings = [self.encodings[i] for i in indices]
        if masks and not all(bool(masks[i].all()) for i in indices):
            places = [masks[i].nonzero()[:, 0] for i in indices]
            encodings = [e.only(masks[i].tolist()) for e, i in zip(encodings, indices, strict=True)]
        computed = sum(len(e.answer_positions) for e in encodings)
        token_share = computed / sum(self.tokens[i] for i in batch)
        return MicroBatch(self.lm, indices, encodings, token_share, len(indices) / len(batch), places, self.recipe)

    def indices(self, step: int) -> list[int]:
        """Sample indices of a step."""
        count = len(self.encodings)
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        return [self._order(place // count)[place % count] for place in places]

    def seen(self, steps: int) -> set[int]:
        """Samples that the first steps visit."""
        return {i for step in range(1, steps + 1) for i in self.indices(step)}

    def last_visits(self, steps: int) -> dict[int, int]:
        """For each sample that the last steps visit, the last step that does; two epochs have every sample."""
        first = steps - math.ceil(2 * len(self.encodings) / self.batch_size)
        return {i: step for step in range(max(1, first), steps + 1) for i in self.indices(step)}

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._orders = {epoch - 1: self._orders.get(epoch - 1, [])} | {
                epoch: torch.randperm(len(self.encodings), generator=generator).tolist()
            }
        return self._orders[epoch]


def gather_stats(parts: list[TokenStats]) -> TokenStats:
    """Statistics of a whole batch, from those of its micro-batches here and in the other processes."""
    team = processes()
    samples = [part.samples for part in parts]
    starts = [team.rank * sum(samples) + sum(samples[:i]) for i in range(len(parts))]
    values = {
        "rows": torch.cat([part.rows + start for part, start in zip(parts, starts, strict=True)]),
        "labels": torch.cat([part.labels for part in parts]),
        "logp": torch.cat([part.logp.detach() for part in parts]),
    }
    if parts[0].hidden is not None:
        values["hidden"] = torch.cat([part.hidden for part in parts if part.hidden is not None])
    values = {name: team.concatenated(value) for name, value in values.items()}
    return TokenStats(**values, samples=sum(samples) * team.world)
