"""Score a whole task: fixed scorers at once, learning ones by a short run on a copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from workbench.errors import UserError
from workbench.models import LanguageModel
from workbench.objectives import objective
from workbench.progress import Progress, silent
from workbench.scorers import TaskContext, check_needs, in_order, score_each, scorer
from workbench.tasks import Task
from workbench.unlearning.settings import Settings, epochs
from workbench.unlearning.unlearn import forget_then_relearn, unlearn

RUN = Settings(batch_size=8, lr=1e-5, warmup=0)  # the model's part of the authors' default preset, with every preset
EPOCHS = 5


def score_parts(
    lm: LanguageModel,
    task: Task,
    names: list[str],
    *,
    reference: LanguageModel | None = None,
    seed: int = 0,
    options: dict[str, dict[str, Any]] | None = None,
    learned: dict[str, Any] | None = None,
    notes: dict[str, dict[str, Any]] | None = None,
    progress: Progress = silent,
    failed: Callable[[str, UserError], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Score tables of a task's forget answers, each as soon as its scorers are finished.

    Args:
        lm: the model; unchanged.
        task: whose forget set is scored.
        names: scorers by name.
        reference: for scorers that need one.
        seed: of every random source.
        options: keyword arguments by scorer.
        learned: filled with the learned scorers by name, to be saved and applied to other text.
        notes: filled with what is to be said of the scores, by scorer; see `TaskContext.notes`.
        progress: called with what is done, how much of it, and of how much.
        failed: told of a scorer that cannot be had here, and the others go on; without it the error is raised.
    """
    check_needs(names, reference is not None)  # those that learn too, before the others are scored
    options = options or {}
    given = TaskContext(
        lm,
        task,
        reference,
        seed,
        trained=forget_then_relearn,
        learned={} if learned is None else learned,
        notes={} if notes is None else notes,
    )
    yield from score_each(given, names, options=options, progress=progress, failed=failed)
    for name in names:
        if scorer[name].kind == "live":
            yield learned_scores(given, name, options.get(name, {}), progress)


def score_task(lm: LanguageModel, task: Task, names: list[str], **asked: Any) -> pd.DataFrame:
    """The score table of a task's forget answers under several scorers; arguments as of `score_parts`.

    `table.attrs["notes"]` says of each scorer what was attributed, and which samples have no score and why.
    """
    notes = asked.setdefault("notes", {})
    table = in_order(list(score_parts(lm, task, names, **asked)), names)
    table.attrs["notes"] = notes
    return table


def both_parts(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of ATWU's scorer as options of a run: beta and saturation hold for the model's step too."""
    shared = {key: options[key] for key in objective["atwu"].options if key in options}
    return {"weights": options, "objective": shared}


def learned_scores(
    given: TaskContext,
    name: str,
    options: dict[str, Any],
    progress: Progress,
) -> pd.DataFrame:
    """The score table of a scorer that learns in alternation with the model, which is copied first.

    The scores are the learned map applied to the states of the changed model at the last step; `step` is 0, as in
    every table outside a run.
    """
    steps = epochs(EPOCHS, len(given.task.forget), RUN.batch_size)
    settings = RUN.replace(
        steps=steps,
        seed=given.seed,
        record_every=steps,
        checkpoint_every=steps,
        options=both_parts(options),
    )
    run = unlearn(
        given.lm,
        given.task,
        "atwu",
        name,
        settings=settings,
        on_step=lambda e: progress(f"learn {name}", e["step"], steps),
    )
    given.learned[name] = run.scorer
    last = run.scores[(run.scores["scorer"] == name) & (run.scores["step"] == steps)]
    return last.assign(step=0).reset_index(drop=True)
