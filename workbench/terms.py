"""The two terms of a run's loss: what is forgotten and what is kept, each on its own batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workbench.adapters import backward_share
from workbench.cost import Ledger
from workbench.models import LanguageModel
from workbench.objectives import REFUSALS, ForgetTokens, objective, retain_loss
from workbench.reference import KINDS, Reference
from workbench.registry import Entry, UserError
from workbench.scorers.weights import Weights, states_of
from workbench.settings import Settings
from workbench.tasks import Sample
from workbench.tokens import Encoding, TokenBatch, TokenStats, collate, encode, token_stats

RMU_DEPTH = 7 / 16  # of the layers: where states are steered, unless a layer is named


class Batcher:
    """Batches of a set of samples in an order that depends on the seed and the epoch alone."""

    def __init__(self, lm: LanguageModel, encodings: list[Encoding], size: int, seed: int) -> None:
        self.lm, self.encodings, self.size, self.seed = lm, encodings, min(size, len(encodings)), seed
        self._orders: dict[int, list[int]] = {}

    def at(self, step: int) -> tuple[list[int], TokenBatch]:
        """Sample indices and batch of a step (from 1). An epoch's last batch takes its missing rows from the next."""
        chosen = self.indices(step)
        return chosen, collate(self.lm, [self.encodings[i] for i in chosen])

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


def needs_of(entry: Entry) -> set[str]:
    """What an objective or retain loss needs beside the log-probabilities."""
    return set(entry.facts.get("needs", ()))


def preferred_answers(entry: Entry, samples: list[Sample]) -> list[Sample] | None:
    """The answers that an objective prefers to those it forgets, one a sample; None where it prefers none.

    Raises:
        UserError: a sample cannot have one.
    """
    needs = needs_of(entry)
    if not needs & {"refusals", "alternates"}:
        return None
    lacking = [s.id for s in samples if not (s.question if "refusals" in needs else s.wrong_answers)]
    if lacking:
        what = "a question to refuse" if "refusals" in needs else "wrong answers"
        raise UserError(f"objective '{entry.name}' needs {what}, and sample '{lacking[0]}' has none")
    texts = [REFUSALS[i % len(REFUSALS)] if "refusals" in needs else s.wrong_answers[0] for i, s in enumerate(samples)]
    return [replace(s, answer=text, spans=None) for s, text in zip(samples, texts, strict=True)]


def steered_layer(lm: LanguageModel, options: dict[str, Any]) -> int:
    """The layer whose states a run steers or holds, as an index into the model's hidden states."""
    return int(options.get("layer", 0)) or max(1, round(RMU_DEPTH * lm.module.config.num_hidden_layers))


