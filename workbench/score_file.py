"""A score table on disk that grows by a scorer at a time, so that an interruption loses no finished scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from workbench.files import write_table
from workbench.registry import UserError
from workbench.scorers import read_scores
from workbench.scorers.table import in_order


class ScoreFile:
    """The finished scorers of one task and model, written after each.

    Attributes:
        path: the parquet file. Beside the rows it holds, as attributes of the table, `made` (what the scores were made
            from) and `notes` (what is to be said of each scorer's scores, its options among it).
        notes: of the scorers asked for; filled while they are scored.
    """

    def __init__(self, path: Path, made: dict[str, Any], names: list[str], options: dict[str, dict[str, Any]]) -> None:
        self.path, self.made, self.names, self.options = path, made, names, options
        self.notes: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, pd.DataFrame] = {}

    def reopen(self) -> None:
        """Take over the scorers that the file holds already, with the options asked for now.

        Raises:
            UserError: the file was made from something else.
        """
        if not self.path.exists():
            return
        table = read_scores(self.path)
        before = table.attrs.get("made", {})
        other = [key for key, value in self.made.items() if before.get(key) != value]
        if other:
            raise UserError(
                f"{self.path} has another {other[0].replace('_', ' ')}; leave --resume out, or name a new --out"
            )
        notes = table.attrs["notes"]
        for name, part in table.groupby("scorer", sort=False):
            if name in self.names and notes[name]["options"] == self.options.get(str(name), {}):
                self.tables[str(name)], self.notes[str(name)] = part, notes[name]

    def add(self, table: pd.DataFrame) -> None:
        """Add finished scorers and write the file."""
        for name, part in table.groupby("scorer", sort=False):
            self.tables[str(name)] = part
            self.notes.setdefault(str(name), {})["options"] = self.options.get(str(name), {})
        write_table(self.path, self.table)

    @property
    def missing(self) -> list[str]:
        """Scorers asked for and not finished."""
        return [name for name in self.names if name not in self.tables]

    @property
    def table(self) -> pd.DataFrame:
        """All finished scorers, in the order asked for."""
        table = in_order(list(self.tables.values()), self.names)
        table.attrs = {"made": self.made, "notes": {n: self.notes[n] for n in self.names if n in self.tables}}
        return table
