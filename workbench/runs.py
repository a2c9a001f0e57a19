"""The run directory: what a run leaves on disk, readable at any moment, by whoever reads it."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.files import cannot_write, write_json, write_text, writing
from workbench.goals import levels
from workbench.objectives import objective, retain_loss
from workbench.ownership import LOCK, alive, holder, job_of
from workbench.registry import UserError
from workbench.scorers import check_needs, load_scorer, read_scores
from workbench.scorers.weights import from_file, one_scorer
from workbench.settings import Settings
from workbench.tasks import TaskSpec

COPIED = (".safetensors", ".parquet")  # weights that are given as a file
RATED = 10  # steps from which the rate is taken


@dataclass(frozen=True)
class Config:
    """All that names a run: with it, and the same versions, the numbers come out the same.

    Attributes:
        task: what to forget and keep.
        model: model by name or path.
        objective: forget loss by name.
        weights: scorer by name, or the path of a score table or of a saved scorer.
        settings: the numbers.
        reference: model for scorers that need one.
        prompt: "chat" or "plain"; None leaves it to the model.
        device: None for a GPU where there is one.
        precision: None leaves it to the machine.
        probe_limit: probe at most so many samples a set.
        probe_every: steps between two probes during the run, of at most `PROBED_DURING` samples a set; 0: none.
        stop_at: levels such as "forget.fact_accuracy<=0.2,retain.fact_accuracy>=0.9": the run ends, finished, at the
            first of these probes that finds all of them. They are of few answers: those after the run, of all, may say
            otherwise. The learning rate falls as for all its steps.
        track: trackers that are told each step: tensorboard, trackio, wandb, mlflow.
    """

    task: TaskSpec
    model: str
    objective: str = "atwu"
    weights: str = "atwu"
    settings: Settings = field(default_factory=Settings)
    reference: str | None = None
    prompt: str | None = None
    device: str | None = None
    precision: str | None = None
    probe_limit: int | None = None
    probe_every: int = 0
    stop_at: str = ""
    track: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Config:
        """The configuration that `config.json` holds."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        known |= {"track": tuple(known.get("track", ()))}
        return cls(**{**known, "task": TaskSpec(**record["task"]), "settings": Settings(**record["settings"])})

    def as_dict(self) -> dict[str, Any]:
        """The configuration as JSON takes it."""
        return asdict(self)

    def check(self) -> None:
        """Raise for a name that does not exist, before anything is loaded or written."""
        objective[self.objective]
        retain_loss[self.settings.retain_loss]
        if self.probe_limit is not None and self.probe_limit < 1:
            raise UserError(f"probe_limit must be at least 1, not {self.probe_limit}")
        if self.probe_every < 0:
            raise UserError(f"probe_every must be at least 0, not {self.probe_every}")
        if levels(self.stop_at, "stop_at") and not self.probe_every:
            raise UserError(f"stop_at={self.stop_at} is seen by probes during the run: set probe_every (--probe-every)")
        if self.weights.endswith(".parquet"):
            one_scorer(read_scores(Path(self.weights)))
        elif from_file(self.weights):
            load_scorer(Path(self.weights))
        else:
            check_needs([self.weights], self.reference is not None)


def is_run(path: Path) -> bool:
    """Whether a directory is a run's: its `config.json` names an objective (a model's has none)."""
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"objective", "settings"} <= set(record)


def check_new(path: Path) -> None:
    """Raise for a directory that holds something already."""
    if path.is_dir() and any(p.name != LOCK for p in path.iterdir()):
        resume = is_run(path) and not (path / "run.json").exists()
        raise UserError(f"{path} is not empty; choose another --out" + ", or resume it" * resume)


