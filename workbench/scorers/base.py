"""The registry of scorers, and what a scorer is called with: a batch under one model, or a whole task."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from workbench.cost import Phase
from workbench.errors import UserError
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenBatch,
    TokenStats,
    batches,
    count_forward,
    encode,
    split,
    token_stats,
)
from workbench.registry import Registry, Spec
from workbench.tasks import Sample, Task


@dataclass(frozen=True, kw_only=True)
class ScorerSpec(Spec):
    """A scorer: what it is called with, and how its scores are to be read.

    Attributes:
        range: least and greatest score; None where there is no bound.
        kind: "batch", a function of a `BatchContext`; "task", of a `TaskContext` (it needs retain text, a fit or a
            gradient); "input", of a `TaskContext`, and it scores the question's tokens too; "live", a class that
            learns along in a run.
        slow: whether it takes many passes a sample.
        presets: named sets of options.
    """

    range: tuple[float | None, float | None]
    kind: Literal["batch", "task", "input", "live"] = "batch"
    slow: bool = False
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)


scorer = Registry("scorer", ScorerSpec)


@dataclass
class BatchContext:
    """One batch as a scorer sees it: N answer tokens, packed. A forward is computed when a scorer first reads it.

    Attributes:
        lm: the model.
        batch: the samples.
        other: the reference model, where one was given.
        seed: of every random source.
        cost: where the costs go.
    """

    lm: LanguageModel
    batch: TokenBatch
    other: LanguageModel | None
    seed: int
    cost: Phase

    @functools.cached_property
    def stats(self) -> TokenStats:
        """The samples' statistics under the model, with entropy and rank."""
        count_forward(self.cost, self.lm, self.batch)
        return token_stats(self.lm, self.batch)

    @functools.cached_property
    def reference(self) -> TokenStats | None:
        """The same under the reference model."""
        if self.other is None:
            return None
        count_forward(self.cost, self.other, self.batch)
        return token_stats(self.other, self.batch)


@dataclass
class TaskContext:
    """A whole task as a scorer of kind "task" sees it.

    Attributes:
        lm: the model.
        task: whose forget set is scored.
        reference: the reference model, where one was given.
        seed: of every random source.
        batch_size: samples a forward pass.
        cost: where the costs go.
        trained: makes a model by a short run on a copy; see `unlearn.forget_then_relearn`.
        learned: where scorers that learn a map leave it, by name.
        notes: what is to be said of each scorer's scores, by name: what was attributed, which samples have no score and
            why ("not_available": sample id -> reason), ...
        tell: called with the number of forget samples done.
    """

    lm: LanguageModel
    task: Task
    reference: LanguageModel | None = None
    seed: int = 0
    batch_size: int = 16
    cost: Phase = field(default_factory=Phase)
    trained: Callable[..., tuple[LanguageModel, Phase]] | None = None
    learned: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tell: Callable[[int], None] = lambda done: None

    def passes(
        self, lm: LanguageModel, samples: Sequence[Sample | Encoding], **asked: Any
    ) -> Iterator[tuple[list[int], TokenBatch, TokenStats]]:
        """Forward passes over samples: their indices, the batch, and its statistics as `asked` of `token_stats`."""
        coded = [s if isinstance(s, Encoding) else encode(lm, s) for s in samples]
        for indices, batch in batches(lm, coded, self.batch_size):
            count_forward(self.cost, lm, batch)
            yield indices, batch, token_stats(lm, batch, **asked)

    def per_sample(self, lm: LanguageModel, values: Callable[[TokenStats], torch.Tensor], **asked: Any) -> list[Any]:
        """A packed value of every forget sample's answer tokens, as one float64 array a sample."""
        found: list[Any] = [None] * len(self.task.forget)
        for indices, _, stats in self.passes(lm, self.task.forget, **asked):
            for index, part in zip(indices, split(values(stats), stats), strict=True):
                found[index] = part
        return found


def check_needs(names: Iterable[str], reference: bool) -> None:
    """Raise for an unknown scorer, or one whose reference model is missing; nothing need be loaded for it."""
    for name in names:
        if "reference" in scorer[name].needs and not reference:
            raise UserError(f"scorer '{name}' needs a reference model; name one as reference (--reference)")


def check_reference(lm: LanguageModel, reference: LanguageModel | None, names: Iterable[str]) -> None:
    """Raise for a reference model that a scorer needs and nobody gave, or one with other tokens than the model's."""
    check_needs(names, reference is not None)
    if reference is not None and reference.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        raise UserError(f"{reference.name} has other tokens than {lm.name}; a reference must share its tokenizer")


def plain_scorers() -> list[str]:
    """Scorers of one batch at a time."""
    return [name for name in scorer if scorer[name].kind == "batch"]


def random_source(seed: int, sample: str) -> torch.Generator:
    """Random numbers of one sample: they depend on the seed and the sample's id, not on what was scored before."""
    key = hashlib.sha256(f"{seed} {sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
