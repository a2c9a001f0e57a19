"""The run directory: everything a run leaves on disk, readable by any process at any moment."""

from __future__ import annotations

import math
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError, missing
from workbench.files import make_folder, parse_json
from workbench.runs import records
from workbench.runs.config import RENAMED_SETS, Config, versions
from workbench.runs.events import EventLog, current_sets
from workbench.runs.lock import GOING, JOB, alive, holder, job_of, problem
from workbench.runs.records import METRICS, Damaged

if TYPE_CHECKING:
    import pandas as pd

COPIED = (".safetensors", ".parquet")  # weights from a file
MARKS = ("events.jsonl", "run.json", "cost.json", JOB)  # of a run whose `config.json` cannot be read
RATED = 10  # steps over which the rate is measured


def is_run(path: Path) -> bool:
    """Whether a directory is a run's: its `config.json` names an objective, which a model's does not.

    Where that cannot be read, the other files of a run tell.
    """
    try:
        record = parse_json((path / "config.json").read_bytes())
    except (OSError, ValueError):
        record = None
    named = isinstance(record, dict) and {"objective", "settings"} <= set(record)
    return named or any(os.path.isfile(path / name) for name in MARKS)  # a name that is too long is no error


def run_at(source: Any) -> RunDirectory | None:
    """The run that is named by its directory or its path; None where this is something else."""
    if isinstance(source, Path | str) and is_run(Path(source)):
        return RunDirectory(Path(source))
    return source if isinstance(source, RunDirectory) else None


class RunDirectory:
    """One run's files; without `run.json` the run is unfinished. Probe sets have today's names, whatever wrote them.

    Every read raises `Damaged`, which is a `UserError`, for a file that is not what a run writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.log = EventLog(self.path / "events.jsonl")
        if not is_run(self.path):
            raise UserError(f"{path} is no run directory (it has no run's config.json); see `workbench runs list`")

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """Make the directory of a new run, if it is not there, and write the configuration."""
        make_folder(path)
        run, weights = cls.__new__(cls), Path(config.weights)
        run.path = path
        if weights.suffix in COPIED:  # so that a resumed run reads what this one began with
            with run.writing(f"weights{weights.suffix}") as aside:
                shutil.copyfile(weights, aside)
        run.write_json("config.json", config.as_dict() | {"versions": versions()})
        return cls(path)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.name

    @property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        config = self.json("config.json")
        if config is None:
            raise Damaged(self.path / "config.json", "it is missing")
        return dict(config)

    def read_config(self) -> Config:
        """The configuration, with its files where they are now; UserError for what this version does not know."""
        return Config.from_dict(self.config, self.path / "config.json").placed(self.path)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A temporary name that becomes a file or folder of the run, whose sha256 the manifest then has."""
        return records.recorded(self.path, name)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run."""
        records.record_json(self.path, name, content)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table of the run."""
        records.record_table(self.path, name, table)

    def json(self, name: str) -> Any:
        """A JSON file of the run; None if it does not exist yet."""
        try:
            content = records.read_json(self.path / name, "suite" if name.startswith("suites/") else name)
        except FileNotFoundError:
            return None
        records.verify(self.path, name)
        if name == METRICS:
            return {phase: current_sets(sets) for phase, sets in content.items()}
        return content

    def table(self, name: str) -> pd.DataFrame | None:
        """A parquet table of the run; None if it does not exist yet."""
        path = self.path / name
        if not path.exists():
            return None
        from workbench.runs.tables import read_table  # loads torch, which the other files of a run do without

        records.verify(self.path, name)
        table = read_table(path)
        if "probe_set" in table:
            for old, new in RENAMED_SETS.items():  # whose samples are named by the set
                table["probe_set"] = table["probe_set"].replace(old, new)
                table["sample_id"] = table["sample_id"].str.replace(rf"^{old}-", f"{new}-", regex=True)
        return table

    def events(self) -> list[dict[str, Any]]:
        """Every event; a torn last line (the run was killed while writing it) is left out."""
        if (self.path / "run.json").exists():
            records.verify(self.path, "events.jsonl")
        return self.log.all()

    def append(self, event: dict[str, Any]) -> None:
        """Add an event."""
        self.log.append(event)

    @property
    def weights(self) -> str:
        """The token weights: the run's copy of a saved scorer or a score table, or a scorer's name."""
        weights = str(self.config["weights"])
        copy = self.path / f"weights{Path(weights).suffix}"
        if copy.suffix in COPIED:
            records.verify(self.path, copy.name)
        return str(copy) if copy.suffix in COPIED else weights

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.json("run.json") is not None

    @property
    def steps(self) -> int:
        """The run's last step: where it ended if it is finished, else where it will end."""
        settings = self.config["settings"]
        return int((self.json("run.json") or settings).get("steps", settings["steps"]))

    def check(self) -> None:
        """Raise where a file is not what a run writes; of tables and of a finished run's model only the sizes."""
        job = self.path / JOB
        if job.exists() and (what := problem(records.read_json(job))):
            raise Damaged(job, what)
        finished, _ = self.finished, self.config
        for name in (METRICS, "cost.json"):
            self.json(name)
        if finished:
            records.verify(self.path, "events.jsonl")
            records.verify(self.path, "", sizes_only=True)

    def status(self) -> dict[str, Any]:
        """The run's `status`: `finished`, `running`, `queued`, `unfinished` (stopped, failed or killed) or `damaged`.

        With its `reason`, steps done and in all, what it has cost so far, and of a running one steps a second and
        seconds left (without the last probes). It reads the last events only, and never raises for a damaged file.
        """
        status: dict[str, Any] = {"run": str(self.path), "status": "damaged", "reason": None, "step": 0, "steps": 0}
        status |= {"steps_per_second": None, "seconds_left": None, "flops": None, "seconds": None}
        try:
            status |= self._spent()
            self.check()
            return status | self._standing(status)
        except UserError as error:
            job = job_of(self.path)
            going = {"status": job.get("state", "running")} if alive(self.path, job) else {}
            return status | {"reason": str(error)} | going

    def _spent(self) -> dict[str, Any]:
        """Steps done and in all, and what they cost."""
        events, cost = self.log.latest(1), self.json("cost.json")
        spent = {name: events[-1].get(f"total_{name}") if events else None for name in ("flops", "seconds")}
        if cost and (not events or self.finished):
            spent = {name: cost["total"][name] for name in spent}
        return {"step": events[-1]["step"] if events else 0, "steps": self.config["settings"]["steps"], **spent}

    def _standing(self, spent: dict[str, Any]) -> dict[str, Any]:
        """How the run stands, and why."""
        record, job = self.json("run.json"), job_of(self.path)
        if record:
            return {"status": record["status"], "reason": record.get("reason")}
        if alive(self.path, job):
            state = job["state"] if job.get("state") in GOING else "running"
            rate = rate_of(self.log.latest(RATED + 1)) if state == "running" else None
            left = (spent["steps"] - spent["step"]) / rate if rate else None
            return {"status": state, "reason": holder(job), "steps_per_second": rate, "seconds_left": left}
        gone = f"its process is gone: {holder(job)}" if job.get("state") in GOING else job.get("reason")
        return {"status": "unfinished", "reason": gone}

    def curve(self) -> pd.DataFrame:
        """Metrics over the run: a row a probe and set, with `step` and the `flops` and `seconds` spent up to it."""
        import pandas as pd

        metrics = self.json(METRICS) or {}
        end = {"flops": math.nan, "seconds": math.nan} | (self.json("cost.json") or {}).get("total", {})
        points: list[tuple[int, Any, float, float]] = [(0, metrics.get("before"), 0.0, 0.0)]
        for e in self.events():
            if "probe" in e and ("after" not in metrics or e["step"] < self.steps):
                points.append((e["step"], e["probe"], e.get("total_flops", math.nan), e.get("total_seconds", math.nan)))
        if "after" in metrics:
            points.append((self.steps, metrics["after"], end["flops"], end["seconds"]))
        rows = [
            {"step": step, "probe_set": name, "flops": flops, "seconds": seconds}
            | {key: value for key, value in values.items() if not isinstance(value, dict)}
            for step, sets, flops, seconds in points if sets for name, values in sets.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)


