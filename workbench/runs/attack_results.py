"""What attacks got, on disk: `answers.parquet`, a row an answer, attack and model, and `summary.json`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import Missing, UserError, is_missing, missing
from workbench.evals.attacks import MODELS, summarise
from workbench.files import as_json, make_folder, parse_json, remove_parts, write_json
from workbench.runs.attack_files import AGAIN, ANSWERS, SUMMARY, read_answers, read_results
from workbench.runs.lock import run_lock
from workbench.runs.records import record_json, record_table

PARTS = ("parts", "answers", "seconds")  # of an attack's entry beside its values, by model


def _digest(rows: list[dict[str, Any]]) -> str:
    return hashlib.sha256(as_json(rows).encode()).hexdigest()


@dataclass
class Results:
    """What has been done so far, in memory and, with a directory, on disk."""

    folder: Path | None
    made_from: dict[str, Any]
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path | None, made_from: dict[str, Any]) -> Iterator[Results]:
        """The results in a directory, locked for this process; UserError where they were made from something else."""
        if folder is None:
            yield cls(None, made_from)
            return
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is no directory; choose another name")
        make_folder(folder)
        with run_lock(folder):
            remove_parts(folder.glob(".*.part"))
            results = cls(folder, made_from)
            with contextlib.suppress(FileNotFoundError):
                results._read(read_results(folder))
            yield results

    def _read(self, record: dict[str, Any]) -> None:
        earlier, now = record["made_from"], self.made_from
        for key in ("task", "data_sha256", "limit", "seed"):
            self._same(key, earlier.get(key), now[key])
        for model, digest in now["models"].items():
            self._same(f"{model} model", earlier["models"].get(model, digest), digest)
        now["models"] = earlier["models"] | now["models"]
        self.summary, self.answers = record["attacks"], read_answers(self.folder)

    def _same(self, what: str, earlier: Any, now: Any) -> None:
        if earlier != now:
            change = f"{earlier} before and {now} now" if len(f"{earlier}{now}") < 60 else "another before"
            raise UserError(f"{self.folder} has results with another {what} ({change}); {AGAIN}, or give --out DIR")

    def check_options(self, options: dict[str, dict[str, Any]]) -> None:
        """Raise where an attack was carried out with other options."""
        for name, chosen in options.items():
            for key, value in chosen.items():
                entry = self.summary.get(name, {}).get("options", {})
                self._same(f"{name}.{key}", entry.get(key, value), value)

    def kept(self, name: str, model: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of an attack that a process before this one had not finished; none where they are of something else."""
        if self.folder is None:
            return []
        try:
            record = parse_json((self.folder / f"{name}-{model}.json").read_bytes())
            fits = record["of"] == self._identity(model, options) and record["sha256"] == _digest(record["rows"])
            return list(record["rows"]) if fits else []
        except (OSError, ValueError, TypeError, KeyError):  # not there, or not to be used: they are made again
            return []

    def keep(self, name: str, model: str, options: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """Keep the rows so far of an attack that goes on."""
        if self.folder is not None:
            record = {"of": self._identity(model, options), "sha256": _digest(rows), "rows": rows}
            write_json(self.folder / f"{name}-{model}.json", record)

    def _identity(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        return self.made_from | {"models": self.made_from["models"][model], "options": options}

    def has(self, name: str, model: str) -> bool:
        """Whether an attack on a model is done: its value and its answers are there."""
        entry = self.summary.get(name, {})
        known = all(model in entry.get(key, {}) for key in PARTS)
        if not known or is_missing(entry[model]) or not len(self.answers):
            return False
        return bool(((self.answers["attack"] == name) & (self.answers["model"] == model)).any())

    def add(
        self, name: str, model: str, entry: dict[str, Any] | Missing, rows: pd.DataFrame | None, options: dict[str, Any]
    ) -> None:
        """Add an attack on one model, and write: the answers first, so that a value is never without them."""
        if rows is None and self.has(name, model):  # of an earlier call, which had this model
            return
        results: dict[str, Any] = {}
        for each in MODELS:
            earlier = self.summary.get(name, {})
            if is_missing(value := earlier.get(each)):
                results[each] = missing(value["reason"])
            elif self.has(name, each):
                results[each] = {"value": value} | {key: earlier[key][each] for key in PARTS}
        self.summary[name] = summarise(name, results | {model: entry}, options)
        if rows is not None:
            old = self.answers
            if len(old):
                old = old[(old["attack"] != name) | (old["model"] != model)]
            self.answers = pd.concat([old, rows], ignore_index=True)
        if self.folder is not None:
            if rows is not None:
                record_table(self.folder, ANSWERS, self.answers)
            record_json(self.folder, SUMMARY, {"made_from": self.made_from, "attacks": self.summary})
            (self.folder / f"{name}-{model}.json").unlink(missing_ok=True)
