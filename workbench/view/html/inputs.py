"""What a notebook hands to a view: a score table or its file, and samples as a task, a list or a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UserError
from workbench.scorers import checked_scores, read_scores
from workbench.tasks import Sample, Task

Samples = Mapping[Any, Any] | Iterable[Sample] | Task
COLUMNS = ("sample_id", "position", "token", "start", "end", "scorer", "score")


def as_texts(samples: Samples) -> dict[Any, tuple[str, str]]:
    """Sample id -> (question, answer).

    Args:
        samples: such a mapping, one of id -> `Sample`, samples, or a task, whose forget set it then is.

    Raises:
        UserError: it is something else.
    """
    if isinstance(samples, Task):
        samples = samples.forget
    if isinstance(samples, Mapping):
        texts = {name: _pair(value) for name, value in samples.items()}
    else:
        each: list[Any] = list(samples) if isinstance(samples, Iterable) else [samples]
        texts = {sample.id if isinstance(sample, Sample) else None: _pair(sample) for sample in each}
    if None in texts.values():
        raise UserError("samples must be a task, its samples, or a mapping of sample id -> (question, answer)")
    return {name: pair for name, pair in texts.items() if pair}


def _pair(value: Any) -> tuple[str, str] | None:
    """Question and answer, or None where it is neither a sample nor such a pair."""
    if isinstance(value, Sample):
        return value.question, value.answer
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(text, str) for text in value):
        return value[0], value[1]
    return None


def as_scores(scores: pd.DataFrame | Path | str) -> pd.DataFrame:
    """A score table, read where its file is named.

    Raises:
        UserError: it is neither, lacks a column that views need, or one is of another kind.
    """
    if isinstance(scores, Path | str):
        return read_scores(Path(scores))
    if not isinstance(scores, pd.DataFrame):
        kind = type(scores).__name__
        raise UserError(f"scores must be a score table or its file, not {kind}; a run is shown by TokenView.of_run")
    return checked_scores(scores, COLUMNS)
