"""Score samples and tasks with fixed scorers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.cost import Phase
from workbench.errors import NOT_FINITE, UnsupportedError, UserError
from workbench.models import UNPREDICTED, Encoding, LanguageModel, batches, encode, in_sample_order
from workbench.progress import Progress, silent
from workbench.scorers.base import BatchContext, TaskContext, check_reference, scorer
from workbench.scorers.table import in_order, score_table
from workbench.tasks import Sample


def score_each(
    context: TaskContext,
    names: Iterable[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
    progress: Progress = silent,
    failed: Callable[[str, UserError], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """The score table of each scorer over a task's forget answers, as soon as it is finished.

    The scorers are of every kind but "live". Those of kind "batch" share their forward passes and come first, in one
    table. `options` are keyword arguments by scorer. Progress has the scorer's name, in forget samples. `failed` is
    called with a scorer that this model or task cannot have and the error; the others go on. Without it the error is
    raised.
    """
    names, total, options = list(names), len(context.task.forget), options or {}
    check_reference(context.lm, context.reference, names)
    encodings = [encode(context.lm, s) for s in context.task.forget]
    if plain := [name for name in names if scorer[name].kind == "batch"]:
        table = score_plain(context, plain, options, progress)
        _note_broken(context, table, encodings)
        yield table
    context.progress = progress
    for name in names:
        kind = scorer[name].kind
        if kind not in {"task", "input"}:
            continue
        progress(name, 0, total)
        try:
            scores = scorer[name].function(context, **options.get(name, {}))
        except UnsupportedError as error:
            if failed is None:
                raise
            failed(name, error)
            continue
        progress(name, total, total)
        table = score_table(encodings, scores, task=context.task.name, scorer=name, step=0, prompt=kind == "input")
        _note_broken(context, table, encodings)
        yield table


def _note_broken(context: TaskContext, table: pd.DataFrame, encodings: list[Encoding]) -> None:
    """Note the samples with a score that is not finite, where the scorer itself has not said why.

    A first token that nothing predicts has no score in any model.
    """
    unpredicted = table["sample_id"].isin({e.sample.id for e in encodings if e.positions(UNPREDICTED)})
    broken = ~np.isfinite(table["score"].to_numpy(dtype=float)) & ~(unpredicted & (table["position"] == 0))
    for name, sample in table.loc[broken, ["scorer", "sample_id"]].drop_duplicates().itertuples(index=False):
        context.notes.setdefault(name, {}).setdefault("not_available", {}).setdefault(sample, NOT_FINITE)


def score_fixed(
    context: TaskContext, names: Iterable[str], *, options: dict[str, dict[str, Any]] | None = None
) -> pd.DataFrame:
    """The score table of scorers of every kind but "live" over a task's forget answers, in the order of `names`."""
    names = list(names)
    return in_order(list(score_each(context, names, options=options)), names)


def score_plain(
    context: TaskContext,
    names: list[str],
    options: dict[str, dict[str, Any]],
    progress: Progress,
    any_length: bool = False,
) -> pd.DataFrame:
    """`score_samples` of a task's forget answers."""
    return score_samples(
        context.lm, context.task.forget, names, task=context.task.name, reference=context.reference, seed=context.seed,
        batch_size=context.batch_size, options=options, cost=context.cost, progress=progress, any_length=any_length,
    )  # fmt: skip


@torch.no_grad()
def score_samples(
    lm: LanguageModel,
    samples: list[Sample],
    names: Iterable[str],
    *,
    task: str = "",
    reference: LanguageModel | None = None,
    seed: int = 0,
    batch_size: int = 16,
    options: dict[str, dict[str, Any]] | None = None,
    cost: Phase | None = None,
    progress: Progress = silent,
    any_length: bool = False,
) -> pd.DataFrame:
    """The score table of scorers of kind "batch" over the answer tokens of `samples`.

    `task` is its name, for the table; `options` are keyword arguments by scorer. Progress has the scorers' names, in
    samples. With `any_length` answers longer than the model's context are scored too, by windows; see `models.windows`.
    """
    names, options, cost = list(names), options or {}, cost or Phase()
    check_reference(lm, reference, names)
    functions = {name: scorer[name].function for name in names}
    encodings = [encode(lm, sample, any_length=any_length) for sample in samples]
    what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    parts: dict[str, list[tuple[list[int], list[np.ndarray]]]] = {name: [] for name in names}
    done = 0
    for indices, batch in batches(lm, encodings, batch_size):
        scoring = BatchContext(lm, batch, reference, seed, cost)
        ends = np.cumsum([len(e.answer_positions) for e in batch.encodings])[:-1]
        for name, function in functions.items():
            values = function(scoring, **options.get(name, {})).detach().double().cpu().numpy()
            parts[name].append((indices, np.split(values, ends)))
        done += len(indices)
        progress(what, done, len(samples))
    tables = [score_table(encodings, in_sample_order(parts[n]), task=task, scorer=n, step=0) for n in names]
    return pd.concat(tables, ignore_index=True)
