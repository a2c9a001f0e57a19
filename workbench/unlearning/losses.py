"""The two terms of a run's loss: what is forgotten and what is kept, each on its own batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenStats,
    collate,
    count_forward,
    encode,
    out_of_memory,
    processes,
    token_stats,
)
from workbench.objectives import REFUSALS, ForgetTokens, objective, retain_loss
from workbench.registry import Spec
from workbench.tasks import Sample
from workbench.unlearning.batches import Batcher, Part
from workbench.unlearning.reference import KINDS, Reference
from workbench.unlearning.settings import Settings
from workbench.unlearning.skipping import Skipping
from workbench.unlearning.weights import Weights, states_of

RMU_DEPTH = 7 / 16  # of the layers: where states are steered, unless a layer is named


def needs_of(entry: Spec) -> set[str]:
    """What an objective or retain loss needs beside the log-probabilities."""
    return set(entry.needs)


def preferred_answers(entry: Spec, samples: list[Sample]) -> list[Sample] | None:
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


class ForgetLoss:
    """Gamma times an objective, on the forget set: its batches, its token weights, and what the objective needs.

    Attributes:
        skipped: share of the answer tokens of the last step's batch that were not computed.
    """

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
        self.skipping, self.skipped = self._skipping() if settings.skip else None, 0.0
        preferred = preferred_answers(self.entry, samples)
        self.preferred = None if preferred is None else [encode(lm, s) for s in preferred]
        # An objective's states are steered to a fixed vector: what they were before is the retain term's affair.
        asked = self.needs & {"reference", "teacher"}
        self.reference = self._reference(self.batches.encodings, asked) if asked else None
        self.preferred_reference = None if self.preferred is None else self._reference(self.preferred, {"reference"})
        ids = lm.tokenizer(REFUSALS[-1], add_special_tokens=False).input_ids
        self.refusal = torch.tensor(ids, device=lm.device) if "refusal" in self.needs else None

    def _skipping(self) -> Skipping:
        if self.needs & {"logits", "states"}:
            raise UserError(f"skip needs an objective of log-probabilities, and '{self.entry.name}' reads more; skip=0")
        if self.weights.learner is not None:
            raise UserError(f"skip needs weights that are fixed before the run, and '{self.weights.name}' learns along")
        if processes().world > 1:
            raise UserError("skip is for runs of one process; use skip=0")
        skipping = Skipping(self.batches.tokens, self.settings.skip, whole=self.entry.over == "samples")
        self.batches.kept = skipping.kept
        return skipping

    def _reference(self, encodings: list[Encoding], needs: set[str]) -> Reference:
        seen = self.batches.seen(self.settings.steps)
        size = self.settings.micro_batch or self.settings.batch_size
        with self.ledger.phase("reference") as phase:
            return Reference(self.lm, encodings, needs, phase, seen=seen, layer=None, batch_size=size)

    @property
    def reads(self) -> dict[str, Any]:
        """What `token_stats` is asked for: all that the objective and a live scorer read."""
        return {"logits": "logits" in self.needs, "states": self.layer, **states_of(self.weights.learner)}

    def whole_stats(self, parts: list[Part]) -> TokenStats:
        """Statistics of the whole batch that parts (here and in other processes) make up; without gradient."""
        found, short = [], False
        with self.ledger.phase("scorer", calls=0) as phase, torch.no_grad():
            try:
                for part in parts:
                    found.append(token_stats(self.lm, part.batch, extras=False, **states_of(self.weights.learner)))
                    count_forward(phase, self.lm, part.batch)
            except RuntimeError as error:
                if processes().sharded or not out_of_memory(error):
                    raise
                short = True
            if processes().any(short):  # all of them, or those with memory would wait for the others for ever
                raise torch.OutOfMemoryError("a process is out of memory")
            return gather_stats(found)

    def parts(self, step: int, learn: Callable[[TokenStats], None]) -> list[ForgetMicroBatch]:
        """A step's batch in parts.

        Args:
            step: from 1.
            learn: called with the whole batch's statistics when it is a live scorer's turn to learn.
        """
        parts, learner = self.batches.parts(step), self.weights.learner
        if self.skipping is not None:
            self.skipping.begin()
        turn = learner is not None and learner.every and (step - 1) % learner.every == 0
        mean: Tensor | None = None
        apart = len(parts) > 1 or processes().world > 1
        if apart and (turn or (learner is not None and learner.relative)):
            whole = self.whole_stats(parts)  # the scorer sees the whole batch before any part's gradient
            if turn:
                learn(whole)
                turn = False
            mean = self.weights.mean_of(whole)
        computed = sum(part.of_tokens for part in parts) if self.skipping is not None else 1.0
        self.skipped = 1 - computed
        return [
            ForgetMicroBatch(self, part, part.of_tokens / computed, learn if turn else None, mean) for part in parts
        ]


@dataclass(frozen=True)
class ForgetMicroBatch:
    """A part of the forget batch, and what its loss depends on beside its statistics."""

    term: ForgetLoss
    part: Part
    of_computed: float  # share of the batch's tokens that are computed
    learn: Callable[[TokenStats], None] | None
    mean: Tensor | None

    def loss(self, stats: TokenStats) -> tuple[Tensor, dict[str, Any]]:
        """The objective's value with gradient, and what an event says of it: both are shares to be added."""
        term, part, fact = self.term, self.part, self.term.entry.over
        if self.learn is not None:
            self.learn(stats)
        if part.kept is not None:
            stats = replace(stats, _counts=torch.tensor([term.batches.tokens[i] for i in part.indices]).to(stats.rows))
        weights = term.weights.of(part.indices, stats, self.mean, part.kept)
        tokens = ForgetTokens(stats, weights, refusal=term.refusal, seed=term.settings.seed)
        computed = []
        if term.reference is not None:
            with term.ledger.phase("reference"):
                tokens.reference = term.reference.of(part.indices, part.batch, part.kept)
        if term.preferred is not None and term.preferred_reference is not None:
            other = collate(term.lm, [term.preferred[i] for i in part.indices])
            with term.ledger.phase("forget", calls=0) as phase:
                tokens.preferred = token_stats(term.lm, other, extras=False)
                count_forward(phase, term.lm, other)
            with term.ledger.phase("reference", calls=0):
                tokens.preferred_reference = term.preferred_reference.of(part.indices, other)
            computed.append(other)
        share = part.of_tokens if fact == "tokens" else part.of_samples
        loss = share * term.entry.function(tokens, **term.options)
        if term.skipping is not None:
            count = len(part.batch.rows) / part.of_tokens if fact == "tokens" else len(part.indices) / part.of_samples
            term.skipping.watch(part, count / term.settings.gamma, stats.logp, stats.logit)
        nll = self.of_computed * stats.nll.detach().mean()
        return loss, {"forget_loss": loss.detach(), "forget_nll": nll, "computed": computed}


