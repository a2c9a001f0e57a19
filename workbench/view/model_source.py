"""A model in any form in which a notebook has it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from workbench.errors import UserError
from workbench.models import LanguageModel, memory_of, share_weights
from workbench.runs import Job, load_original, load_result, loaded_model
from workbench.view.run_source import RunSource, run_of

ModelSource: TypeAlias = LanguageModel | RunSource


def model_of(source: ModelSource, like: LanguageModel | None = None) -> LanguageModel:
    """The model itself.

    Args:
        source: a loaded model; a run (its directory, its path or a `Job`), for the model that it left; else what
            `wb.load` takes.
        like: a model to compare with: the same device, number format and prompts.

    Raises:
        UserError: it is none of these, or cannot be loaded.
    """
    run = source.directory if isinstance(source, Job) else source
    return loaded_model(run, **(like.like() if like else {}))


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
        after = load_result(run)
        before = load_original(run)
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
