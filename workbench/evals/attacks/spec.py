"""What an attack is: its spec, what it is given, what it leaves, and what it would cost.

An attack asks of one model whether what it was to forget can be had from it after all. It never changes a model: those
that change weights work on a copy. Membership attacks (`evals.mia`) ask something else: was a text learned?
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from workbench.errors import NotAvailable, UserError
from workbench.evals.spec import trust_of
from workbench.models import LanguageModel, encode
from workbench.progress import Progress, silent
from workbench.registry import Registry, Spec
from workbench.tasks import Sample, Task, spread

ASKED = ("forget", "qa", "knowmem", "fill_blank", "verbmem")  # the first of these sets that has questions is asked
MODELS = ("before", "run", "retain_only")
NEEDS = {
    "retain_only": "needs a retain-only model (--reference)",
    "before": "needs the model before the run (--before)",
    "gpu": "needs a GPU and bitsandbytes",
    "spans": "needs labelled spans: where in the answer the fact is",
    "paraphrases": "needs paraphrased questions",
    "aliases": "needs questions about people by other names: the task has no set 'aliases'",
    "two_hop": "needs questions in two steps: the task has no set 'two_hop'",
}


class WrongOption(UserError):
    """An option of an attack has a value that cannot be, whatever the model."""


@dataclass(frozen=True, kw_only=True)
class RecoverySpec(Spec):
    """An attack that tries to get back what was forgotten; `needs` are names of `NEEDS`.

    Attributes:
        cost: target and options -> FLOPs on one model, estimated from shapes before anything runs.
        better: which way less comes back.
        unit: of its value.
        compare: the parts of each model's outcome -> numbers that only several models have (R of relearning).
        behavioural: whether it reads what the model says, and not its states.
    """

    cost: Callable[..., float]
    better: Literal["lower", "higher"] = "lower"
    unit: str = "share of answers"
    compare: Callable[[dict[str, dict[str, Any]]], dict[str, Any]] | None = None
    behavioural: bool = True

    @property
    def trust(self) -> str:
        """How far it was found to be believed as a measure of forgetting."""
        return trust_of(self.name)


FILES = (
    *("greedy", "phrasing", "described", "opening", "second_turn"),
    *("leak", "quantisation", "relearning", "lens", "depth"),
)
recovery = Registry("attack", RecoverySpec, [f"workbench.evals.attacks.{name}" for name in FILES])


@dataclass(frozen=True)
class Target:
    """The model that is attacked, and what an attack may use beside it.

    Attributes:
        lm: the model.
        task: whose forget set is attacked.
        before: the model before the run, which knows it.
        retain_only: a model that never saw it.
        limit: at most so many answers, evenly spread.
        seed: of everything random.
        batch_size: samples a forward pass; generations are drawn in four times as many rows.
        progress: called with the attack's name, what is done, and how much there is.
        kept: rows of a long attack that a process before this one had finished.
        keep: called with all rows so far of a long attack, to be kept.
        asked: greedy answers of the model by what it was asked; attacks share them.
    """

    lm: LanguageModel
    task: Task
    before: LanguageModel | None = None
    retain_only: LanguageModel | None = None
    limit: int | None = None
    seed: int = 0
    batch_size: int = 64
    progress: Progress = field(default=silent, compare=False)
    kept: list[dict[str, Any]] = field(default_factory=list, compare=False)
    keep: Callable[[list[dict[str, Any]]], None] = field(default=lambda rows: None, compare=False)
    asked: dict[Any, list[str]] = field(default_factory=dict, compare=False)

    @functools.cached_property
    def questions(self) -> list[Sample]:
        """The questions that are asked: the forget set's, else the benchmark's about it; NotAvailable for none."""
        samples = self.task.sets.get(self.probe_set, [])
        return spread([s for s in samples if s.question], self.limit)

    @functools.cached_property
    def probe_set(self) -> str:
        """The set that the questions are from."""
        for name in ASKED:
            if any(s.question for s in self.task.sets.get(name, [])):
                return name
        raise NotAvailable("needs questions: the forget set is plain text")

    @functools.cached_property
    def new_tokens(self) -> int:
        """The longest answer that is generated: the longest of the references, and 4 tokens more."""
        return max(len(encode(self.lm, s).answer_positions) for s in self.questions) + 4

    @property
    def rows(self) -> int:
        """Rows of a batch of generations."""
        return 4 * self.batch_size


@dataclass(frozen=True)
class Outcome:
    """What an attack leaves of one model.

    Attributes:
        rows: one row an answer: `sample_id`, `prompt` (what was asked), `answer` (the reference), `text` (what came
            back, or the last try), `value`, `measure` (how it was compared), `tries` and `hits`, and what else an
            attack has.
        value: of all answers.
        parts: the numbers that belong to it.
    """

    rows: pd.DataFrame
    value: float
    parts: dict[str, Any]


def lacking(spec: RecoverySpec, target: Target) -> str:
    """What the attack needs and is not there; "" where nothing is."""
    samples = target.task.forget
    there = {
        "retain_only": target.retain_only is not None,
        "before": target.before is not None,
        "gpu": target.lm.device.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None,
        "spans": any(s.spans for s in samples),
        "paraphrases": any(s.phrasings or s.paraphrased_question for s in samples),
        **{name: bool(target.task.sets.get(name)) for name in ("aliases", "two_hop")},
    }
    return "; ".join(NEEDS[need] for need in spec.needs if not there[need])
