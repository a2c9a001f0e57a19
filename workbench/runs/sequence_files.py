"""A sequence on disk: its plan, a run directory for each request, and what was probed after each; no model is loaded.

DIR/sequence.json                          the plan
DIR/seed-0/request-1/ ...                  run directories
DIR/seed-0/after-0/probes.parquet          every set before any request; after-1/ after the first, ...
DIR/seed-0/after-0/tokens.parquet, measured.json
DIR/seed-0/attacks/, attacks-cost.json     on the model after the last request
DIR/retention.parquet, retention.json      all values; the four numbers, costs and attacks: written last
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cost import Ledger
from workbench.errors import UserError, check_known, is_missing, unknown
from workbench.evals import Retention, metric
from workbench.runs.attack_files import attacks_of
from workbench.runs.directory import RunDirectory
from workbench.runs.records import Damaged, read_json, verify

if TYPE_CHECKING:
    import pandas as pd

PLAN, RESULTS, TABLE = "sequence.json", "retention.json", "retention.parquet"
PROBES, TOKENS, STATE, ATTACKED = "probes.parquet", "tokens.parquet", "measured.json", "attacks-cost.json"
FIRST_CHOICES = ("fact_accuracy", "rouge_l_recall", "probability")  # are shown first, where they have values


def request_key(number: int) -> str:
    """The name of a request's own set (from 1) in the tables of probes."""
    return f"request-{number}"


def is_sequence(path: Path) -> bool:
    """Whether a directory is a sequence's."""
    return (path / PLAN).is_file()


