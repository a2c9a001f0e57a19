"""Score samples and tasks with fixed scorers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.cost import Phase
from workbench.errors import UnsupportedError, UserError
from workbench.models import LanguageModel, batches, encode
from workbench.scorers.base import BatchContext, TaskContext, check_reference, plain_scorers, scorer
from workbench.scorers.table import in_order, score_table
from workbench.tasks import Sample


def score_each(
    given: TaskContext,
    names: Iterable[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    failed: Callable[[str, UserError], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """The score table of each scorer over a task's forget answers, as soon as it is finished.

    Plain scorers share one forward pass and come first, together.

    Args:
        given: the task and the models.
        names: scorers by name, of every kind but "live".
        options: keyword arguments by scorer.
        progress: called with what is done, how many samples of it, and of how many.
        failed: told of a scorer that cannot be had here, and the others go on; without it the error is raised.
    """
    names, total = list(names), len(given.task.forget)
    check_reference(given.lm, given.reference, names)
    plain = [name for name in names if name in plain_scorers()]
    if plain:
        what = plain[0] if len(plain) == 1 else f"{plain[0]} and {len(plain) - 1} more"
        yield score_samples(
            given.lm,
            given.task.forget,
            plain,
            task=given.task.name,
            reference=given.reference,
            seed=given.seed,
            batch_size=given.batch_size,
            options=options,
            cost=given.cost,
            progress=lambda done: progress(what, done, total),
        )
    encodings = [encode(given.lm, s) for s in given.task.forget]
    for name in names:
        kind = scorer[name].kind
        if kind not in {"task", "input"}:
            continue
        told = [-1]

        def tell(done: int, name: str = name, told: list[int] = told) -> None:
            if done > told[0]:
                told[0] = done
                progress(name, done, total)

        given.tell = tell
        given.tell(0)
        try:
            scores = scorer[name].function(given, **(options or {}).get(name, {}))
        except UnsupportedError as error:
            if failed is None:
                raise
            failed(name, error)
            continue
        given.tell(total)
        yield score_table(encodings, scores, task=given.task.name, scorer=name, step=0, prompt=kind == "input")


def score_fixed(
    given: TaskContext,
    names: Iterable[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
) -> pd.DataFrame:
    """The score table of scorers of every kind but "live" over a task's forget answers, in the order given."""
    names = list(names)
    return in_order(list(score_each(given, names, options=options)), names)


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
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """The score table of fixed scorers over the answer tokens of `samples`.

    Args:
        lm: the model.
        samples: what to score.
        names: scorers by name.
        task: the task's name, for the table.
        reference: the reference model, for scorers that need one.
        seed: of every random source.
        batch_size: samples a forward pass.
        options: keyword arguments by scorer.
        cost: where the costs go.
        progress: called with the number of samples done.
    """
    names = list(names)
    check_reference(lm, reference, names)
    entries = [scorer[name] for name in names]
    encodings = [encode(lm, sample) for sample in samples]
    found: dict[str, list[np.ndarray]] = {name: [np.empty(0)] * len(samples) for name in names}
    done = 0
    for indices, batch in batches(lm, encodings, batch_size):
        scoring = BatchContext(lm, batch, reference, seed, cost or Phase())
        ends = np.cumsum([len(e.answer_positions) for e in batch.encodings])[:-1]
        for entry in entries:
            values = entry.function(scoring, **(options or {}).get(entry.name, {}))
            for index, part in zip(indices, np.split(values.detach().double().cpu().numpy(), ends), strict=True):
                found[entry.name][index] = part
        done += len(indices)
        progress(done)
    return pd.concat(
        [score_table(encodings, found[name], task=task, scorer=name, step=0) for name in names], ignore_index=True
    )
