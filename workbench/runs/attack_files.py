"""The files that attacks on a run leave, as they must be; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs.records import Damaged, read_json

if TYPE_CHECKING:
    import pandas as pd

FOLDER, ANSWERS, SUMMARY = "attacks", "answers.parquet", "summary.json"
AGAIN = "remove the directory"  # what to do with results that cannot be used
KEYS = {"before", "run", "retain_only", "comes_back", "parts", "options"}  # of an attack, at least


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
    record = read_json(path)
    attacks = record.get("attacks") if isinstance(record, dict) else None
    if not isinstance(attacks, dict) or not isinstance(record.get("made_from", {}).get("models"), dict):
        raise Damaged(path, "it lacks attacks or made_from", AGAIN)
    for name, entry in attacks.items():
        if not isinstance(entry, dict) or not set(entry) >= KEYS:
            raise Damaged(path, f"attacks.{name} lacks values", AGAIN)
    return record


def read_answers(folder: Path | None) -> pd.DataFrame:
    """The answers that attacks got; empty where there are none.

    Raises:
        Damaged: the file is no such table.
    """
    import pandas as pd

    path = Path(folder or ".") / ANSWERS
    if folder is None or not path.exists():
        return pd.DataFrame()
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # whatever pyarrow raises for bytes that mean nothing
        raise Damaged(path, f"not parquet ({type(error).__name__})", AGAIN) from None
    if lacks := {"attack", "model", "sample_id", "prompt", "answer", "text", "value", "hits"} - set(table):
        raise Damaged(path, f"it lacks {', '.join(sorted(lacks))}", AGAIN)
    return table
