"""Everything that names a task, and the task it names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from workbench.errors import UserError
from workbench.tasks.own import check_named, own_set
from workbench.tasks.readers import task
from workbench.tasks.rows import with_spans
from workbench.tasks.samples import Sample, Task, spread


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    """

    name: str | None = None
    data_dir: str | None = None
    forget: str | None = None
    retain: str | None = None
    spans: str | None = None
    retain_rows: int | None = None
    unlabelled: str | None = None
    columns: dict[str, str] | None = None
    retain_from: Literal["all", "end"] = "all"

    def load(self, say: Callable[[str], None] = _print) -> Task:
        """Read the task.

        Args:
            say: called with each line that says how files of one's own were read; by default printed as an error is.

        Raises:
            UserError: no such task, fields that do not go together, or a file that cannot be read.
        """
        check_named(self.columns)
        lines: list[str] = []
        loaded = self._own(lines) if self.forget or self.retain else self._named()
        sets = dict(loaded.sets)
        if self.retain_rows is not None:
            self._keep(sets, lines)
        if self.unlabelled:
            sets["unlabelled"] = self._set(self.unlabelled, "unlabelled", lines)
        if self.spans:
            sets["forget"] = with_spans(sets["forget"], Path(self.spans))
        loaded = replace(loaded, sets=sets)
        for line in lines:
            say(line)
        return loaded

    def _keep(self, sets: dict[str, list[Sample]], lines: list[str]) -> None:
        """Keep `retain_rows` of the retain rows, in their order; the others become unlabelled text."""
        n, samples = self.retain_rows or 0, sets["retain"]
        if n < 1:
            raise UserError("retain_rows must be at least 1")
        if n >= len(samples):
            return
        places = range(len(samples))
        if self.retain_from == "end":
            kept, which = set(places[-n:]), "the last"
        else:
            first = [place for place in places if samples[place].wrong_answers]
            kept = {*spread(first, n), *spread([p for p in places if p not in set(first)], max(0, n - len(first)))}
            which = "spread evenly"
            if 0 < len(first) < len(samples):
                which += (
                    f" over the {len(first)} with wrong answers"
                    if n < len(first)
                    else " after those with wrong answers"
                )
        sets["retain"] = [samples[place] for place in places if place in kept]
        sets["unlabelled"] = [samples[place] for place in places if place not in kept]
        lines.append(f"retain: {n} of {len(samples)} rows, {which}; the others are unlabelled text")

    def _own(self, lines: list[str]) -> Task:
        if self.name or not (self.forget and self.retain):
            raise UserError("give either a task's name, or two files of your own, one as forget and one as retain")
        files = {"forget": self.forget, "retain": self.retain}
        return Task("own", {name: self._set(file, name, lines) for name, file in files.items()})

    def _set(self, file: str, name: str, lines: list[str]) -> list[Sample]:
        samples, line = own_set(file, name, self.columns)
        lines.append(line)
        return samples

    def _named(self) -> Task:
        if not self.name:
            raise UserError(f"no task: name one ({', '.join(task)}) or give files of your own as forget and retain")
        head, _, variant = self.name.partition("/")
        return task[head].function(variant, Path(self.data_dir) if self.data_dir else None)