def rate_of(events: list[dict[str, Any]]) -> float | None:
    """Steps a second over the last steps, including all that happened between them; None before there are two."""
    last = [e["time"] for e in events[-RATED - 1 :] if "time" in e]
    return (len(last) - 1) / (last[-1] - last[0]) if len(last) > 1 and last[-1] > last[0] else None


def list_runs(root: Path = Path("runs")) -> list[RunDirectory]:
    """Every run under `root`, oldest first, unfinished and damaged ones too."""
    return [RunDirectory(path) for path in sorted(root.glob("*")) if path.is_dir() and is_run(path)]


def cost_to_reach(
    curve: pd.DataFrame, probe_set: str, metric: str, level: float, *, below: bool = True
) -> dict[str, Any]:
    """What a run had cost, by its `curve()`, when a metric first was at most a level (forgetting), or else at least.

    Returns:
        `step`, `value`, `flops` and `seconds` of the first probe that reached it, so exact to the steps between two
        probes; else `value` None and the `reason`.
    """
    part = curve[curve["probe_set"] == probe_set] if len(curve) else curve
    if not len(part) or metric not in part or part[metric].isna().all():
        return {**missing(f"the run has no {metric} of the {probe_set} set")}
    reached = part[part[metric] <= level] if below else part[part[metric] >= level]
    if not len(reached):
        best = part[metric].min() if below else part[metric].max()
        return {**missing(f"not reached: the {'lowest' if below else 'highest'} is {best:.3f}")}
    first = reached.iloc[0]
    return {"step": int(first["step"]), "value": float(first[metric])} | {
        name: float(first[name]) for name in ("flops", "seconds")
    }
