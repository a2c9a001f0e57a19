"""The two terms of a run's loss, the forget loss and the retain loss, each on its own batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenBatch,
    TokenStats,
    collate,
    count_forward,
    encode,
    processes,
    token_stats,
)
from workbench.objectives import REFUSALS, ForgetTokens, objective, retain_loss
from workbench.registry import Spec
from workbench.tasks import Sample
from workbench.unlearning.batches import BatchSampler, MicroBatch
from workbench.unlearning.choosing import chosen_for_the_run, cut_prefixes
from workbench.unlearning.reference import KINDS, Reference
from workbench.unlearning.settings import Settings
from workbench.unlearning.skipping import Skipping
from workbench.unlearning.sparse import forget_side, retain_side
from workbench.unlearning.weights import Weights, states_of

RMU_DEPTH = 7 / 16  # of the layers: where states are steered, unless a layer is named


def needs_of(entry: Spec) -> set[str]:
    """What an objective or retain loss needs beside the log-probabilities."""
    return set(entry.needs)


def preferred_answers(entry: Spec, samples: list[Sample]) -> list[Sample] | None:
    """For each sample, the answer that an objective prefers to the forgotten one; None if the objective has none.

    Raises:
        UserError: a sample lacks the question or the wrong answer that this takes.
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
    """The layer whose states a run steers or preserves, as an index into the model's hidden states."""
    return int(options.get("layer", 0)) or max(1, round(RMU_DEPTH * lm.config.num_hidden_layers))