class RetainLoss:
    """Alpha times a retain loss, on the retain set. Without a forget term it is plain fine-tuning."""

    def __init__(
        self, lm: LanguageModel, samples: list[Sample], settings: Settings, ledger: Ledger, layer: int | None = None
    ) -> None:
        self.lm, self.ledger = lm, ledger
        self.entry = retain_loss[settings.retain_loss]
        self.needs = needs_of(self.entry)
        encodings = [encode(lm, s) for s in samples]
        size = settings.retain_batch or settings.batch_size
        self.every = settings.retain_every
        self.batches = Batcher(lm, encodings, size, settings.seed + 7919, settings.micro_batch)
        self.layer = (layer or steered_layer(lm, {})) if "states" in self.needs else None
        self.reference: Reference | None = None
        if self.needs & set(KINDS):
            seen = self.batches.seen(math.ceil(settings.steps / self.every))
            with ledger.phase("reference") as phase:
                self.reference = Reference(
                    lm, self.batches.encodings, self.needs, phase, seen=seen, layer=self.layer,
                    batch_size=settings.micro_batch or settings.batch_size,
                )  # fmt: skip

    @property
    def reads(self) -> dict[str, Any]:
        """What `token_stats` is asked for."""
        return {"logits": "teacher" in self.needs, "states": self.layer}

    def parts(self, step: int) -> list[RetainMicroBatch]:
        """A step's batch in parts; none in the steps that leave the retain set out."""
        turn, rest = divmod(step - 1, self.every)
        return [] if rest else [RetainMicroBatch(self, part) for part in self.batches.parts(turn + 1)]


@dataclass(frozen=True)
class RetainMicroBatch:
    """A part of the retain batch."""

    term: RetainLoss
    part: Part

    def loss(self, stats: TokenStats) -> tuple[Tensor, dict[str, Any]]:
        """The retain loss with gradient, and what an event says of it: both are shares to be added."""
        term, part, known = self.term, self.part, None
        if term.reference is not None:
            with term.ledger.phase("reference"):
                known = term.reference.of(part.indices, part.batch)
        loss = part.of_tokens * term.entry.function(stats, known)
        nll = part.of_tokens * stats.nll.detach().mean()
        return loss, {"retain_loss": loss.detach(), "retain_nll": nll, "computed": []}


def gather_stats(parts: list[TokenStats]) -> TokenStats:
    """Statistics of a whole batch out of its parts, here and in the other processes; without gradient."""
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
