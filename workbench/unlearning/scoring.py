"""Score a whole task: fixed scorers directly, live ones by a short run on a copy of the model."""

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

RUN = Settings(batch_size=8, lr=1e-5, warmup=0)  # how ATWU's authors train the model, whatever the scorer's preset
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
    """Score tables of a task's forget answers, each as soon as its scorers have finished.

    Args:
        lm: the model; unchanged.
        task: whose forget set is scored.
        names: scorers by name.
        reference: a second model, for scorers that compare with one.
        seed: of every random source.
        options: keyword arguments by scorer.
        learned: filled with the learned scorers by name; they can be saved and applied to other text.
        notes: filled with remarks on the scores, by scorer; see `TaskContext.notes`.
        progress: called as each scorer advances.
        failed: called with a scorer that this model or task does not support; the others go on. Without it the error
            is raised.
    """
    check_needs(names, reference is not None)  # for live scorers too, before any scoring
    options = options or {}
    context = TaskContext(
        lm,
        task,
        reference,
        seed,
        trained=forget_then_relearn,
        learned={} if learned is None else learned,
        notes={} if notes is None else notes,
    )
    yield from score_each(context, names, options=options, progress=progress, failed=failed)
    for name in names:
        if scorer[name].kind == "live":
            yield learned_scores(context, name, options.get(name, {}), progress)


def score_task(
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
) -> pd.DataFrame:
    """The score table of a task's forget answers under several scorers; arguments as in `score_parts`.

    `table.attrs["notes"]` states for each scorer what was attributed, and which samples have no score and why.
    """
    notes = {} if notes is None else notes
    parts = score_parts(
        lm,
        task,
        names,
        reference=reference,
        seed=seed,
        options=options,
        learned=learned,
        notes=notes,
        progress=progress,
    )
    table = in_order(list(parts), names)
    table.attrs["notes"] = notes
    return table


def both_parts(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of ATWU's scorer as options of a run; its objective shares beta and saturation."""
    shared = {key: options[key] for key in objective["atwu"].options if key in options}
    return {"weights": options, "objective": shared}


def learned_scores(
    context: TaskContext,
    name: str,
    options: dict[str, Any],
    progress: Progress,
) -> pd.DataFrame:
    """The score table of a live scorer, which learns in alternation with a copy of the model.

    The learned map is applied to the states of the copy after its last step. The table's `step` is 0, as in every
    table outside a run.
    """
    steps = epochs(EPOCHS, len(context.task.forget), RUN.batch_size)
    settings = RUN.replace(
        steps=steps,
        seed=context.seed,
        record_every=steps,
        checkpoint_every=steps,
        options=both_parts(options),
    )
    run = unlearn(
        context.lm,
        context.task,
        "atwu",
        name,
        settings=settings,
        on_step=lambda e: progress(f"learn {name}", e["step"], steps),
    )
    context.learned[name] = run.scorer
    last = run.scores[(run.scores["scorer"] == name) & (run.scores["step"] == steps)]
    return last.assign(step=0).reset_index(drop=True)
