"""A run in any form in which a notebook has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from workbench.errors import UserError
from workbench.runs import Job, RunDirectory, run_at

RunSource: TypeAlias = RunDirectory | Job | Path | str


def run_of(source: Any) -> RunDirectory | None:
    """The run that something names in one of these forms; None where it is something else."""
    return source.directory if isinstance(source, Job) else run_at(source)


def run_directory(run: RunSource) -> RunDirectory:
    """The directory of a run.

    Raises:
        UserError: it is no run's directory, or something else, such as what `unlearn` returns, which has no files.
    """
    if isinstance(run, RunDirectory):
        return run
    if isinstance(run, Job):
        return run.directory
    if isinstance(run, Path | str):
        return RunDirectory(Path(run))
    raise UserError(f"a run is given by its directory, its path or a Job, not by a {_kind(run)}; wb.start makes one")


def _kind(run: Any) -> str:
    return "Run that `unlearn` returned: it keeps no files" if type(run).__name__ == "Run" else type(run).__name__