class ForgetTerm:
    """Gamma times an objective, on the forget set: its batches, its token weights, and what the objective needs."""

    def __init__(
        self,
        lm: LanguageModel,
        samples: list[Sample],
        objective_name: str,
        weights: Weights,
        settings: Settings,
        ledger: Ledger,
    ) -> None:
        self.lm, self.weights, self.settings, self.ledger = lm, weights, settings, ledger
        self.entry = objective[objective_name]
        self.options = settings.options.get("objective", {})
        self.needs = needs_of(self.entry)
        self.layer = steered_layer(lm, self.options) if "states" in self.needs else None
        self.batches = Batcher(lm, [encode(lm, s) for s in samples], settings.batch_size, settings.seed)
        preferred = preferred_answers(self.entry, samples)
        self.preferred = None if preferred is None else [encode(lm, s) for s in preferred]
        # An objective's states are steered to a fixed vector: what they were before is the retain term's affair.
        asked = self.needs & {"reference", "teacher"}
        self.reference = self._reference(self.batches.encodings, asked) if asked else None
        self.preferred_reference = None if self.preferred is None else self._reference(self.preferred, {"reference"})
        ids = lm.tokenizer(REFUSALS[-1], add_special_tokens=False).input_ids
        self.refusal = torch.tensor(ids, device=lm.device) if "refusal" in self.needs else None
        self.passes = 1 + backward_share(lm)

    def _reference(self, encodings: list[Encoding], needs: set[str]) -> Reference:
        seen = self.batches.seen(self.settings.steps)
        size = self.settings.batch_size
        with self.ledger.phase("reference") as phase:
            return Reference(self.lm, encodings, needs, phase, seen=seen, layer=None, batch_size=size)

    def stats(self, batch: TokenBatch) -> TokenStats:
        """One forward of the model on a batch, with all that the objective and a live scorer read."""
        read = states_of(self.weights.learner)
        return token_stats(self.lm, batch, extras=False, logits="logits" in self.needs, states=self.layer, **read)

    def loss(self, step: int, learn: Callable[[TokenStats], None]) -> tuple[Tensor, dict[str, Any]]:
        """The objective's value with gradient, and what an event says of it.

        Args:
            step: from 1.
            learn: called with the statistics when it is a live scorer's turn to learn.
        """
        indices, batch = self.batches.at(step)
        with self.ledger.phase("forget") as phase:
            stats = self.stats(batch)
            phase.count(self.lm, batch, passes=self.passes)
        learner = self.weights.learner
        if learner is not None and learner.every and (step - 1) % learner.every == 0:
            learn(stats)
        tokens = ForgetTokens(stats, self.weights.of(indices, stats), refusal=self.refusal, seed=self.settings.seed)
        if self.reference is not None:
            with self.ledger.phase("reference"):
                tokens.reference = self.reference.of(indices, batch)
        if self.preferred is not None and self.preferred_reference is not None:
            other = collate(self.lm, [self.preferred[i] for i in indices])
            with self.ledger.phase("forget", calls=0) as phase:
                tokens.preferred = token_stats(self.lm, other, extras=False)
                phase.count(self.lm, other, passes=self.passes)
            with self.ledger.phase("reference", calls=0):
                tokens.preferred_reference = self.preferred_reference.of(indices, other)
        loss = self.entry.function(tokens, **self.options)
        nll = float(stats.nll.detach().mean())
        return loss, {"forget_loss": float(loss.detach()), "forget_nll": nll, "tokens": batch.tokens}


class RetainTerm:
    """Alpha times a retain loss, on the retain set. Without a forget term it is plain fine-tuning."""

    def __init__(
        self, lm: LanguageModel, samples: list[Sample], settings: Settings, ledger: Ledger, layer: int | None = None
    ) -> None:
        self.lm, self.ledger = lm, ledger
        self.entry = retain_loss[settings.retain_loss]
        self.needs = needs_of(self.entry)
        self.batches = Batcher(lm, [encode(lm, s) for s in samples], settings.batch_size, settings.seed + 7919)
        self.layer = (layer or steered_layer(lm, {})) if "states" in self.needs else None
        self.reference: Reference | None = None
        if self.needs & set(KINDS):
            seen = self.batches.seen(settings.steps)
            with ledger.phase("reference") as phase:
                self.reference = Reference(
                    lm, self.batches.encodings, self.needs, phase, seen=seen, layer=self.layer,
                    batch_size=settings.batch_size,
                )  # fmt: skip
        self.passes = 1 + backward_share(lm)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Any]]:
        """The retain loss with gradient, and what an event says of it."""
        indices, batch = self.batches.at(step)
        known = None
        if self.reference is not None:
            with self.ledger.phase("reference"):
                known = self.reference.of(indices, batch)
        with self.ledger.phase("retain") as phase:
            stats = token_stats(self.lm, batch, extras=False, logits="teacher" in self.needs, states=self.layer)
            loss = self.entry.function(stats, known)
            phase.count(self.lm, batch, passes=self.passes)
        nll = float(stats.nll.detach().mean())
        return loss, {"retain_loss": float(loss.detach()), "retain_nll": nll, "tokens": batch.tokens}
