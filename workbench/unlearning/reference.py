"""The reference: statistics of a run's samples under the model before the run. Computed only where declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.cost import Phase
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenBatch,
    TokenStats,
    batches,
    count_forward,
    has_adapter,
    token_stats,
    without_adapter,
)

STORED_BYTES = 2 << 30  # if they take more, statistics are computed at every step instead of stored
KINDS = ("reference", "teacher", "states")  # those `needs` of an entry that concern the model before the run


@dataclass
class _Stored:
    """One sample's answer tokens: log-probability and logit; the distribution and the states where needed."""

    logp: Tensor
    logit: Tensor
    logits: Tensor | None
    states: Tensor | None


class Reference:
    """Statistics of a set of samples under the model before the run.

    They are computed once, at the start, with the adapter (if any) switched off, and stored. If that takes more than
    2 GiB, as whole distributions over a vocabulary may, they are computed at every step instead: with the adapter
    switched off, or without one by a frozen copy of the model.
    """

    def __init__(
        self,
        lm: LanguageModel,
        encodings: list[Encoding],
        needs: Iterable[str],
        cost: Phase,
        *,
        seen: Iterable[int],
        layer: int | None,
        batch_size: int,
    ) -> None:
        self.needs, self.cost = frozenset(needs) & set(KINDS), cost
        self.layer = layer if "states" in self.needs else None
        chosen = sorted(set(seen))
        self.stored: dict[int, _Stored] = {}
        self.lm = lm
        if self.bytes(lm, [encodings[i] for i in chosen]) > STORED_BYTES:
            self.lm = lm if has_adapter(lm) else lm.frozen_copy()
            return
        for places, batch in batches(lm, [encodings[i] for i in chosen], batch_size):
            stats = self._compute(batch)
            parts = (stats.logp, stats.logit, stats.logits, stats.states)
            counts = stats.counts.tolist()
            split = [[None] * len(counts) if part is None else part.split(counts) for part in parts]
            for row, place in enumerate(places):
                self.stored[chosen[place]] = _Stored(*(part[row] for part in split))  # type: ignore[arg-type]

    def bytes(self, lm: LanguageModel, encodings: list[Encoding]) -> int:
        """Memory that storing the statistics takes."""
        config = lm.config
        wide = config.vocab_size * ("teacher" in self.needs) + config.hidden_size * ("states" in self.needs)
        return 4 * (wide + 2) * sum(len(e.answer_positions) for e in encodings)

    def of(self, indices: list[int], batch: TokenBatch, places: list[Tensor] | None = None) -> TokenStats:
        """Statistics of a batch with these samples; `places` are the indices of their computed tokens, None for all."""
        if not self.stored:
            return self._compute(replace(batch, chosen=None))
        stored = [self.stored[i] for i in indices]

        def packed(name: str) -> Tensor | None:
            parts = [getattr(each, name) for each in stored]
            if parts[0] is not None and places is not None:
                parts = [part[some.to(part.device)] for part, some in zip(parts, places, strict=True)]
            return None if parts[0] is None else torch.cat(parts)

        logp = packed("logp")
        assert logp is not None
        labels = batch.input_ids[batch.rows, batch.columns]
        wide = {name: packed(name) for name in ("logit", "logits", "states")}
        return TokenStats(batch.rows, labels, logp, samples=len(indices), **wide)

    @torch.no_grad()
    def _compute(self, batch: TokenBatch) -> TokenStats:
        """One forward of the model before the run, without dropout."""
        training = self.lm.module.training
        self.lm.module.eval()
        with without_adapter(self.lm):
            stats = token_stats(self.lm, batch, extras=False, logits="teacher" in self.needs, states=self.layer)
        self.lm.module.train(training)
        count_forward(self.cost, self.lm, batch)
        stats.logp = stats.logp.detach()
        return stats
