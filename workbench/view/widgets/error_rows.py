"""The rows behind the error browser: an answer's tokens as scores, and the rows that are exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.files import write_text

MOST = 500  # answers of a page: with 4,000 a browser takes a quarter of a minute to open it
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # begin a cell that a spreadsheet would compute


def tokens_of(tokens: pd.DataFrame | None, row: Mapping[str, Any]) -> pd.DataFrame | None:
    """The token rows of an answer before and after; None where they were not recorded."""
    if tokens is None:
        return None
    part = tokens[(tokens["probe_set"] == row["probe_set"]) & (tokens["sample_id"] == row["sample_id"])]
    return part if part["phase"].nunique() == 2 else None


def probabilities(tokens: pd.DataFrame, last: int) -> pd.DataFrame:
    """Token rows as a score table: the probability before the run as step 0, and after it as its last."""
    step = np.where(tokens["phase"] == "after", last, 0)
    return tokens.assign(scorer="probability", step=step, score=np.exp(tokens["logp"].astype(float)))


def write_csv(path: Path, rows: pd.DataFrame) -> Path:
    """Write rows so that a spreadsheet takes no cell for a formula; returns the path."""
    write_text(path, rows.map(_plain).rename(columns=_plain).to_csv(index=False))
    return path


def _plain(cell: Any) -> Any:
    """A cell that a spreadsheet shows as text: one that it would compute begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def written(path: Path, shown: int, total: int) -> str:
    """What an export wrote, in words: the answers that the filters leave, on a page no more than `MOST`."""
    of = f" of {total}" if shown < total else ""
    left = ", those that pass the filters," if shown < total else ""
    if path.suffix == ".html" and shown > MOST:
        return f"{MOST} of {shown} answers{left} written to {path}; CSV and Parquet hold all {shown}"
    return f"{shown}{of} answers{left} written to {path}"
