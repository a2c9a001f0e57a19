"""A model in any form in which a notebook has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.models import LanguageModel, load
from workbench.runs import Job, RunDirectory, is_run, load_result

ModelSource = LanguageModel | RunDirectory | Job | Path | str


def run_of(source: Any) -> RunDirectory | None:
    """The run that a model is named by; None where it is named otherwise."""
    if isinstance(source, Job):
        return source.directory
    if isinstance(source, Path | str) and is_run(Path(source)):
        return RunDirectory(Path(source))
    return source if isinstance(source, RunDirectory) else None


def model_of(source: ModelSource) -> LanguageModel:
    """The model itself.

    Args:
        source: a loaded model; a run (its directory, its path or a `Job`), for the model that it left; else what
            `wb.load` takes.

    Raises:
        UserError: it is none of these, or cannot be loaded.
    """
    if isinstance(source, LanguageModel):
        return source
    if (run := run_of(source)) is not None:
        return load_result(run)
    if isinstance(source, Path | str):
        return load(str(source))
    raise UserError(
        f"a model is given by its name, its directory, a run, or what wb.load gives, not by a {type(source).__name__}"
    )
