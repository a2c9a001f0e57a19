"""The files that attacks on a run leave, as they must be; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs.records import Damaged, read_json, verify

if TYPE_CHECKING:
    import pandas as pd

FOLDER, ANSWERS, SUMMARY = "attacks", "answers.parquet", "summary.json"
AGAIN = "remove the directory"  # what to do with results that cannot be used
COLUMNS = dict.fromkeys(("attack", "model", "sample_id"), "names") | dict.fromkeys(("prompt", "answer", "text"), "text")
COLUMNS |= {"value": "numbers", "hits": "whole numbers"}


def attacks_of(run: Path) -> dict[str, Any]:
    """The attacks of a run's `attacks/summary.json`; empty where it was not attacked.

    Raises:
        Damaged: it is not what an attack writes.
    """
    try:
        return dict(read_results(run / FOLDER)["attacks"])
    except FileNotFoundError:
        return {}


def read_results(folder: Path) -> dict[str, Any]:
    """The content of `attacks/summary.json`.

    Raises:
        Damaged: it is not what an attack writes.
        FileNotFoundError: there is none.
    """
    path = folder / SUMMARY
    try:
        record = dict(read_json(path))
        verify(folder, SUMMARY)
    except Damaged as error:
        raise Damaged(path, error.what, AGAIN) from None
    return record


def read_answers(folder: Path | None) -> pd.DataFrame:
    """The answers that attacks got; empty where there are none.

    Raises:
        Damaged: the file is no such table.
    """
    import pandas as pd

    from workbench.scorers import wrong_columns

    path = Path(folder or ".") / ANSWERS
    if folder is None or not path.exists():
        return pd.DataFrame()
    try:
        verify(folder, ANSWERS)
        table = pd.read_parquet(path)
    except Damaged as error:
        raise Damaged(path, error.what, AGAIN) from None
    except Exception as error:  # whatever pyarrow raises for bytes that mean nothing
        raise Damaged(path, f"not parquet ({type(error).__name__})", AGAIN) from None
    lacking = [name for name in COLUMNS if name not in table]
    if what := f"it lacks {', '.join(lacking)}" if lacking else wrong_columns(table, COLUMNS):
        raise Damaged(path, what, AGAIN)
    return table
