"""The registry of scorers, and what a scorer is called with: a batch under one model, or a whole task."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from workbench.cost import Phase
from workbench.errors import UserError, check_known
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenBatch,
    TokenStats,
    batches,
    count_forward,
    encode,
    in_sample_order,
    long_stats,
    split,
    token_stats,
)
from workbench.progress import Progress, silent
from workbench.registry import Registry, Spec
from workbench.tasks import Sample, Task


@dataclass(frozen=True, kw_only=True)
class ScorerSpec(Spec):
    """A scorer: what it is called with, and how its scores are to be read.

    Attributes:
        range: least and greatest score; None where there is no bound.
        kind: "batch", a function of a `BatchContext`; "task", a function of a `TaskContext` (it needs retain text, a
            fit or a gradient); "input", the same but it scores the question's tokens too; "live", a class that learns
            during a run.
        slow: whether it needs many passes per sample.
        presets: named sets of options.
        run: for kind "live", the run in which it learns where it is scored by itself: the "objective", and settings.
    """

    range: tuple[float | None, float | None]
    kind: Literal["batch", "task", "input", "live"] = "batch"
    slow: bool = False
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


FAMILIES = (
    *("amortised", "attribution", "attention", "atwu", "conflict", "learned"),
    *("masked", "ngram", "perturbation", "signals", "specificity"),
)
scorer = Registry("scorer", ScorerSpec, [f"workbench.scorers.{family}" for family in FAMILIES])


Pass = tuple[list[int], TokenBatch, TokenStats]


def passes(
    lm: LanguageModel,
    samples: Sequence[Sample | Encoding],
    batch_size: int,
    cost: Phase | None = None,
    *,
    times: float = 1,
    **options: Any,
) -> Iterator[Pass]:
    """Forward passes over samples: the indices, the batch and its `token_stats` (called with `options`) of each.

    `cost` gets the FLOPs of `times` forward passes: 3 where a gradient follows.
    """
    coded = [s if isinstance(s, Encoding) else encode(lm, s) for s in samples]
    for indices, batch in batches(lm, coded, batch_size):
        count_forward(cost or Phase(), lm, batch, passes=times)
        yield indices, batch, token_stats(lm, batch, **options)


@dataclass
class BatchContext:
    """One batch as a scorer sees it: N answer tokens, packed. A forward is computed when a scorer first reads it.

    Attributes:
        lm: the model.
        batch: the samples.
        other: the reference model, if there is one.
        seed: of every random source.
        cost: the ledger entry that its passes are added to.
    """

    lm: LanguageModel
    batch: TokenBatch
    other: LanguageModel | None
    seed: int
    cost: Phase

    @functools.cached_property
    def stats(self) -> TokenStats:
        """The samples' statistics under the model, with entropy and rank; of a long text, by windows."""
        return long_stats(self.lm, self.batch, lambda part: count_forward(self.cost, self.lm, part))

    @functools.cached_property
    def reference(self) -> TokenStats | None:
        """The same under the reference model."""
        if self.other is None:
            return None
        other = self.other
        return long_stats(other, self.batch, lambda part: count_forward(self.cost, other, part))


@dataclass
class TaskContext:
    """A whole task as a scorer of kind "task" sees it.

    Attributes:
        lm: the model.
        task: whose forget set is scored.
        reference: the reference model, if there is one.
        seed: of every random source.
        batch_size: samples per forward pass.
        cost: the ledger entry that its passes are added to.
        trained: makes a model by a short run on a copy; see `unlearn.forget_then_relearn`.
        learned: the maps that scorers have learned, by the scorer's name.
        notes: remarks on each scorer's scores, by its name: what was attributed, which samples have no score and why
            ("not_available": sample id -> reason), ...
        progress: called by slow scorers, before each forget sample.
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
    progress: Progress = silent

    def passes(self, lm: LanguageModel, samples: Sequence[Sample | Encoding], **options: Any) -> Iterator[Pass]:
        """`passes` over samples, in this context's batches and at its cost."""
        return passes(lm, samples, self.batch_size, self.cost, **options)

    def per_sample(
        self,
        lm: LanguageModel,
        values: Callable[[TokenStats], torch.Tensor],
        samples: Sequence[Sample | Encoding] | None = None,
        **options: Any,
    ) -> list[np.ndarray]:
        """A value of each answer token, as one float64 array a sample; of the forget samples by default."""
        parts = self.passes(lm, self.task.forget if samples is None else samples, **options)
        return in_sample_order((indices, split(values(stats), stats)) for indices, _, stats in parts)


def check_needs(names: Iterable[str], reference: bool, text: bool = True) -> None:
    """Raise for an unknown scorer, or one whose reference model or other text is missing, before a model is loaded."""
    for name in names:
        if "reference" in scorer[name].needs and not reference:
            raise UserError(f"scorer '{name}' needs a reference model; name one as reference (--reference)")
        if "text" in scorer[name].needs and not text:
            raise UserError(
                f"scorer '{name}' needs text of the same kind that the model has not seen; give rows of it as "
                "unlabelled (--unlabelled FILE)"
            )


def check_options(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise for an unknown scorer, or for an option that it does not have."""
    for name, own in options.items():
        known = sorted(scorer[name].options)
        for key in own:
            check_known(f"option of scorer '{name}'", key, known)


def check_reference(lm: LanguageModel, reference: LanguageModel | None, names: Iterable[str]) -> None:
    """Raise where a scorer needs a reference model and there is none, or one with another tokenizer."""
    check_needs(names, reference is not None)
    if reference is not None and reference.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        raise UserError(f"{reference.name} has another tokenizer than {lm.name}; a reference must share it")


def plain_scorers() -> list[str]:
    """The names of the scorers of kind "batch"."""
    return [name for name in scorer if scorer[name].kind == "batch"]


def random_source(seed: int, sample: str) -> torch.Generator:
    """A generator for one sample: it depends on the seed and the sample's id, not on what was scored before."""
    key = hashlib.sha256(f"{seed} {sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
