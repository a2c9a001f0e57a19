"""The tables of a run as they must be: parquet with the columns that its readers use, each of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.runs.records import Damaged
from workbench.scorers import wrong_columns

if TYPE_CHECKING:
    import pandas as pd

TEXT, WHOLE, NUMBER = "text", "whole numbers", "numbers"
OF_ANSWER = {"phase": TEXT, "probe_set": TEXT, "sample_id": TEXT}
PROBES = OF_ANSWER | {"prompt": TEXT, "answer": TEXT, "generation": TEXT}
TOKENS = OF_ANSWER | {"position": WHOLE, "token": TEXT, "start": WHOLE, "end": WHOLE, "logp": NUMBER}
SCORES = {"sample_id": TEXT, "position": WHOLE, "token": TEXT, "start": WHOLE, "end": WHOLE} | {
    "segment": TEXT, "scorer": TEXT, "step": WHOLE, "score": NUMBER
}  # fmt: skip
NEEDED = {"probes.parquet": PROBES, "tokens.parquet": TOKENS, "scores.parquet": SCORES}
PHASES = {"before", "after"}


def read_table(path: Path) -> pd.DataFrame:
    """A parquet table of a run.

    Raises:
        Damaged: it is not parquet, or a column is missing or of another kind.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except Exception as error:  # whatever pyarrow raises for bytes that mean nothing
        raise Damaged(path, f"not parquet ({type(error).__name__})") from None
    needed = NEEDED.get(path.name, {})
    if missing := [name for name in needed if name not in table]:
        raise Damaged(path, f"it lacks {', '.join(missing)}")
    if what := wrong_columns(table, needed | {"span": "true, false or nothing"}):
        raise Damaged(path, what)
    if "phase" in needed and not set(table["phase"]) <= PHASES:
        raise Damaged(path, "a phase is neither before nor after")
    return table