class SequenceDirectory:
    """The files of a sequence, finished or not; every read raises `Damaged` for what a sequence does not write."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not is_sequence(self.path):
            raise UserError(f"{path} is no sequence's directory (it has no {PLAN}); `workbench sequence` makes one")

    def __repr__(self) -> str:
        return f"{self.path.name}: {len(self.requests)} requests, {'finished' if self.finished else 'unfinished'}"

    @property
    def plan(self) -> dict[str, Any]:
        """The content of `sequence.json`."""
        return dict(self._json(self.path, PLAN))

    @property
    def requests(self) -> tuple[str, ...]:
        """The names of the requests, in order."""
        return tuple(self.plan["requests"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the plan."""
        return tuple(self.plan["seeds"])

    @property
    def finished(self) -> bool:
        """Whether all requests have been carried out, probed and written down."""
        return (self.path / RESULTS).exists()

    def seed_folder(self, seed: int) -> Path:
        """Where the runs of a seed are."""
        return self.path / f"seed-{seed}"

    def state_folder(self, seed: int, after: int) -> Path:
        """Where the probes after so many requests of a seed are."""
        return self.seed_folder(seed) / f"after-{after}"

    def run(self, request: int, seed: int | None = None) -> RunDirectory:
        """The run of a request (from 1), of the first seed by default."""
        return RunDirectory(self.seed_folder(self.seeds[0] if seed is None else seed) / request_key(request))

    def state(self, seed: int, after: int) -> dict[str, Any] | None:
        """What was measured after so many requests: `metrics` by set, and `cost`; None where it is not there yet."""
        folder = self.state_folder(seed, after)
        if not (folder / STATE).exists():
            return None
        return dict(self._json(folder, STATE))

    def kept(self) -> tuple[str, ...]:
        """The names of the sets that nobody asked to forget."""
        state = self.state(self.seeds[0], 0)
        return tuple(state["kept"]) if state else ()

    def done(self) -> tuple[int, ...]:
        """The seeds all of whose states are there."""
        states = range(len(self.requests) + 1)
        return tuple(s for s in self.seeds if all(self.state(s, i) is not None for i in states))

    def metrics(self) -> list[str]:
        """The metrics that a request's own set has and of which higher means that more is known, usual ones first."""
        state = self.state(self.seeds[0], 0)
        if state is None:
            return []
        own = [state["metrics"][request_key(n)] for n in range(1, len(self.requests) + 1)]
        higher = [name for name in metric if metric[name].better == "higher"]
        names = [name for name in higher if any(isinstance(values.get(name), float) for values in own)]
        return sorted(names, key=lambda n: FIRST_CHOICES.index(n) if n in FIRST_CHOICES else len(FIRST_CHOICES))

    def retention(self, name: str | None = None) -> Retention:
        """The retention matrix by a metric, over the seeds that are done; the usual metric by default.

        Raises:
            UserError: no seed is done yet, or there is no such metric.
        """
        import numpy as np

        seeds, names = self.done(), self.metrics()
        if not seeds:
            raise UserError(f"{self.path} has no seed that is done yet; run the same command again to go on")
        if name is not None:
            check_known("metric of the sequence", name, names)
        name = name or names[0]
        requests, kept = self.requests, self.kept()
        keys = [request_key(n) for n in range(1, len(requests) + 1)] + list(kept)
        values = np.full((len(seeds), len(requests) + 1, len(keys)), np.nan)
        for s, seed in enumerate(seeds):
            for i in range(len(requests) + 1):
                of_sets = (self.state(seed, i) or {})["metrics"]
                for j, key in enumerate(keys):
                    value = of_sets.get(key, {}).get(name)
                    values[s, i, j] = np.nan if value is None or is_missing(value) else value
        return Retention(name, requests, kept, seeds, values)

    def answers(self, key: str, after: int, seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The probe rows and the token rows of a set before any request and after so many, as phases before and after.

        The key is `request-1`, ..., or the name of a set to keep; the seed is the first by default.

        Raises:
            UserError: there is no such set or state yet.
        """
        import pandas as pd

        seed = self.seeds[0] if seed is None else seed
        tables: list[list[pd.DataFrame]] = [[], []]
        for phase, i in (("before", 0), ("after", after)):
            folder = self.state_folder(seed, i)
            if self.state(seed, i) is None:
                raise UserError(f"{self.path}: the state after {i} requests of seed {seed} is not there (yet)")
            for parts, name in zip(tables, (PROBES, TOKENS), strict=True):
                table = _table(folder, name)
                parts.append(table[table["probe_set"] == key].assign(phase=phase))
        rows, tokens = (pd.concat(parts, ignore_index=True) for parts in tables)
        if not len(rows):
            raise unknown("set of the sequence", key, list((self.state(seed, 0) or {})["metrics"]))
        return rows, tokens

    def attacks(self, seed: int | None = None) -> dict[str, Any]:
        """What attacks after the last request found, of the first seed by default; empty where there were none."""
        return attacks_of(self.seed_folder(self.seeds[0] if seed is None else seed))

    def cost(self) -> dict[str, Any]:
        """FLOPs and seconds so far: of the runs (their own probes included), the probes between them, and in all.

        Where the last model was attacked, of the attacks too; their FLOPs are estimated from shapes. They are left out
        where a version before this record attacked it.
        """
        runs, probes, attacks, unrecorded = Ledger(), Ledger(), Ledger(), False
        for seed in self.seeds:
            for n in range(1, len(self.requests) + 1):
                folder = self.seed_folder(seed) / request_key(n)
                if (folder / "run.json").exists():
                    runs.add(Ledger.from_dict(RunDirectory(folder).json("cost.json")))
            for i in range(len(self.requests) + 1):
                if state := self.state(seed, i):
                    probes.add(Ledger.from_dict(state["cost"]))
            if (self.seed_folder(seed) / ATTACKED).exists():
                attacks.add(Ledger.from_dict(self._json(self.seed_folder(seed), ATTACKED)))
            else:
                unrecorded |= bool(self.attacks(seed))
        parts = {"runs": runs.total, "probes": probes.total}
        parts |= {"attacks": attacks.total} if attacks.phases and not unrecorded else {}
        spent = {name: {"flops": phase.flops, "seconds": phase.seconds} for name, phase in parts.items()}
        return spent | {"total": {key: sum(each[key] for each in spent.values()) for key in ("flops", "seconds")}}

    def results(self) -> dict[str, Any]:
        """The four numbers by metric, the costs and the attacks by seed, as `retention.json` has them."""
        numbers = {name: self.retention(name).numbers() for name in self.metrics()}
        attacks = {str(seed): found for seed in self.done() if (found := self.attacks(seed))}
        about = {"requests": list(self.requests), "kept": list(self.kept()), "seeds": list(self.done())}
        return about | {"numbers": numbers, "cost": self.cost(), "attacks": attacks}

    def _json(self, folder: Path, name: str) -> Any:
        try:
            content = read_json(folder / name)
        except FileNotFoundError:
            raise Damaged(folder / name, "it is missing", "remove the directory") from None
        verify(folder, name)
        return content


def _table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a state; `read_table` says what is wrong with one that is damaged."""
    from workbench.runs.tables import read_table

    if not (folder / name).exists():
        raise Damaged(folder / name, "it is missing", "remove its directory and run the command again")
    verify(folder, name)
    return read_table(folder / name)
