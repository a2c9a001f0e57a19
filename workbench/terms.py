"""The two terms of a run's loss: what is forgotten and what is kept, each on its own batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.cost import Ledger, out_of_memory
from workbench.models import LanguageModel
from workbench.objectives import REFUSALS, ForgetTokens, objective, retain_loss
from workbench.processes import processes
from workbench.reference import KINDS, Reference
from workbench.registry import Entry, UserError
from workbench.scorers.weights import Weights, states_of
from workbench.settings import Settings
from workbench.tasks import Sample
from workbench.tokens import Encoding, TokenBatch, TokenStats, collate, encode, token_stats

RMU_DEPTH = 7 / 16  # of the layers: where states are steered, unless a layer is named


@dataclass(frozen=True)
class Part:
    """What of a step's batch is computed at once: sample indices, the batch, and its shares of the whole."""

    indices: list[int]
    batch: TokenBatch
    of_tokens: float
    of_samples: float


class Batcher:
    """Batches of a set of samples in an order that depends on the seed and the epoch alone.

    Attributes:
        most: samples computed at once in a process; the loop halves it where memory runs out.
    """

    def __init__(self, lm: LanguageModel, encodings: list[Encoding], size: int, seed: int, most: int = 0) -> None:
        self.lm, self.encodings, self.size, self.seed = lm, encodings, min(size, len(encodings)), seed
        self.most = most or self.size
        self._tokens = [len(e.answer_positions) for e in encodings]
        self._orders: dict[int, list[int]] = {}

    def parts(self, step: int) -> list[Part]:
        """A step's batch in parts of at most `most` samples: those of this process."""
        whole = self.indices(step)
        tokens = sum(self._tokens[i] for i in whole)
        own = processes().part(whole)
        found = []
        for start in range(0, len(own), self.most):
            chosen = list(own[start : start + self.most])
            share = sum(self._tokens[i] for i in chosen) / tokens
            batch = collate(self.lm, [self.encodings[i] for i in chosen])
            found.append(Part(chosen, batch, share, len(chosen) / len(whole)))
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
        encodings = [encode(lm, s) for s in samples]
        self.batches = Batcher(lm, encodings, settings.batch_size, settings.seed, settings.micro_batch)
        preferred = preferred_answers(self.entry, samples)
        self.preferred = None if preferred is None else [encode(lm, s) for s in preferred]
        # An objective's states are steered to a fixed vector: what they were before is the retain term's affair.
        asked = self.needs & {"reference", "teacher"}
        self.reference = self._reference(self.batches.encodings, asked) if asked else None
        self.preferred_reference = None if self.preferred is None else self._reference(self.preferred, {"reference"})
        ids = lm.tokenizer(REFUSALS[-1], add_special_tokens=False).input_ids
        self.refusal = torch.tensor(ids, device=lm.device) if "refusal" in self.needs else None

    def _reference(self, encodings: list[Encoding], needs: set[str]) -> Reference:
        seen = self.batches.seen(self.settings.steps)
        size = self.settings.micro_batch or self.settings.batch_size
        with self.ledger.phase("reference") as phase:
            return Reference(self.lm, encodings, needs, phase, seen=seen, layer=None, batch_size=size)

    def stats(self, batch: TokenBatch) -> TokenStats:
        """One forward of the model on a batch, with all that the objective and a live scorer read."""
        read = states_of(self.weights.learner)
        return token_stats(self.lm, batch, extras=False, logits="logits" in self.needs, states=self.layer, **read)

    def whole_stats(self, parts: list[Part]) -> TokenStats:
        """Statistics of the whole batch that parts (here and in other processes) make up; without gradient."""
        found, short = [], False
        with self.ledger.phase("scorer", calls=0) as phase, torch.no_grad():
            try:
                for part in parts:
                    found.append(token_stats(self.lm, part.batch, extras=False, **states_of(self.weights.learner)))
                    phase.count(self.lm, part.batch)
            except RuntimeError as error:
                if processes().sharded or not out_of_memory(error):
                    raise
                short = True
            if processes().any(short):  # all of them, or those with memory would wait for the others for ever
                raise torch.OutOfMemoryError("a process is out of memory")
            return processes().joined(found)

    def losses(self, step: int, learn: Callable[[TokenStats], None]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """The objective's value with gradient, part by part, and what an event says of it: both are shares to be added.

        Args:
            step: from 1.
            learn: called with the whole batch's statistics when it is a live scorer's turn to learn.
        """
        parts, learner = self.batches.parts(step), self.weights.learner
        turn = learner is not None and learner.every and (step - 1) % learner.every == 0
        mean: Tensor | None = None
        apart = len(parts) > 1 or processes().world > 1
        if apart and (turn or (learner is not None and learner.relative)):
            whole = self.whole_stats(parts)  # the scorer sees the whole batch before any part's gradient
            if turn:
                learn(whole)
                turn = False
            mean = self.weights.mean_of(whole)
        for part in parts:
            yield self._loss(part, learn if turn else None, mean)

    def _loss(
        self, part: Part, learn: Callable[[TokenStats], None] | None, mean: Tensor | None
    ) -> tuple[Tensor, dict[str, Any]]:
        with self.ledger.phase("forget") as phase:
            stats = self.stats(part.batch)
            phase.count(self.lm, part.batch)
        if learn is not None:
            learn(stats)
        weights = self.weights.of(part.indices, stats, mean)
        tokens = ForgetTokens(stats, weights, refusal=self.refusal, seed=self.settings.seed)
        computed = [part.batch]
        if self.reference is not None:
            with self.ledger.phase("reference"):
                tokens.reference = self.reference.of(part.indices, part.batch)
        if self.preferred is not None and self.preferred_reference is not None:
            other = collate(self.lm, [self.preferred[i] for i in part.indices])
            with self.ledger.phase("forget", calls=0) as phase:
                tokens.preferred = token_stats(self.lm, other, extras=False)
                phase.count(self.lm, other)
            with self.ledger.phase("reference", calls=0):
                tokens.preferred_reference = self.preferred_reference.of(part.indices, other)
            computed.append(other)
        share = part.of_tokens if self.entry.facts["over"] == "tokens" else part.of_samples
        loss = share * self.entry.function(tokens, **self.options)
        nll = part.of_tokens * float(stats.nll.detach().mean())
        said = {"forget_loss": float(loss.detach()), "forget_nll": nll, "tokens": part.batch.tokens}
        return loss, said | {"computed": computed}


class RetainTerm:
    """Alpha times a retain loss, on the retain set. Without a forget term it is plain fine-tuning."""

    def __init__(
        self, lm: LanguageModel, samples: list[Sample], settings: Settings, ledger: Ledger, layer: int | None = None
    ) -> None:
        self.lm, self.ledger = lm, ledger
        self.entry = retain_loss[settings.retain_loss]
        self.needs = needs_of(self.entry)
        encodings = [encode(lm, s) for s in samples]
        self.batches = Batcher(lm, encodings, settings.batch_size, settings.seed + 7919, settings.micro_batch)
        self.layer = (layer or steered_layer(lm, {})) if "states" in self.needs else None
        self.reference: Reference | None = None
        if self.needs & set(KINDS):
            seen = self.batches.seen(settings.steps)
            with ledger.phase("reference") as phase:
                self.reference = Reference(
                    lm, self.batches.encodings, self.needs, phase, seen=seen, layer=self.layer,
                    batch_size=settings.micro_batch or settings.batch_size,
                )  # fmt: skip

    def losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """The retain loss with gradient, part by part, and what an event says of it: both are shares to be added."""
        for part in self.batches.parts(step):
            known = None
            if self.reference is not None:
                with self.ledger.phase("reference"):
                    known = self.reference.of(part.indices, part.batch)
            with self.ledger.phase("retain") as phase:
                stats = token_stats(
                    self.lm, part.batch, extras=False, logits="teacher" in self.needs, states=self.layer
                )
                loss = part.of_tokens * self.entry.function(stats, known)
                phase.count(self.lm, part.batch)
            nll = part.of_tokens * float(stats.nll.detach().mean())
            said = {"retain_loss": float(loss.detach()), "retain_nll": nll, "tokens": part.batch.tokens}
            yield loss, said | {"computed": [part.batch]}
