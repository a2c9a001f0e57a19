"""Samples and tasks, and how a row of a JSON Lines file becomes a sample: every error names its file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from workbench.errors import UserError
from workbench.files import resource
from workbench.registry import Registry, Spec

DATA = resource("data")
T = TypeVar("T")
PROBE_SETS = (
    "forget",
    "retain",
    "neighbours",
    "general",
    "verbmem",
    "knowmem",
    "retain_knowmem",
    "fill_blank",
    "qa",
    "adversarial",
)
ONLY_COMPARED = ("unlabelled", "nonmembers", "privleak_forget")  # neither trained on nor probed
KEYS = (
    "id",
    "question",
    "answer",
    "text",
    "spans",
    "paraphrased_question",
    "paraphrased_answer",
    "wrong_answers",
    "continues",
)

task = Registry("task", Spec)


@dataclass(frozen=True)
class Sample:
    """One question and answer, or a plain text (`question` empty, the text in `answer`).

    Attributes:
        id: unique within its task.
        question: what the model is asked; empty for plain text.
        answer: what it learned to say.
        spans: character ranges of `answer` (end exclusive) that carry the fact; None where nobody labelled them.
        paraphrased_question: the same question in other words.
        paraphrased_answer: the same answer in other words.
        wrong_answers: false answers in the paraphrase's form.
        continues: the question is the beginning of a text that the answer continues: no template around it.
    """

    id: str
    question: str
    answer: str
    spans: tuple[tuple[int, int], ...] | None = None
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    wrong_answers: tuple[str, ...] = ()
    continues: bool = False

    @property
    def values(self) -> tuple[str, ...]:
        """The texts inside the labelled spans."""
        return tuple(self.answer[start:end] for start, end in self.spans or ())


@dataclass(frozen=True)
class Task:
    """Named sets of samples: `forget`, `retain`, and where there are any others of `PROBE_SETS`, and `train_extra`.

    `unlabelled` is text of the same kind that the model was not trained on; scorers that learn a map fit it there.
    `nonmembers` is such text too: what membership attacks tell the forget set apart from.
    """

    name: str
    sets: dict[str, list[Sample]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("forget", "retain"):
            if not self.sets.get(name):
                raise UserError(f"task '{self.name}': the {name} set is empty; give at least one row")
        remembered = {_same(s) for s in self.forget}
        for name in ("retain", "unlabelled"):
            both = [s.id for s in self.sets.get(name, []) if _same(s) in remembered]
            if both:
                shown = ", ".join(f"'{s}'" for s in both[:3])
                raise UserError(f"task '{self.name}': rows of the forget set are also in the {name} set, there {shown}")

    @property
    def forget(self) -> list[Sample]:
        """The samples to forget."""
        return self.sets["forget"]

    @property
    def retain(self) -> list[Sample]:
        """The samples to keep."""
        return self.sets["retain"]

    @property
    def fingerprint(self) -> str:
        """sha256 over every sample that a run trains on or probes, so that it can say which data it saw."""
        digest = hashlib.sha256()
        for name in sorted(set(self.sets) - set(ONLY_COMPARED)):
            for sample in self.sets[name]:
                digest.update(repr((name, sample)).encode())
        return digest.hexdigest()


def _same(sample: Sample) -> tuple[str, str]:
    """What two samples have in common that differ in nothing but spaces and capitals."""
    return " ".join(sample.question.split()).casefold(), " ".join(sample.answer.split()).casefold()


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` items, evenly spaced."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, limit - 1))] for i in range(limit)]


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects of a JSON Lines file, each with its `file:line`."""
    for number, line in enumerate(text_of(path, "JSON Lines").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); one object a line") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, row


def text_of(path: Path, kind: str) -> str:
    """The text of a file of some kind, which is named where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a {kind} file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a directory; give the path of a {kind} file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def text_in(row: dict[str, Any], key: str, where: str, required: bool = False) -> str | None:
    """A row's text under a key; None where a text that is not required is missing."""
    value = row.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, str) or (required and not value.strip()):
        raise UserError(f"{where}: '{key}' must be a non-empty string")
    _encodable(value, key, where)
    return value


def _encodable(value: str, key: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: '{key}' holds half of a surrogate pair; write the character as UTF-8") from None


def _spans(row: dict[str, Any], answer: str, where: str) -> tuple[tuple[int, int], ...] | None:
    spans = row.get("spans")
    if spans is None:
        return None
    pairs = isinstance(spans, list) and all(
        isinstance(s, list) and len(s) == 2 and all(type(x) is int for x in s) for s in spans
    )
    if not pairs:
        raise UserError(f"{where}: 'spans' must be a list of [start, end] character offsets into the answer")
    for start, end in spans:
        if start == end:
            raise UserError(f"{where}: span [{start}, {end}] is empty; the end is exclusive")
        if not 0 <= start < end <= len(answer):
            raise UserError(f"{where}: span [{start}, {end}] is outside its answer of {len(answer)} characters")
    return tuple((start, end) for start, end in spans)


def sample_from(row: dict[str, Any], where: str, default_id: str) -> Sample:
    """A validated sample of one row: `question` and `answer`, or `text`; the other keys are optional."""
    text = text_in(row, "text", where)
    if text is None and ("question" not in row or "answer" not in row):
        found = ", ".join(sorted(row)) or "nothing"
        raise UserError(f"{where}: needs 'question' and 'answer', or 'text'; found {found}")
    question = "" if text is not None else text_in(row, "question", where, required=True) or ""
    answer = text_in(row, "text" if text is not None else "answer", where, required=True) or ""
    wrong = row.get("wrong_answers", row.get("perturbed_answer")) or []
    wrong = [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list) or not all(isinstance(w, str) and w.strip() for w in wrong):
        raise UserError(f"{where}: 'wrong_answers' must be a list of strings")
    for each in wrong:
        _encodable(each, "wrong_answers", where)
    identity = str(row.get("id", default_id))
    _encodable(identity, "id", where)
    continues = row.get("continues", False)
    if not isinstance(continues, bool) or (continues and not question):
        raise UserError(f"{where}: 'continues' must be true or false, and true only beside a 'question'")
    return Sample(
        id=identity,
        question=question,
        answer=answer,
        spans=_spans(row, answer, where),
        paraphrased_question=text_in(row, "paraphrased_question", where),
        paraphrased_answer=text_in(row, "paraphrased_answer", where),
        wrong_answers=tuple(wrong),
        continues=continues,
    )


def samples_from(source: Iterable[tuple[str, dict[str, Any]]], prefix: str) -> list[Sample]:
    """Samples of `(where, row)` pairs; ids default to `<prefix>-<n>` and must be unique."""
    samples: dict[str, Sample] = {}
    for n, (where, row) in enumerate(source):
        sample = sample_from(row, where, f"{prefix}-{n:04d}")
        if sample.id in samples:
            raise UserError(f"{where}: id '{sample.id}' is used twice; ids must be unique")
        samples[sample.id] = sample
    return list(samples.values())


def with_spans(samples: list[Sample], path: Path) -> list[Sample]:
    """The same samples with the span labels of a JSONL file, matched by question and answer."""
    labels = {(s.question, s.answer): s.spans for s in samples_from(rows(path), "spans")}
    labelled = [replace(s, spans=labels.get((s.question, s.answer), s.spans)) for s in samples]
    if all(s.spans is None for s in labelled):
        raise UserError(f"{path}: no row matches a forget sample by question and answer")
    return labelled