class RunDirectory:
    """One run's files. Without `run.json` the run is unfinished."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not is_run(self.path):
            raise UserError(f"{path} is no run directory (it has no config.json of one); see `workbench runs list`")

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """Make the directory and write the configuration; refuses a directory that holds something."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_new(path)
        except OSError as error:
            raise cannot_write(path, error) from error
        with undone(path):
            given = Path(config.weights)
            if given.suffix in COPIED:  # so that a resumed run reads what this one began with
                with writing(path / f"weights{given.suffix}") as aside:
                    shutil.copyfile(given, aside)
            write_json(path / "config.json", config.as_dict() | {"versions": versions()})
        return cls(path)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.name

    @property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return self.json("config.json")

    def json(self, name: str) -> Any:
        """A JSON file of the run; None where it is not there yet."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def table(self, name: str) -> pd.DataFrame | None:
        """A parquet table of the run; None where it is not there yet."""
        path = self.path / name
        return pd.read_parquet(path) if path.exists() else None

    def events(self) -> list[dict[str, Any]]:
        """Every event; a torn last line (a run killed while writing) is left out."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def append(self, event: dict[str, Any]) -> None:
        """Add an event."""
        path = self.path / "events.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def keep_events(self, step: int) -> list[dict[str, Any]]:
        """Drop events after `step`, and return them."""
        events = self.events()
        kept = [e for e in events if e["step"] <= step]
        write_text(self.path / "events.jsonl", "".join(json.dumps(e) + "\n" for e in kept))
        return [e for e in events if e["step"] > step]

    @property
    def weights(self) -> str:
        """The token weights: the copy of a saved scorer or a score table, or a scorer's name."""
        given = str(self.config["weights"])
        copy = self.path / f"weights{Path(given).suffix}"
        return str(copy) if copy.suffix in COPIED else given

    @property
    def steps(self) -> int:
        """The run's last step: of a finished run the one at which it ended, else the one that it is to come to."""
        return int((self.json("run.json") or self.config["settings"])["steps"])

    def status(self) -> dict[str, Any]:
        """How the run stands: `finished`, `running`, `queued`, or `unfinished` (stopped, failed or killed), and why.

        Steps done, steps in all, steps a second and seconds left of a running one (without the last probes), and what
        it has cost so far.
        """
        record, events, job = self.json("run.json"), self.events(), job_of(self.path)
        steps = self.config["settings"]["steps"]
        status, reason = "unfinished", job.get("reason")
        if record:
            status, reason = record["status"], record.get("reason")
        elif alive(self.path, job):
            status, reason = job["state"], holder(job)
        elif job.get("state") in ("running", "queued"):
            reason = f"its process is gone: {holder(job)}"
        step = events[-1]["step"] if events else 0
        rate = rate_of(events) if status == "running" else None
        spent = {name: events[-1].get(f"total_{name}") if events else None for name in ("flops", "seconds")}
        cost = self.json("cost.json")
        if cost and (record or not events):
            spent = {name: cost["total"][name] for name in spent}
        return {
            "run": str(self.path),
            "status": status,
            "reason": reason,
            "step": step,
            "steps": steps,
            "steps_per_second": rate,
            "seconds_left": (steps - step) / rate if rate else None,
            **spent,
        }

    def curve(self) -> pd.DataFrame:
        """Metrics over the run: a row a probing and set, with `step`, and the `flops` and `seconds` spent up to it."""
        metrics = self.json("metrics.json") or {}
        end = {"flops": math.nan, "seconds": math.nan} | (self.json("cost.json") or {}).get("total", {})
        points: list[tuple[int, Any, float, float]] = [(0, metrics.get("before"), 0.0, 0.0)]
        on_the_way = [e for e in self.events() if "probe" in e and ("after" not in metrics or e["step"] < self.steps)]
        points += [(e["step"], e["probe"], e["total_flops"], e["total_seconds"]) for e in on_the_way]
        if "after" in metrics:
            points.append((self.steps, metrics["after"], end["flops"], end["seconds"]))
        rows = [
            {"step": step, "probe_set": name, "flops": flops, "seconds": seconds}
            | {key: value for key, value in values.items() if not isinstance(value, dict)}
            for step, found, flops, seconds in points if found for name, values in found.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)


def rate_of(events: list[dict[str, Any]]) -> float | None:
    """Steps a second over the last steps, all that happened between them included; None before there are two."""
    last = [e["time"] for e in events[-RATED - 1 :] if "time" in e]
    return (len(last) - 1) / (last[-1] - last[0]) if len(last) > 1 and last[-1] > last[0] else None


@contextlib.contextmanager
def undone(path: Path) -> Iterator[None]:
    """Removes a run's directory where it failed before its first step: an answer too long, a full disk."""
    try:
        yield
    except UserError:
        if not (path / "events.jsonl").exists() or not (path / "events.jsonl").stat().st_size:
            shutil.rmtree(path)
        raise


def versions() -> dict[str, str]:
    """What the numbers depend on besides the configuration."""
    from importlib.metadata import version

    names = ("unlearning-workbench", "torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")
    found = {name: version(name) for name in names}
    head = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    commit = head.stdout.strip() or "not available"
    return found | {"python": platform.python_version(), "machine": platform.machine(), "commit": commit}


def new_path(config: Config, root: Path = Path("runs")) -> Path:
    """`runs/<time>-<objective>-<weights>-<id>`."""
    weights = Path(config.weights).stem
    return root / f"{time.strftime('%Y-%m-%d_%H%M%S')}-{config.objective}-{weights}-{secrets.token_hex(3)}"


def list_runs(root: Path = Path("runs")) -> list[RunDirectory]:
    """Every run under `root`, oldest first, unfinished ones too."""
    return [RunDirectory(path.parent) for path in sorted(root.glob("*/config.json")) if is_run(path.parent)]
