"""The tables of a run as they must be: parquet with the columns that its readers use, each of its kind."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.evals import metric
from workbench.files import parse_json, read_parquet
from workbench.runs.records import Damaged
from workbench.scorers import with_numbers, wrong_columns

NAME, TEXT, WHOLE, NUMBER, FLAG = "text in every row", "text", "whole numbers", "numbers", "true, false or nothing"
ANSWER = {"phase": NAME, "probe_set": NAME, "sample_id": NAME}
TOKEN = {"sample_id": NAME, "position": WHOLE, "token": TEXT, "start": WHOLE, "end": WHOLE}
NEEDED = {
    "probes.parquet": ANSWER | {"prompt": TEXT, "answer": TEXT, "generation": TEXT},
    "tokens.parquet": ANSWER | TOKEN | {"logp": NUMBER, "rank": NUMBER},
    "scores.parquet": TOKEN | {"segment": NAME, "scorer": NAME, "step": WHOLE, "score": NUMBER},
}
OTHER = {"span": FLAG, "alternatives": TEXT, "entropy": NUMBER, "step": WHOLE, "token_id": WHOLE}
ROW = {  # what names a row
    "probes.parquet": ["phase", "probe_set", "sample_id"],
    "tokens.parquet": ["phase", "probe_set", "sample_id", "position"],
    "scores.parquet": ["scorer", "step", "segment", "sample_id", "position"],
}
PHASES = {"before", "after"}


def read_table(path: Path) -> pd.DataFrame:
    """A parquet table of a run; `Damaged` where it is none, a column is missing or wrong, or a row stands twice."""
    try:
        table = read_parquet(path)
        what = wrong_table(path.name, table)
    except Exception as error:  # whatever pyarrow and pandas raise for bytes that mean nothing
        raise Damaged(path, f"not parquet ({type(error).__name__})") from None
    if what:
        raise Damaged(path, what)
    return with_numbers(table, [*metric, "logp", "rank", "score", "entropy"])


def wrong_table(name: str, table: pd.DataFrame, columns: Collection[str] | None = None) -> str:
    """What is wrong with a table of a run, by its file's name; empty for nothing.

    Needed are the `columns`; by default all that its readers use.
    """
    needed = {key: kind for key, kind in NEEDED.get(name, {}).items() if columns is None or key in columns}
    if missing := [column for column in needed if column not in table]:
        return f"it lacks {', '.join(missing)}"
    if what := wrong_columns(table, OTHER | dict.fromkeys(metric, NUMBER) | needed):
        return what
    if "phase" in needed and not set(table["phase"]) <= PHASES:
        return "a phase is neither before nor after"
    if name in ROW and table.duplicated(ROW[name]).any():
        return "a row stands twice"
    if "alternatives" in table and not all(map(_alternatives, table["alternatives"])):
        return "its column alternatives holds no tokens with probabilities"
    return ""


def _alternatives(text: Any) -> bool:
    """Whether a text is the JSON of the most probable tokens, or nothing."""
    if not isinstance(text, str) or not text:
        return True
    try:
        pairs = parse_json(text)
        return all(isinstance(token, str) and 0 <= chance <= 1.0001 for token, chance in pairs)
    except (ValueError, TypeError):
        return False
