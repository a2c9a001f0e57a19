"""Everything that names a task, and the task it names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from workbench.errors import UserError, check_known, note, printable, unknown
from workbench.tasks.columns import Reading
from workbench.tasks.own_files import check_named, own_set
from workbench.tasks.parts import ABOUT_FORGET, rehearsing
from workbench.tasks.pieces import PIECE_WORDS
from workbench.tasks.readers import task
from workbench.tasks.rows import with_spans
from workbench.tasks.samples import Sample, Task, fields_of, spread

ADDABLE = ("neighbours", "unlabelled", "others")  # sets whose rows can be kept, too


@dataclass(frozen=True)
class TaskSpec:
    """Everything that names a task, as a run's configuration holds it.

    A file of one's own is JSON, JSON Lines, CSV, TSV, Parquet, Arrow, a folder that `datasets` saved, a text file, or
    `hub:OWNER/NAME`; see the guide on one's own data.

    Attributes:
        name: `biographies`, `tofu/forget01`, `muse/news`, ...; None with `forget` and `retain`.
        data_dir: directory of the official files, instead of the hub.
        forget: file of one's own rows to forget.
        retain: file of one's own rows to keep.
        spans: file with span labels of the forget rows.
        retain_rows: use only n retain rows; the others become the task's unlabelled text, as text of the same kind
            that a model planted with these options has not seen.
        unlabelled: file of such text, instead.
        columns: key -> column, such as `{"question": "Q", "answer": "A"}`, where the columns of one's own files do not
            tell by their names.
        retain_from: which `retain_rows`: "all" spreads them over all rows, those with wrong answers before the others,
            since the truth ratio needs them; "end" takes the last ones.
        piece_words: a longer plain text of one's own is cut into pieces of at most so many words, as MUSE's are.
        rehearsed: earlier requests, whose forget rows are forgotten again with these; their retain rows are not used.
        only: (field, value): only the forget rows with that value of the field are to be forgotten; the others are the
            set `others`, which is neither trained on nor probed.
        keep: ids of rows of other sets (neighbours, unlabelled text, others) that are retain rows, too.
        sets: the sets that there are; all by default. A run probes those that there are.
    """

    @property
    def label(self) -> str:
        """A short name: the task's, or the file's with the rows to forget."""
        return self.name or Path(self.forget or "own").stem

    name: str | None = None
    data_dir: str | None = None
    forget: str | None = None
    retain: str | None = None
    spans: str | None = None
    retain_rows: int | None = None
    unlabelled: str | None = None
    columns: dict[str, str] | None = None
    retain_from: Literal["all", "end"] = "all"
    piece_words: int = PIECE_WORDS
    rehearsed: tuple[TaskSpec, ...] = ()
    only: tuple[str, str] | None = None
    keep: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    def load(self, say: Callable[[str], None] = note) -> Task:
        """Read the task; `say` gets each line that says how files of one's own were read.

        Raises:
            UserError: no such task, fields that do not go together, or a file that cannot be read.
        """
        lines: list[str] = []
        try:
            loaded = self._read(lines)
            if self.rehearsed:
                loaded = rehearsing(loaded, [each.load(lines.append) for each in self.rehearsed])
        except UserError as error:  # names and ids in it are of the files, whoever made these
            raise type(error)(printable(str(error))) from error.__cause__
        for line in lines:
            say(line)
        return loaded

    def _read(self, lines: list[str]) -> Task:
        """The task, and into `lines` what there is to say about it."""
        check_named(self.columns)
        if self.piece_words < 1:
            raise UserError("piece_words must be at least 1")
        readings: list[Reading] = []

        def own(file: str, name: str) -> list[Sample]:
            samples, reading = own_set(str(file), name, self.columns, self.piece_words)
            readings.append(reading)
            return samples

        if not (self.forget or self.retain):
            loaded = self._named()
        elif self.name or not (self.forget and self.retain):
            raise UserError("give either a task's name, or two files of your own, one as forget and one as retain")
        else:
            loaded = Task("own", {"forget": own(self.forget, "forget"), "retain": own(self.retain, "retain")})
        sets = dict(loaded.sets)
        if self.retain_rows is not None:
            sets |= self._kept(sets["retain"], lines)
        if self.unlabelled:
            sets["unlabelled"] = own(self.unlabelled, "unlabelled")
        if self.spans:
            sets["forget"] = with_spans(sets["forget"], Path(self.spans), self.piece_words)
        if self.columns and not any(reading.named for reading in readings):
            raise UserError(f"no file has the column '{next(iter(self.columns.values()))}', which --columns names")
        if self.only:
            sets |= only_those(sets, *self.only)
        if self.keep:
            sets |= kept_too(sets, self.keep)
        for name in self.sets:
            check_known("set", name, sets)
        if self.sets:
            sets = {name: samples for name, samples in sets.items() if name in (*self.sets, "forget", "retain")}
        lines[:0] = [reading.line() for reading in readings]
        return replace(loaded, sets=sets)

    def _kept(self, samples: list[Sample], lines: list[str]) -> dict[str, list[Sample]]:
        """`retain_rows` of the retain rows, in their order, and the others as unlabelled text."""
        n, places = self.retain_rows or 0, range(len(samples))
        if n < 1:
            raise UserError("retain_rows must be at least 1")
        if n >= len(samples):
            return {}
        if self.retain_from == "end":
            kept, which = set(places[-n:]), "the last"
        else:
            first = [place for place in places if samples[place].wrong_answers]
            others = [place for place in places if not samples[place].wrong_answers]
            kept, which = {*spread(first, n), *spread(others, max(0, n - len(first)))}, "spread evenly"
            if first and others:
                which += f" {'over' if n < len(first) else 'after'} the {len(first)} with wrong answers"
        lines.append(f"retain: {n} of {len(samples)} rows, {which}; the others are unlabelled text")
        return {
            "retain": [samples[place] for place in places if place in kept],
            "unlabelled": [samples[place] for place in places if place not in kept],
        }

    def _named(self) -> Task:
        if not self.name:
            raise UserError(f"no task: name one ({', '.join(task)}) or give files of your own as forget and retain")
        head, _, variant = self.name.partition("/")
        return task[head].function(variant, Path(self.data_dir) if self.data_dir else None)


def only_those(sets: Mapping[str, list[Sample]], name: str, value: str) -> dict[str, list[Sample]]:
    """The forget rows whose field has a value, the others, and what is asked about these rows alone.

    Raises:
        UserError: no row of the forget set has it.
    """
    forget = [s for s in sets["forget"] if s.get(name) == value]
    if not forget:
        values = dict.fromkeys(str(s.get(name)) for s in sets["forget"] if s.get(name) is not None)
        if not values:
            raise unknown("field of the forget rows", name, fields_of(sets["forget"]))
        raise unknown(name, value, list(values))
    asked = {s: [row for row in sets[s] if row.get(name) in (None, value)] for s in ABOUT_FORGET if s in sets}
    return {"forget": forget, "others": [s for s in sets["forget"] if s.get(name) != value]} | asked


def kept_too(sets: Mapping[str, list[Sample]], ids: Collection[str]) -> dict[str, list[Sample]]:
    """The retain set with rows of the other sets added, and these sets without them; UserError for an unknown id."""
    wanted, changed = set(ids), {}
    added: list[Sample] = []
    for name in ADDABLE:
        rows = sets.get(name, [])
        if chosen := [s for s in rows if s.id in wanted]:
            added += chosen
            changed[name] = [s for s in rows if s.id not in wanted]
    if absent := wanted - {s.id for s in (*added, *sets["retain"])}:
        where = ", ".join(name for name in ADDABLE if sets.get(name)) or "no other set"
        raise UserError(f"no row '{min(absent)}' to keep in {where}; give ids of such rows")
    return changed | {"retain": [*sets["retain"], *added]}
