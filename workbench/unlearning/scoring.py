"""Score a whole task: fixed scorers directly, live ones by a short run on a copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from workbench.errors import UserError
from workbench.models import LanguageModel, encode
from workbench.objectives import objective
from workbench.progress import Progress, silent
from workbench.scorers import TaskContext, check_needs, check_options, in_order, score_any_length, score_each, scorer
from workbench.tasks import Sample, Task
from workbench.unlearning.settings import Settings, epochs
from workbench.unlearning.unlearn import forget_then_relearn, unlearn

RUN = Settings(batch_size=8, warmup=0)  # in which a live scorer learns, with what its entry says; as ATWU's authors do
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
    check_options(options)
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


def score_texts(
    lm: LanguageModel,
    samples: list[Sample],
    names: list[str],
    *,
    unlabelled: list[Sample] | None = None,
    reference: LanguageModel | None = None,
    seed: int = 0,
    options: dict[str, dict[str, Any]] | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """The score table of any texts, or questions and answers, of any length; nothing need be retained.

    Args:
        lm: the model.
        samples: what is scored.
        names: scorers by name.
        unlabelled: text of the same kind that the model has not seen, for scorers that need it.
        reference: a second model, for scorers that compare with one.
        seed: of every random source.
        options: keyword arguments by scorer.
        progress: called as each scorer advances.

    Raises:
        UserError: a scorer lacks what it needs; the line says what.
    """
    options = options or {}
    check_options(options)
    own_text = [name for name in names if options.get(name, {}).get("text") == "forget"]
    check_needs([name for name in names if name not in own_text], reference is not None, bool(unlabelled))
    sets = {"forget": samples} | ({"retain": unlabelled, "unlabelled": unlabelled} if unlabelled else {})
    task = Task("texts", sets)
    if all(len(encode(lm, sample, any_length=True).ids) <= lm.context for sample in samples):
        return score_task(lm, task, names, reference=reference, seed=seed, options=options, progress=progress)
    notes: dict[str, dict[str, Any]] = {}
    context = TaskContext(lm, task, reference, seed, trained=forget_then_relearn, notes=notes, progress=progress)
    table = score_any_length(context, names, options=options)
    table.attrs["notes"] = notes
    return table


def both_parts(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of a live scorer as options of a run; ATWU's objective shares beta and saturation."""
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
    chosen = dict(scorer[name].run)
    loss = chosen.pop("objective")
    settings = RUN.replace(
        **chosen,
        steps=steps,
        seed=context.seed,
        record_every=steps,
        checkpoint_every=steps,
        options=both_parts(options),
    )
    run = unlearn(
        context.lm,
        context.task,
        loss,
        name,
        settings=settings,
        on_step=lambda e: progress(f"learn {name}", e["step"], steps),
    )
    context.learned[name] = run.scorer
    last = run.scores[(run.scores["scorer"] == name) & (run.scores["step"] == steps)]
    return last.assign(step=0).reset_index(drop=True)
