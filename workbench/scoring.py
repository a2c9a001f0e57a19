"""Score a whole task: fixed scorers in one pass over its forget answers, learning ones by a short run on a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from workbench.models import LanguageModel
from workbench.registry import UserError
from workbench.scorers import score_samples, scorer
from workbench.tasks import Task
from workbench.unlearn import Settings, epochs, unlearn

PRESET = Settings(batch_size=8, lr=1e-5, warmup=0)  # the model's part of the authors' default preset
PRESET_EPOCHS = 5


def score_task(
    lm: LanguageModel,
    task: Task,
    names: list[str],
    *,
    reference: LanguageModel | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> pd.DataFrame:
    """The score table of a task's forget answers under several scorers.

    Args:
        lm: the model; unchanged.
        task: whose forget set is scored.
        names: scorers by name.
        reference: for scorers that need one.
        seed: of every random source.
        progress: called with what is done, how much of it, and of how much.
    """
    check_needs(names, reference is not None)
    fixed = [name for name in names if not scorer[name].facts.get("live")]
    tables = []
    if fixed:
        tables.append(
            score_samples(
                lm,
                task.forget,
                fixed,
                task=task.name,
                reference=reference,
                seed=seed,
                progress=lambda done: progress("score", done, len(task.forget)),
            )
        )
    tables += [learned_scores(lm, task, name, seed=seed, progress=progress) for name in names if name not in fixed]
    return pd.concat(tables, ignore_index=True)


def check_needs(names: list[str], reference: bool) -> None:
    """Raise for an unknown scorer, or one whose reference model is missing, before anything is loaded."""
    for name in names:
        if "reference" in scorer[name].facts.get("needs", ()) and not reference:
            raise UserError(f"scorer '{name}' needs a reference model; name one with --reference")


def learned_scores(
    lm: LanguageModel,
    task: Task,
    name: str,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> pd.DataFrame:
    """The score table of a scorer that learns in alternation with the model, which is copied first.

    The scores are the learned map applied to the states of the changed model at the last step; `step` is 0, as in
    every table outside a run.
    """
    steps = epochs(PRESET_EPOCHS, len(task.forget), PRESET.batch_size)
    settings = replace(PRESET, steps=steps, seed=seed, record_every=steps, checkpoint_every=steps)
    run = unlearn(
        lm, task, "atwu", name, settings=settings, on_step=lambda e: progress(f"learn {name}", e["step"], steps)
    )
    last = run.scores[(run.scores["scorer"] == name) & (run.scores["step"] == steps)]
    return last.assign(step=0).reset_index(drop=True)
