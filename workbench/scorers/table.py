"""The score table: one row a token and scorer; the weights made from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import UserError
from workbench.files import read_parquet
from workbench.scorers.columns import COLUMNS, KINDS, NEEDED, opened

if TYPE_CHECKING:
    from workbench.models import Encoding


def wrong_columns(table: pd.DataFrame, kinds: dict[str, str] = KINDS) -> str:
    """The first column that is not of its kind, in words; empty where all are that the table has."""
    of_kind = {
        "text in every row": lambda c: not len(c) or (pd.api.types.infer_dtype(c) == "string" and not c.hasnans),
        "text": lambda c: pd.api.types.infer_dtype(c, skipna=True) in ("string", "empty"),
        "whole numbers": lambda c: pd.api.types.is_integer_dtype(c.dtype) and not c.hasnans,
        "numbers": lambda c: pd.api.types.is_any_real_numeric_dtype(c.dtype),
        "true, false or nothing": lambda c: pd.api.types.infer_dtype(c, skipna=True) in ("boolean", "empty"),
    }
    for name, kind in kinds.items():
        if name in table and not (of_kind[kind](table[name]) or (kind not in NEEDED and table[name].isna().all())):
            return f"its column {name} holds {table[name].dtype}, not {kind}"
    return ""


def with_numbers(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table with NaN in those columns of numbers that hold nothing but None, which is no number."""
    empty = [name for name in columns if name in table and table[name].dtype == object and table[name].isna().all()]
    return table.astype(dict.fromkeys(empty, float))


def checked_scores(table: pd.DataFrame, needed: Sequence[str]) -> pd.DataFrame:
    """A score table that was made in memory.

    Raises:
        UserError: it lacks a needed column, one is of another kind, or a token is scored twice.
    """
    lacking = [name for name in needed if name not in table]
    kinds = {name: kind for name, kind in KINDS.items() if name != "sample_id"}  # ids may be numbers there
    wrong = f"it has no column {', '.join(lacking)}" if lacking else wrong_columns(table, kinds) or _twice(table)
    if wrong:
        raise UserError(f"this is no score table: {wrong} (score_task makes one)")
    return table


def _twice(table: pd.DataFrame) -> str:
    """The first token with two scores of one scorer and step, or an id that is none, in words; empty for neither."""
    of_token = [name for name in ("scorer", "step", "segment", "sample_id", "position") if name in table]
    ids = table["sample_id"]
    if ids.isna().any() or not all(map(pd.api.types.is_hashable, ids)):
        return f"its column sample_id holds {ids.dtype}, not text or whole numbers in every row"
    twice = table[table.duplicated(of_token)] if "position" in table else table[:0]
    for _, row in twice.head(1).iterrows():
        token = f"token {row['position']} of sample {row['sample_id']}"
        return f"'{row['scorer']}' scores {token} twice; give the table of one task and model"
    return ""


def in_order(tables: list[pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """Score tables as one, with the scorers in the order of `names`."""
    parts = {str(name): part for table in tables for name, part in table.groupby("scorer", sort=False)}
    return pd.concat([parts[name] for name in names if name in parts], ignore_index=True)


def read_scores(path: Path) -> pd.DataFrame:
    """A score table from disk; UserError for no such file, not parquet, or columns missing or of another kind."""
    table = opened(path, read_parquet)
    if wrong := wrong_columns(table):
        raise UserError(f"{path}: no score table: {wrong}; make one with `workbench score`")
    return table


def score_table(
    encodings: list[Encoding], scores: list[np.ndarray], *, task: str, scorer: str, step: int, prompt: bool = False
) -> pd.DataFrame:
    """The score table of one scorer: one row a token, in the samples' order.

    `scores` has an array a sample: of the answer's tokens, or with `prompt` of the question's and then the answer's.
    """
    from workbench.models import token_columns, token_values  # load torch, which reading a table does without

    columns = token_columns(encodings, prompt=prompt)
    values = np.concatenate(scores) if prompt else token_values(encodings, scores)
    if len(values) != len(columns["token_id"]):
        raise ValueError(f"scorer '{scorer}' gave {len(values)} scores for {len(columns['token_id'])} tokens")
    return pd.DataFrame({**columns, "task": task, "scorer": scorer, "step": step, "score": values})[COLUMNS]


def weights_from(table: pd.DataFrame, encodings: list[Encoding]) -> list[np.ndarray]:
    """Token weights from the score table of one scorer: negative scores become 0, and the mean over all tokens is 1.

    So uniform scores leave a loss as it is, and every weighting has the same total weight.

    Raises:
        UserError: a sample is missing, its tokens differ, a score is not finite, or no score is positive.
    """
    from workbench.models import predicted_rows

    answers = table[table["segment"] == "answer"]
    by_sample = {key: part.sort_values("position") for key, part in answers.groupby("sample_id", sort=False)}
    weights = []
    for encoding in encodings:
        part = by_sample.get(encoding.sample.id)
        ids = [encoding.ids[p] for p in encoding.answer_positions]
        part = None if part is None else predicted_rows(part, encoding)
        if part is None or list(part["token_id"]) != ids:
            raise UserError(
                f"the score table does not fit sample '{encoding.sample.id}'; score this task with this model"
            )
        weights.append(part["score"].to_numpy(dtype=float))
    everything = np.concatenate(weights)
    if not np.isfinite(everything).all():
        raise UserError("the score table has scores that are not finite; they cannot be weights")
    mean = np.clip(everything, 0, None).mean()
    if mean <= 0:
        raise UserError("no score is above zero, so no token would be forgotten; choose other weights")
    return [np.clip(w, 0, None) / mean for w in weights]