class ForgetLoss:
    """An objective on the forget set, with its batches, its token weights, and what the objective needs.

    Called with a micro-batch and its statistics, it returns the micro-batch's share of the loss. The trainer multiplies
    that by gamma.

    Attributes:
        batches: the sampler of the forget set.
        computed: share of the answer tokens of the current step's batch that are computed.
    """

    name = "forget"

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
        size, micro_batch_size = settings.batch_size, settings.micro_batch_size
        self.batches = BatchSampler(lm, encodings, size, settings.seed, micro_batch_size)
        self.computed = 1.0
        self.skipping = self._skipping(chosen_for_the_run(weights, settings)) if settings.skip else None
        self.sparse = forget_side(lm, self.entry, weights, self.batches, settings, ledger)
        if self.batches.token_mask is None:
            cut_prefixes(self.entry, weights, self.batches)
        preferred = preferred_answers(self.entry, samples)
        self.preferred = None if preferred is None else [encode(lm, s) for s in preferred]
        # An objective steers states to a fixed vector. Only a retain loss reads the states from before the run.
        needs = self.needs & {"reference", "teacher"}
        self.reference = self._reference(encodings, needs) if needs else None
        self.preferred_reference = None if self.preferred is None else self._reference(self.preferred, {"reference"})
        ids = lm.tokenizer(REFUSALS[-1], add_special_tokens=False).input_ids
        self.refusal = torch.tensor(ids, device=lm.device) if "refusal" in self.needs else None
        self._mean: Tensor | None = None  # of the whole batch's live scores
        self._learns = False  # whether the live scorer learns from the next micro-batch, which is the whole batch

    def _skipping(self, chosen: list[Tensor] | None) -> Skipping:
        if self.needs & {"logits", "states"}:
            raise UserError(f"skip needs an objective of log-probabilities, and '{self.entry.name}' reads more; skip=0")
        if self.weights.learner is not None:
            raise UserError(f"skip needs weights that are fixed before the run, and '{self.weights.name}' learns along")
        if processes().world > 1:
            raise UserError("skip is for runs of one process; use skip=0")
        skipping = Skipping(self.batches.tokens, self.settings.skip, self.entry.over == "samples", chosen)
        self.batches.token_mask = skipping.mask
        return skipping

    def _reference(self, encodings: list[Encoding], needs: set[str]) -> Reference:
        seen = self.batches.seen(self.settings.steps)
        size = self.settings.micro_batch_size or self.settings.batch_size
        with self.ledger.phase("reference") as phase:
            return Reference(self.lm, encodings, needs, phase, seen=seen, layer=None, batch_size=size)

    @property
    def reads(self) -> dict[str, Any]:
        """Arguments of `token_stats`: all that the objective and a live scorer read."""
        return {"logits": "logits" in self.needs, "states": self.layer, **states_of(self.weights.learner)}

    def local_stats(self, step: int) -> list[TokenStats]:
        """What a live scorer reads of this process's micro-batches, without gradient."""
        stats = []
        with self.ledger.phase("scorer", calls=0) as phase, torch.no_grad():
            for micro_batch in self.batches.micro_batches(step):
                batch = micro_batch.batch
                stats.append(token_stats(self.lm, batch, extras=False, **states_of(self.weights.learner)))
                count_forward(phase, self.lm, batch)
        return stats

    def learn(self, stats: TokenStats) -> None:
        """Let the live scorer take one step on a batch."""
        with self.ledger.phase("scorer") as phase, torch.enable_grad():
            self.weights.learner.learn(stats)
            phase.tokens += len(stats.labels)
            phase.flops += self.weights.learner.flops(len(stats.labels))

    def micro_batches(self, step: int, whole_stats: Callable[[int], TokenStats]) -> list[MicroBatch]:
        """A step's micro-batches.

        Args:
            step: from 1.
            whole_stats: computes the statistics of the step's whole batch. It is called where a live scorer needs
                them before the first micro-batch's gradient.
        """
        learner = self.weights.learner
        if self.skipping is not None:
            self.skipping.begin()
        if self.sparse is not None:
            self.sparse.begin(step, step)
        self._mean = None
        self._learns = learner is not None and learner.learns_at(step)
        split = len(self.batches.micro_batches(step)) > 1 or processes().world > 1
        if split and (self._learns or (learner is not None and learner.relative)):
            stats = whole_stats(step)
            if self._learns:
                self.learn(stats)
                self._learns = False
            self._mean = self.weights.mean_of(stats)
        micro_batches = self.batches.micro_batches(step)
        if self.batches.token_mask is not None:
            self.computed = sum(m.token_share for m in micro_batches)
        return micro_batches

    def __call__(
        self, micro_batch: MicroBatch, stats: TokenStats
    ) -> tuple[Tensor, dict[str, Tensor], list[TokenBatch]]:
        """The loss of a micro-batch, as its share of the batch's loss.

        Returns:
            the loss with gradient; shares of an event's values; further batches that were computed with gradient.
        """
        if self._learns:
            self.learn(stats)
        indices, places = micro_batch.indices, micro_batch.places
        if places is not None:
            counts = torch.tensor([self.batches.tokens[i] for i in indices])
            stats = replace(stats, _counts=counts.to(stats.rows))
        weights = self.weights.of(indices, stats, self._mean, places)
        if self.sparse is not None and self.sparse.drawn and places is not None:  # each stands for several
            weights = weights * (stats.counts / torch.bincount(stats.rows, minlength=stats.samples))[stats.rows]
        tokens = ForgetTokens(stats, weights, refusal=self.refusal, seed=self.settings.seed)
        if self.reference is not None:
            with self.ledger.phase("reference"):
                tokens.reference = self.reference.of(indices, micro_batch.batch, places)
        others = self._prefer(tokens, indices)
        share = micro_batch.token_share if self.entry.over == "tokens" else micro_batch.sample_share
        loss = share * self.entry.function(tokens, **self.options)
        if self.skipping is not None:
            count = len(stats.labels) if self.entry.over == "tokens" else len(indices)
            self.skipping.watch(micro_batch, count / share / self.settings.gamma, stats.logp, stats.logit)
        nll = micro_batch.token_share / self.computed * stats.nll.detach().mean()
        return loss, {"forget_loss": loss.detach(), "forget_nll": nll}, others

    def _prefer(self, tokens: ForgetTokens, indices: list[int]) -> list[TokenBatch]:
        """Give the objective the statistics of the preferred answers, if it has any; returns their batch."""
        if self.preferred is None or self.preferred_reference is None:
            return []
        batch = collate(self.lm, [self.preferred[i] for i in indices])
        with self.ledger.phase("forget", calls=0) as phase:
            tokens.preferred = token_stats(self.lm, batch, extras=False)
            count_forward(phase, self.lm, batch)
        with self.ledger.phase("reference", calls=0):
            tokens.preferred_reference = self.preferred_reference.of(indices, batch)
        return [batch]


