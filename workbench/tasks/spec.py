"""Everything that names a task, and the task it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from workbench.errors import UserError
from workbench.tasks.readers import task
from workbench.tasks.rows import own_rows, samples_from, with_spans
from workbench.tasks.samples import Sample, Task


@dataclass(frozen=True)
class TaskSpec:
    """Everything that names a task, as a run's configuration holds it.

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
        """Read the task.

        Raises:
            UserError: no such task, fields that do not go together, or a file that cannot be read.
        """
        loaded = self._own() if self.forget or self.retain else self._named()
        sets = dict(loaded.sets)
        if self.retain_rows is not None:
            if self.retain_rows < 1:
                raise UserError("retain_rows must be at least 1")
            rest = sets["retain"][: -self.retain_rows]
            sets["retain"] = sets["retain"][-self.retain_rows :]
            if rest:
                sets["unlabelled"] = rest
        if self.unlabelled:
            sets["unlabelled"] = _own_set(self.unlabelled, "unlabelled")
        if self.spans:
            sets["forget"] = with_spans(sets["forget"], Path(self.spans))
        return replace(loaded, sets=sets)

    def _own(self) -> Task:
        if self.name or not (self.forget and self.retain):
            raise UserError("give either a task's name, or two files of your own, one as forget and one as retain")
        return Task("own", {"forget": _own_set(self.forget, "forget"), "retain": _own_set(self.retain, "retain")})

    def _named(self) -> Task:
        if not self.name:
            raise UserError(f"no task: name one ({', '.join(task)}) or give files of your own as forget and retain")
        head, _, variant = self.name.partition("/")
        return task[head].function(variant, Path(self.data_dir) if self.data_dir else None)


def _own_set(path: str, name: str) -> list[Sample]:
    samples = samples_from(own_rows(Path(path)), name)
    if not samples:
        raise UserError(f"{path}: the {name} set is empty; give at least one row")
    return samples
