"""The run directory: everything a run leaves on disk, readable by any process at any moment."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError, missing
from workbench.files import cannot_write, write_json, write_text, writing
from workbench.runs.config import RENAMED_SETS, Config, versions
from workbench.runs.lock import LOCK, alive, holder, job_of

if TYPE_CHECKING:
    import pandas as pd

COPIED = (".safetensors", ".parquet")  # weights from a file
METRICS = "metrics.json"
RATED = 10  # steps over which the rate is measured


def is_run(path: Path) -> bool:
    """Whether a directory is a run's: its `config.json` names an objective, which a model's does not."""
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"objective", "settings"} <= set(record)


def check_new(path: Path) -> None:
    """Raise for a directory that is not empty."""
    if path.is_dir() and any(p.name != LOCK for p in path.iterdir()):
        resume = is_run(path) and not (path / "run.json").exists()
        raise UserError(f"{path} is not empty; choose another --out" + ", or resume it" * resume)


class RunDirectory:
    """One run's files; without `run.json` the run is unfinished. Probe sets have today's names, whatever wrote them."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not is_run(self.path):
            raise UserError(f"{path} is no run directory (it has no run's config.json); see `workbench runs list`")

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """Make the directory and write the configuration; refuses a directory that is not empty."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_new(path)
        except OSError as error:
            raise cannot_write(path, error) from error
        with cleanup_on_failure(path):
            file = Path(config.weights)
            if file.suffix in COPIED:  # so that a resumed run reads what this one began with
                with writing(path / f"weights{file.suffix}") as aside:
                    shutil.copyfile(file, aside)
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

    def read_config(self) -> Config:
        """The configuration; raises UserError where it holds what this version does not know."""
        return Config.from_dict(self.config, self.path / "config.json")

    def json(self, name: str) -> Any:
        """A JSON file of the run; None if it does not exist yet."""
        path = self.path / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return (
            {phase: current_sets(sets) for phase, sets in content.items()} if content and name == METRICS else content
        )

    def table(self, name: str) -> pd.DataFrame | None:
        """A parquet table of the run; None if it does not exist yet."""
        import pandas as pd

        path = self.path / name
        table = pd.read_parquet(path) if path.exists() else None
        if table is not None and "probe_set" in table:
            for old, new in RENAMED_SETS.items():  # whose samples are named by the set
                table["probe_set"] = table["probe_set"].replace(old, new)
                table["sample_id"] = table["sample_id"].str.replace(rf"^{old}-", f"{new}-", regex=True)
        return table

    def events(self) -> list[dict[str, Any]]:
        """Every event; a torn last line (the run was killed while writing it) is left out."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        events = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                break
            events.append(event | {"probe": current_sets(event["probe"])} if "probe" in event else event)
        return events

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
        """The token weights: the run's copy of a saved scorer or a score table, or a scorer's name."""
        weights = str(self.config["weights"])
        copy = self.path / f"weights{Path(weights).suffix}"
        return str(copy) if copy.suffix in COPIED else weights

    @property
    def steps(self) -> int:
        """The run's last step: where it ended if it is finished, else where it will end."""
        return int((self.json("run.json") or self.config["settings"])["steps"])

    def status(self) -> dict[str, Any]:
        """The run's `status`: `finished`, `running`, `queued`, or `unfinished` (stopped, failed or killed).

        With its `reason`, steps done and in all, what it has cost so far, and of a running one steps a second and
        seconds left (without the last probes).
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
        """Metrics over the run: a row a probe and set, with `step` and the `flops` and `seconds` spent up to it."""
        import pandas as pd

        metrics = self.json(METRICS) or {}
        end = {"flops": math.nan, "seconds": math.nan} | (self.json("cost.json") or {}).get("total", {})
        points: list[tuple[int, Any, float, float]] = [(0, metrics.get("before"), 0.0, 0.0)]
        on_the_way = [e for e in self.events() if "probe" in e and ("after" not in metrics or e["step"] < self.steps)]
        points += [(e["step"], e["probe"], e["total_flops"], e["total_seconds"]) for e in on_the_way]
        if "after" in metrics:
            points.append((self.steps, metrics["after"], end["flops"], end["seconds"]))
        rows = [
            {"step": step, "probe_set": name, "flops": flops, "seconds": seconds}
            | {key: value for key, value in values.items() if not isinstance(value, dict)}
            for step, sets, flops, seconds in points if sets for name, values in sets.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)


def current_sets(metrics: dict[str, Any]) -> dict[str, Any]:
    """A probe's metrics by the names that its sets have today."""
    return {RENAMED_SETS.get(name, name): values for name, values in metrics.items()}


def rate_of(events: list[dict[str, Any]]) -> float | None:
    """Steps a second over the last steps, including all that happened between them; None before there are two."""
    last = [e["time"] for e in events[-RATED - 1 :] if "time" in e]
    return (len(last) - 1) / (last[-1] - last[0]) if len(last) > 1 and last[-1] > last[0] else None


@contextlib.contextmanager
def cleanup_on_failure(path: Path) -> Iterator[None]:
    """Remove a run's directory if it fails before its first step: an answer too long, a full disk."""
    try:
        yield
    except UserError:
        if not (path / "events.jsonl").exists() or not (path / "events.jsonl").stat().st_size:
            shutil.rmtree(path)
        raise


def list_runs(root: Path = Path("runs")) -> list[RunDirectory]:
    """Every run under `root`, oldest first, unfinished ones too."""
    return [RunDirectory(path.parent) for path in sorted(root.glob("*/config.json")) if is_run(path.parent)]


def cost_to_reach(
    curve: pd.DataFrame, probe_set: str, metric: str, level: float, *, below: bool = True
) -> dict[str, Any]:
    """What a run had cost when a metric first reached a level.

    Args:
        curve: `RunDirectory.curve()`: metrics by step, with what was spent up to it.
        probe_set: the probed set.
        metric: the metric's name.
        level: what it must reach.
        below: whether it is reached from above (forgetting) or from below.

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