class RetainLoss:
    """A retain loss on the retain set; a run without a forget loss is plain fine-tuning.

    Called with a micro-batch and its statistics, it returns the micro-batch's share of the loss. The trainer multiplies
    that by alpha.
    """

    name = "retain"

    def __init__(
        self, lm: LanguageModel, samples: list[Sample], settings: Settings, ledger: Ledger, layer: int | None = None
    ) -> None:
        self.lm, self.ledger = lm, ledger
        self.entry = retain_loss[settings.retain_loss]
        self.needs = needs_of(self.entry)
        self.every = settings.retain_every
        encodings = [encode(lm, s) for s in samples]
        size = settings.retain_batch or settings.batch_size
        self.batches = BatchSampler(lm, encodings, size, settings.seed + 7919, settings.micro_batch_size)
        self.layer = (layer or steered_layer(lm, {})) if "states" in self.needs else None
        self.computed = 1.0
        self.sparse = retain_side(lm, self.entry, self.batches, settings, ledger, self._before)
        conflict = self.sparse is not None and settings.retain_by == "conflict"
        self.reference: Reference | None = None
        if self.needs & set(KINDS) or conflict:
            seen = self.batches.seen(math.ceil(settings.steps / self.every))
            size = settings.micro_batch_size or settings.batch_size
            with ledger.phase("reference") as phase:
                self.reference = Reference(
                    lm, encodings, self.needs, phase, seen=seen, layer=self.layer, batch_size=size
                )

    @property
    def reads(self) -> dict[str, Any]:
        """Arguments of `token_stats`."""
        return {"logits": "teacher" in self.needs, "states": self.layer}

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """A step's micro-batches; none in a step without a retain loss."""
        turn, rest = divmod(step - 1, self.every)
        if rest:
            return []
        if self.sparse is not None:
            self.sparse.begin(step, turn + 1)
        micro_batches = self.batches.micro_batches(turn + 1)
        if self.batches.token_mask is not None:  # in a run of one process
            self.computed = sum(m.token_share for m in micro_batches)
        return micro_batches

    def _before(self, indices: list[int]) -> Tensor:
        """(T,) log-probabilities of some samples' answer tokens before the run."""
        assert self.reference is not None
        with self.ledger.phase("reference"):
            return self.reference.of(indices, collate(self.lm, [self.batches.encodings[i] for i in indices])).logp

    def __call__(
        self, micro_batch: MicroBatch, stats: TokenStats
    ) -> tuple[Tensor, dict[str, Tensor], list[TokenBatch]]:
        """The loss of a micro-batch, as its share of the batch's loss; returns the same as `ForgetLoss`."""
        reference = None
        if self.reference is not None:
            with self.ledger.phase("reference"):
                reference = self.reference.of(micro_batch.indices, micro_batch.batch, micro_batch.places)
        share = micro_batch.token_share
        if self.sparse is not None and self.sparse.drawn:  # those drawn stand for all; of those chosen the rest is 0
            share = share / self.computed
        loss = share * self.entry.function(stats, reference)
        nll = micro_batch.token_share / self.computed * stats.nll.detach().mean()
        return loss, {"retain_loss": loss.detach(), "retain_nll": nll}, []
