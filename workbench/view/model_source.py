"""A model in any form in which a notebook has it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.models import LanguageModel, load, memory_of, share_weights
from workbench.runs import Job, RunDirectory, is_run, load_original, load_result

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


def before_and_after(run: RunDirectory) -> tuple[LanguageModel, LanguageModel]:
    """The model that a run began with, and the one that it left.

    Raises:
        UserError: the run is not finished, or one of the two cannot be loaded.
    """
    after = load_result(run)
    return load_original(run), after


def described(lm: LanguageModel, others: Iterable[LanguageModel] = (), name: str = "") -> str:
    """What a model is, and the memory that it takes beside `others`, in a line."""
    others = list(others)
    count, memory = memory_of(lm, others)
    more = " more" if others else ""
    size = f"{count / 1e6:,.1f} M parameters, {memory / 1e6:,.1f} MB{more}"
    return f"{name or lm.name}: {size}, {lm.precision} on {lm.device}, {lm.prompt} prompts"


def several(sources: tuple[ModelSource, ...]) -> tuple[list[LanguageModel], list[str]]:
    """The models, those that are loaded here sharing the memory of what is equal, and a name for each.

    Raises:
        UserError: neither a run nor two or three models, or one that cannot be loaded.
    """
    run = run_of(sources[0]) if len(sources) == 1 else None
    if run is not None:
        before, after = before_and_after(run)
        models, labels, own = [before, after], [f"before ({before.name})", f"after ({run.name})"], [0, 1]
    elif len(sources) not in (2, 3):
        raise UserError(f"a chat takes a run, or two or three models, not {len(sources)}")
    else:
        models, labels, own = [], [], []
        for i, source in enumerate(sources):
            named = run_of(source)
            models.append(model_of(source))
            labels.append(named.name if named else Path(models[i].name).name)
            own += [] if isinstance(source, LanguageModel) else [i]
    for i in own[1:]:
        share_weights(models[i], models[own[0]])
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({i + 1})" for i, label in enumerate(labels)]
    return models, labels
