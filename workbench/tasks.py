"""What must be forgotten and what must be kept: samples, tasks, and the readers that make them.

A task is named: `biographies` (embedded), `tofu/forget01` (hub, or a directory with the official files), or a pair of
JSONL files of one's own. Every reader validates row by row and names file and line in its errors.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from workbench.registry import Registry, UserError, unknown

DATA = Path(__file__).resolve().parents[1] / "data"
T = TypeVar("T")
PROBE_SETS = ("forget", "retain", "neighbours", "heldout")

task = Registry("task")


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
    """

    id: str
    question: str
    answer: str
    spans: tuple[tuple[int, int], ...] | None = None
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    wrong_answers: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """The texts inside the labelled spans."""
        return tuple(self.answer[start:end] for start, end in self.spans or ())


@dataclass(frozen=True)
class Task:
    """Named sets of samples: `forget`, `retain`, and where there are any `neighbours`, `heldout`, `train_extra`.

    `unlabelled` is text of the same kind that the model was not trained on; scorers that learn a map fit it there.
    """

    name: str
    sets: dict[str, list[Sample]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("forget", "retain"):
            if not self.sets.get(name):
                raise UserError(f"task '{self.name}': the {name} set is empty; give at least one row")
        remembered = {(s.question, s.answer): s.id for s in self.forget}
        for name in ("retain", "unlabelled"):
            both = [s.id for s in self.sets.get(name, []) if (s.question, s.answer) in remembered]
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
        for name in sorted(set(self.sets) - {"unlabelled"}):
            for sample in self.sets[name]:
                digest.update(repr((name, sample)).encode())
        return digest.hexdigest()


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` items, evenly spaced."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, limit - 1))] for i in range(limit)]


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects of a JSON Lines file, each with its `file:line`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a JSON Lines file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a directory; give the path of a JSON Lines file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    for number, line in enumerate(text.split("\n"), 1):
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


def _text(row: dict[str, Any], key: str, where: str, required: bool = False) -> str | None:
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
    text = _text(row, "text", where)
    if text is None and ("question" not in row or "answer" not in row):
        found = ", ".join(sorted(row)) or "nothing"
        raise UserError(f"{where}: needs 'question' and 'answer', or 'text'; found {found}")
    question = "" if text is not None else _text(row, "question", where, required=True) or ""
    answer = _text(row, "text" if text is not None else "answer", where, required=True) or ""
    wrong = row.get("wrong_answers", row.get("perturbed_answer")) or []
    wrong = [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list) or not all(isinstance(w, str) and w.strip() for w in wrong):
        raise UserError(f"{where}: 'wrong_answers' must be a list of strings")
    for each in wrong:
        _encodable(each, "wrong_answers", where)
    identity = str(row.get("id", default_id))
    _encodable(identity, "id", where)
    return Sample(
        id=identity,
        question=question,
        answer=answer,
        spans=_spans(row, answer, where),
        paraphrased_question=_text(row, "paraphrased_question", where),
        paraphrased_answer=_text(row, "paraphrased_answer", where),
        wrong_answers=tuple(wrong),
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


KEYS = ("id", "question", "answer", "text", "spans", "paraphrased_question", "paraphrased_answer", "wrong_answers")


def _own_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one's own file: other keys may stand there, misspelt ones may not."""
    for where, row in rows(path):
        for key in row:
            meant = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.85)
            if meant and key not in KEYS:
                raise UserError(f"{where}: unknown key '{key}': did you mean {meant[0]}?")
        yield where, row


@task("biographies", source="embedded")
def biographies(variant: str, data_dir: Path | None) -> Task:
    """160 fictional people, six facts each in three phrasings; 16 of them to forget. Made by `workbench.builtin`."""
    if variant:
        raise UserError(f"task 'biographies' has no variant '{variant}'; write just 'biographies'")
    folder = data_dir or DATA / "biographies"
    names = (*PROBE_SETS, "train_extra")
    return Task("biographies", {name: samples_from(rows(folder / f"{name}.jsonl"), name) for name in names})


@task("tofu", source="arXiv 2401.06121, locuslab/TOFU")
def tofu(variant: str, data_dir: Path | None) -> Task:
    """TOFU: 200 fictitious authors, 20 questions each; neighbours are its real authors, held-out its world facts."""
    variant = variant or "forget01"
    splits = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
    if variant not in splits:
        raise unknown("TOFU split", variant, list(splits))
    perturbed = {s.question: s for s in _tofu_split("retain_perturbed", data_dir)}
    retain = [
        replace(perturbed[s.question], id=s.id) if s.question in perturbed else s
        for s in _tofu_split(splits[variant], data_dir)
    ]
    return Task(
        f"tofu/{variant}",
        {
            "forget": _tofu_split(f"{variant}_perturbed", data_dir),
            "retain": retain,
            "neighbours": _tofu_split("real_authors_perturbed", data_dir),
            "heldout": _tofu_split("world_facts_perturbed", data_dir),
        },
    )


def _tofu_split(split: str, data_dir: Path | None) -> list[Sample]:
    if data_dir is not None:
        return samples_from(rows(data_dir / f"{split}.json"), split)
    try:
        from datasets import load_dataset

        table = load_dataset("locuslab/TOFU", split, split="train")
    except Exception as error:
        raise UserError(
            f"TOFU split '{split}' cannot be fetched from the hub ({type(error).__name__}); "
            "give the directory of the official files with --data-dir"
        ) from error
    return samples_from(((f"locuslab/TOFU {split} row {n}", dict(row)) for n, row in enumerate(table)), split)


@dataclass(frozen=True)
class TaskSpec:
    """Everything that names a task, as it stands in a run's configuration.

    Attributes:
        name: `biographies`, `tofu/forget01`, ...; None with `forget` and `retain`.
        data_dir: directory of the official files, instead of the hub.
        forget: JSONL file of one's own rows to forget.
        retain: JSONL file of one's own rows to keep.
        spans: JSONL file with span labels of the forget rows.
        retain_rows: use only the last n retain rows; the others become the task's unlabelled text, as text of the same
            kind that a model planted with these options has not seen.
        unlabelled: JSONL file of such text, instead.
    """

    name: str | None = None
    data_dir: str | None = None
    forget: str | None = None
    retain: str | None = None
    spans: str | None = None
    retain_rows: int | None = None
    unlabelled: str | None = None

    def load(self) -> Task:
        """Read the task this names."""
        loaded = self._own() if self.forget or self.retain else self._named()
        sets = dict(loaded.sets)
        if self.retain_rows is not None:
            if self.retain_rows < 1:
                raise UserError("--retain-rows must be at least 1")
            rest = sets["retain"][: -self.retain_rows]
            sets["retain"] = sets["retain"][-self.retain_rows :]
            if rest:
                sets["unlabelled"] = rest
        if self.unlabelled:
            sets["unlabelled"] = samples_from(_own_rows(Path(self.unlabelled)), "unlabelled")
            if not sets["unlabelled"]:
                raise UserError(f"{self.unlabelled}: no row; give at least one, or leave --unlabelled out")
        if self.spans:
            sets["forget"] = with_spans(sets["forget"], Path(self.spans))
        return replace(loaded, sets=sets)

    def _own(self) -> Task:
        if self.name or not (self.forget and self.retain):
            raise UserError("give either a task's name, or both --forget FILE and --retain FILE")
        sets = {}
        for name, path in (("forget", self.forget), ("retain", self.retain)):
            sets[name] = samples_from(_own_rows(Path(path)), name)
            if not sets[name]:
                raise UserError(f"{path}: the {name} set is empty; give at least one row")
        return Task("own", sets)

    def _named(self) -> Task:
        if not self.name:
            raise UserError("no task: name one (" + ", ".join(task) + ") or give --forget FILE and --retain FILE")
        head, _, variant = self.name.partition("/")
        return task[head].function(variant, Path(self.data_dir) if self.data_dir else None)
