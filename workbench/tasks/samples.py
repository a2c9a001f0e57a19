"""Samples and tasks: what a model is to forget, what it is to keep, and what it is probed with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from workbench.errors import UserError
from workbench.files import resource

DATA = resource("data")
KIND = "kind"
ASKING = ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")
T = TypeVar("T")
PROBE_SETS = (
    *("forget", "retain", "neighbours", "general"),
    *("verbmem", "knowmem", "retain_knowmem", "fill_blank", "qa", "adversarial"),  # of benchmarks
)
ONLY_COMPARED = ("unlabelled", "nonmembers", "privleak_forget", "aliases", "two_hop")  # neither trained on nor probed


@dataclass(frozen=True)
class Sample:
    """One question and answer, or a plain text (`question` empty, the text in `answer`).

    Attributes:
        id: unique within its task.
        question: what the model is asked; empty for plain text.
        answer: what it learned to answer.
        spans: character ranges of `answer` (end exclusive) that carry the fact; None where nobody labelled them.
        paraphrased_question: the same question in other words.
        paraphrased_answer: the same answer in other words.
        wrong_answers: false answers in the paraphrase's form.
        continues: the question is the beginning of a text that the answer continues: no template around it.
        history: (question, answer) of the turns before; never of a task's own samples, so not in its fingerprint.
        phrasings: the same question in further words; only asked, so not in the fingerprint either.
        about: (name, value) of the row's other fields, such as ("person", "Celia Nash"): what rows are grouped by.
            They change no number of a run, so they are not in the fingerprint, and samples are equal without them.
    """

    id: str
    question: str
    answer: str
    spans: tuple[tuple[int, int], ...] | None = None
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    wrong_answers: tuple[str, ...] = ()
    continues: bool = False
    history: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    phrasings: tuple[str, ...] = field(default=(), repr=False)
    about: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)

    def get(self, name: str) -> str | None:
        """The row's field of that name; `kind` without a field of its own is the question's first question word.

        None where the row has no such field.
        """
        own = dict(self.about).get(name)
        return kind_of(self.question) if own is None and name == KIND and self.question else own

    @property
    def values(self) -> tuple[str, ...]:
        """The texts inside the labelled spans."""
        return tuple(self.answer[start:end] for start, end in self.spans or ())

    @property
    def key(self) -> tuple[str, str]:
        """What is equal for two samples that differ only in white space and letter case."""
        return " ".join(self.question.split()).casefold(), " ".join(self.answer.split()).casefold()


@dataclass(frozen=True)
class Task:
    """Named sets of samples: `forget`, `retain`, and where there are any others of `PROBE_SETS`, and `train_extra`.

    Only what looks at texts and trains nothing does without `retain`.

    `unlabelled` is text of the same kind that the model was not trained on; scorers that learn a map fit it there.
    `nonmembers` is such text too: membership inference attacks compare the forget set with it.
    """

    name: str
    sets: dict[str, list[Sample]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("forget", "retain"):
            if not self.sets.get(name) and (name == "forget" or name in self.sets):
                raise UserError(f"task '{self.name}': the {name} set is empty; give at least one row")
        remembered = {s.key for s in self.forget}
        for name in ("retain", "unlabelled"):
            both = [s.id for s in self.sets.get(name, []) if s.key in remembered]
            if both:
                shown = ", ".join(f"'{s}'" for s in both[:3])
                raise UserError(f"task '{self.name}': rows of the forget set are also in the {name} set, there {shown}")

    @property
    def forget(self) -> list[Sample]:
        """The samples to forget."""
        return self.sets["forget"]

    @property
    def retain(self) -> list[Sample]:
        """The samples to keep; raises UserError for a task of texts that are only looked at, which has none."""
        if "retain" not in self.sets:
            raise UserError(f"task '{self.name}' has no retain set; give rows to keep")
        return self.sets["retain"]

    @property
    def fingerprint(self) -> str:
        """sha256 over every sample that a run trains on or probes, so that it can say which data it saw."""
        digest = hashlib.sha256()
        old_names = {"general": "heldout"}  # hashed under the first version's names, so that its runs can be resumed
        names = {old_names.get(name, name): name for name in set(self.sets) - set(ONLY_COMPARED)}
        for old, name in sorted(names.items()):
            for sample in self.sets[name]:
                as_hashed = replace(sample, id=re.sub(rf"^{name}-", f"{old}-", sample.id))
                digest.update(repr((old, as_hashed)).encode())
        return digest.hexdigest()


def kind_of(question: str) -> str:
    """The first question word of a question, small; "yes or no" where it has none."""
    return next((word for word in re.findall(r"[^\W\d_]+", question.lower()) if word in ASKING), "yes or no")


def fields_of(samples: Sequence[Sample]) -> list[str]:
    """The fields by which samples can be grouped, in the order of their rows."""
    own = dict.fromkeys(name for sample in samples for name, _ in sample.about)
    return [*own, *([KIND] if KIND not in own and any(s.question for s in samples) else [])]


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` items, evenly spaced."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, limit - 1))] for i in range(limit)]
