"""A score table on disk, written after each scorer, so that an interruption loses no finished scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UserError
from workbench.files import write_table
from workbench.scorers.table import in_order, read_scores


class ScoreFile:
    """The finished scorers of one task and model.

    Attributes:
        path: the parquet file. Beside the rows it holds, as attributes of the table, `made` (what the scores were made
            from) and `notes` (by scorer: its options and remarks on its scores).
        missing: requested scorers that are not finished.
        notes: remarks on the scores that are made now, by scorer.
    """

    def __init__(self, path: Path, made: dict[str, Any], names: list[str], options: dict[str, dict[str, Any]]) -> None:
        self.path, self.made, self.names, self.options = path, made, names, options
        self.missing = list(names)
        self.notes: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        self._notes: dict[str, dict[str, Any]] = {}

    def reopen(self) -> None:
        """Read what the file holds; a requested scorer counts as finished if it had the same options.

        Raises:
            UserError: the file was made from something else.
        """
        if not self.path.exists():
            return
        table = read_scores(self.path)
        made, noted = table.attrs.get("made"), table.attrs.get("notes")
        before, notes = (each if isinstance(each, dict) else {} for each in (made, noted))
        other = [key for key, value in self.made.items() if before.get(key) != value]
        if other:
            what = other[0].replace("_", " ")
            raise UserError(f"{self.path} has another {what}; leave --resume out, or name a new --out")
        self._notes = {name: note for name, note in notes.items() if isinstance(note, dict)}
        self._tables = {str(name): part for name, part in table.groupby("scorer", sort=False)}
        self.missing = [n for n in self.names if self._notes.get(n, {}).get("options") != self.options.get(n, {})]

    def add(self, table: pd.DataFrame) -> None:
        """Add finished scorers and write the file."""
        for key, part in table.groupby("scorer", sort=False):
            name = str(key)
            self._tables[name] = part
            self._notes[name] = self.notes.get(name, {}) | {"options": self.options.get(name, {})}
            self.missing = [other for other in self.missing if other != name]
        write_table(self.path, self.table)

    @property
    def table(self) -> pd.DataFrame:
        """All scorers of the file: those it held before, then the requested ones, in that order."""
        order = [name for name in self._tables if name not in self.names] + self.names
        table = in_order(list(self._tables.values()), order)
        table.attrs = {"made": self.made, "notes": {name: self._notes[name] for name in order if name in self._notes}}
        return table
