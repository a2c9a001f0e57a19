"""Sparse steps: of each sample a few tokens enter the loss, and only the positions that these need get a gradient.

The rest of a sample is its context, which is computed without gradient: along with these positions, or before them,
where it is kept for several visits or tells which tokens to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.models import (
    Encoding,
    Keys,
    LanguageModel,
    TokenStats,
    check_sparse,
    collate,
    context_flops,
    contexts,
    count_forward,
    processes,
)
from workbench.objectives import ObjectiveSpec
from workbench.registry import Spec
from workbench.unlearning.batches import BatchSampler, MicroBatch, Recipe
from workbench.unlearning.choosing import check_retain_share, check_share, chosen_for_the_run, largest, shared_names
from workbench.unlearning.settings import Settings
from workbench.unlearning.weights import Weights

PROBED = 4096  # weights of each trained parameter by which a model's movement is measured
ONLINE = ("surprise", "conflict")  # choices that read the model as it is


@dataclass
class Kept:
    """A sample's context, and of which model it is.

    Attributes:
        keys: keys and values by layer.
        step: whose model computed it.
        mask: (T,) answer tokens chosen then; None where the choice does not depend on the model.
        visits: how often it was used.
    """

    keys: Keys
    step: int
    mask: Tensor | None = None
    visits: int = 0


class SparseSide:
    """The chosen tokens of one set, the positions they need, and the contexts that are kept for them.

    Args:
        name: of the set: "forget" or "retain".
        lm: the model.
        batches: the set's sampler, which gets the choice of tokens and the way to build a batch.
        settings: of the run.
        ledger: gets the contexts' cost, as `context`.
        masks: for each sample the tokens chosen for the whole run; None chooses at each visit.
        share: of a sample's answer tokens, where they are chosen at each visit.
        by: how they are chosen then: `random`, `surprise` or `conflict`.
        before: of samples, the (T,) log-probabilities before the run, for `conflict`.
        every: steps of the run for one of the set.
    """

    def __init__(
        self,
        name: str,
        lm: LanguageModel,
        batches: BatchSampler,
        settings: Settings,
        ledger: Ledger,
        *,
        masks: list[Tensor] | None = None,
        share: float = 1.0,
        by: str = "random",
        before: Callable[[list[int]], Tensor] | None = None,
        every: int = 1,
    ) -> None:
        if processes().world > 1:
            raise UserError("sparse steps are for runs of one process; use share=1 and retain_share=1")
        check_sparse(lm, max(len(e.ids) for e in batches.encodings))
        self.name, self.lm, self.batches, self.settings, self.ledger = name, lm, batches, settings, ledger
        self.masks, self.share, self.by, self.before = masks, share, by, before
        self.names = [shared_names(e) if settings.names else [] for e in batches.encodings]
        self.kept: dict[int, Kept] = {}
        self.probes: dict[int, Tensor] = {}  # by step: some weights, as they were
        self.step, self.turn, self.visited = 0, 0, set[int]()
        self.last = batches.last_visits(math.ceil(settings.steps / every)) if settings.reuse > 1 else {}
        self.narrow = batches.token_mask  # what skipping leaves of the choice
        batches.token_mask, batches.recipe = self.mask, self.recipe

    @property
    def contexts(self) -> bool:
        """Whether contexts are computed before the step: to be kept, or to choose tokens by."""
        return self.settings.reuse > 1 or (self.masks is None and self.by in ONLINE)

    @property
    def drawn(self) -> bool:
        """Whether tokens are drawn at each visit, so that those that enter the loss stand for all."""
        return self.masks is None and self.by == "random"

    def begin(self, step: int, turn: int) -> None:
        """A step begins, or is computed again; `turn` is the step of the set's own sampler."""
        self.step, self.turn, self.visited = step, turn, set(self.batches.indices(turn))
        if self.by in ONLINE and self.masks is None:
            fresh = [i for i in sorted(self.visited) if not self._usable(i, len(self.batches.encodings[i].ids))]
            for start in range(0, len(fresh), self.batches.micro_batch_size):
                self._look(fresh[start : start + self.batches.micro_batch_size])

    def mask(self, index: int) -> Tensor:
        """(T,) which answer tokens of a sample enter the loss."""
        if self.narrow is not None:
            return self.narrow(index)
        if self.masks is not None:
            return self.masks[index]
        if self.by in ONLINE:
            mask = self.kept[index].mask
            assert mask is not None
            return mask
        seed = ((self.settings.seed * 1_000_003 + self.step) * 100_003 + index) % 2**63  # torch takes 64 bits
        generator = torch.Generator().manual_seed(seed)
        return largest(torch.rand(self.batches.tokens[index], generator=generator), self.share)

    def _look(self, indices: list[int]) -> None:
        """Contexts of some samples, and their tokens of the largest loss, or of the largest rise of it."""
        batch = collate(self.lm, [self.batches.encodings[i] for i in indices])
        with self.ledger.phase("context") as phase:
            parts, stats = contexts(self.lm, batch, stats=True)
            count_forward(phase, self.lm, batch)
        assert isinstance(stats, TokenStats)
        losses = stats.nll if self.before is None else stats.nll + self.before(indices).to(stats.nll)
        for index, keys, own in zip(indices, parts, losses.cpu().split(stats.counts.tolist()), strict=True):
            self.kept[index] = Kept(keys, self._probed(), largest(own, self.share))

    def recipe(self, micro_batch: MicroBatch) -> Recipe:
        """A micro-batch's samples, the positions of each that get a gradient, and their contexts, if they have any."""
        pairs = list(zip(micro_batch.indices, micro_batch.encodings, strict=True))
        chosen = [self.positions(i, e) for i, e in pairs]
        if not self.contexts:
            return micro_batch.encodings, chosen, None
        lacking = {i: e for i, e in pairs if not self._usable(i, len(e.ids))}
        if lacking:
            batch = collate(self.lm, list(lacking.values()))
            with self.ledger.phase("context") as phase:
                parts, _ = contexts(self.lm, batch)
                phase.tokens += batch.tokens
                phase.flops += context_flops(self.lm, batch)
            for index, keys in zip(lacking, parts, strict=True):
                self.kept[index] = Kept(keys, self._probed())
        return micro_batch.encodings, chosen, [self.kept[i].keys for i, _ in pairs]

    def positions(self, index: int, encoding: Encoding) -> list[int]:
        """Positions of a sample that get a gradient: those that predict its chosen tokens, and what these hang on."""
        own = {place - 1 for place in encoding.answer_positions}
        last = max(own)
        own |= {place - back for place in own for back in range(1, self.settings.before + 1) if place >= back}
        return sorted(own | {place for place in self.names[index] if place < last})

    def _usable(self, index: int, length: int) -> bool:
        """Whether the sample's context is there, long enough, not too old, and of a model near the present one."""
        kept = self.kept.get(index)
        if kept is None or kept.visits >= self.settings.reuse:
            return False
        if next(iter(kept.keys.values()))[0].shape[1] < length:
            return False
        if kept.step == self.step or not self.settings.drift:
            return True
        return self._near(kept.step, self.probes[self._probed()])

    def _near(self, step: int, now: Tensor) -> bool:
        """Whether the model of a step is near enough to the one whose probe is `now`."""
        then = self.probes[step]
        return bool((now - then).norm() <= self.settings.drift * then.norm())

    def _probed(self) -> int:
        """The step, with some of its weights noted where old contexts must be compared with new weights."""
        if self.step not in self.probes and self.settings.reuse > 1 and self.settings.drift:
            self.probes[self.step] = self._probe()
        return self.step

    def _probe(self) -> Tensor:
        """Some of the trained weights, as they are."""
        trained = [p.detach().flatten() for p in self.lm.module.parameters() if p.requires_grad]
        return torch.cat([p[:: max(1, len(p) // PROBED)].float() for p in trained])

    def step_done(self) -> None:
        """The visited samples' contexts are a visit older; what cannot be used again is dropped.

        That is what was used often enough, what the model has moved away from, and what the run does not come back to:
        a checkpoint holds the rest.
        """
        for index in self.visited & set(self.kept):
            self.kept[index].visits += 1
        self.visited = set()
        steps = {kept.step for kept in self.kept.values()}
        if self.probes and steps:
            now = self._probe()
            steps = {step for step in steps if self._near(step, now)}
        self.kept = {
            index: kept
            for index, kept in self.kept.items()
            if kept.step in steps and kept.visits < self.settings.reuse and self.last[index] > self.turn
        }
        self.probes = {kept.step: self.probes[kept.step] for kept in self.kept.values() if self.probes}

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        out = {f"{self.name}.probe.{step}": probe for step, probe in self.probes.items()}
        for index, kept in self.kept.items():
            start = f"{self.name}.kept.{index}"
            out[f"{start}.age"] = torch.tensor([kept.step, kept.visits])
            if kept.mask is not None:
                out[f"{start}.mask"] = kept.mask
            for layer, (keys, values) in kept.keys.items():
                out |= {f"{start}.{layer}.keys": keys.clone(), f"{start}.{layer}.values": values.clone()}
        return out

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.kept, self.probes = {}, {}
        for name, tensor in self._own(state.items(), "probe"):
            self.probes[int(name)] = tensor.to(self.lm.device)
        for name, tensor in self._own(state.items(), "kept"):
            index, key = name.split(".", 1)
            kept = self.kept.setdefault(int(index), Kept({}, 0))
            if key == "age":
                kept.step, kept.visits = tensor.tolist()
            elif key == "mask":
                kept.mask = tensor
            else:
                layer, which = key.split(".")
                both = list(kept.keys.get(int(layer), (tensor, tensor)))
                both[which == "values"] = tensor.to(self.lm.device)
                kept.keys[int(layer)] = (both[0], both[1])

    def _own(self, entries: Iterable[tuple[str, Tensor]], kind: str) -> list[tuple[str, Tensor]]:
        start = f"{self.name}.{kind}."
        return [(name.removeprefix(start), tensor) for name, tensor in entries if name.startswith(start)]


def forget_side(
    lm: LanguageModel, entry: ObjectiveSpec, weights: Weights, batches: BatchSampler, settings: Settings, ledger: Ledger
) -> SparseSide | None:
    """The forget set's side of sparse steps, if the settings ask for them.

    Raises:
        UserError: the objective needs all tokens, or the weights are not known before the run.
    """
    if not settings.sparse_forget:
        return None
    check_share(entry, weights.name, weights.fixed is not None, settings)
    if settings.share_by == "random":
        return SparseSide("forget", lm, batches, settings, ledger, share=settings.share)
    masks = chosen_for_the_run(weights, settings)
    return SparseSide("forget", lm, batches, settings, ledger, masks=masks)


def retain_side(
    lm: LanguageModel,
    entry: Spec,
    batches: BatchSampler,
    settings: Settings,
    ledger: Ledger,
    before: Callable[[list[int]], Tensor],
) -> SparseSide | None:
    """The retain set's side of sparse steps, if the settings ask for them."""
    if settings.retain_share == 1:
        return None
    check_retain_share(entry, settings)
    by, old = settings.retain_by, before if settings.retain_by == "conflict" else None
    how: dict[str, Any] = {"share": settings.retain_share, "by": by, "before": old, "every": settings.retain_every}
    return SparseSide("retain", lm, batches, settings, ledger, **how)
