"""Everything that names a task, and the task it names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.tasks.samples import KEYS, Task, rows, samples_from, task, with_spans


def _own_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one's own file: other keys may stand there, misspelt ones may not."""
    for where, row in rows(path):
        for key in row:
            meant = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.85)
            if meant and key not in KEYS:
                raise UserError(f"{where}: unknown key '{key}': did you mean {meant[0]}?")
        yield where, row


@dataclass(frozen=True)
class TaskSpec:
    """Everything that names a task, as it stands in a run's configuration.

    Attributes:
        name: `biographies`, `tofu/forget01`, `muse/news`, ...; None with `forget` and `retain`.
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
