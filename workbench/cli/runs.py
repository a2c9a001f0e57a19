"""Commands that start runs and look after them: here, or in a process of their own."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.cli.console import Progress, number, progress_hooks, table_line
from workbench.cli.options import spec
from workbench.cli.tables import metric_table
from workbench.errors import UserError
from workbench.models import processes
from workbench.runs import check_trackers, cost_to_reach, execution, jobs, level, settings_for


def unlearn(given: Namespace) -> dict[str, Any]:
    """A run."""
    settings = settings_for(given.set, [given.objective], [given.weights])
    config = runs.Config(
        task=spec(given),
        model=given.model,
        objective=given.objective,
        weights=given.weights,
        settings=settings,
        reference=given.reference,
        prompt=given.prompt,
        device=given.device,
        precision=given.precision,
        probe_limit=given.probe_limit,
        probe_every=given.probe_every,
        stop_at=given.stop_at,
        track=tuple(given.track.split(",")) if given.track else (),
    )
    check_trackers(config.track)
    out = Path(given.out) if given.out else None
    if given.background:
        return started(jobs.start(config, out, at_once=given.at_once))
    directory = execution.start(config, out, **hooks(settings.steps))
    return show_run(directory) if processes().main else {}


def hooks(steps: int) -> dict[str, Any]:
    """Progress of a run, shown by one of its processes."""
    return progress_hooks(steps) if processes().main else {}


def started(job: jobs.Job) -> dict[str, Any]:
    """Say where a run in a process of its own is to be found."""
    print(f"{job!r}\nfollow it with: workbench runs show {job.path} --follow")
    print(f"stop it with: workbench runs stop {job.path}")
    return job.status()


def manage_runs(given: Namespace) -> Any:
    """List runs, or look after one."""
    if given.action == "list":
        return list_runs(given)
    if not given.run:
        raise UserError(f"`workbench runs {given.action}` needs a run; see `workbench runs list`")
    job = jobs.Job(given.run)
    if given.action == "stop":
        job.stop()
        print(f"{job!r}; go on with: workbench runs resume {given.run}")
        return job.status()
    if given.action == "remove":
        job.remove()
        print(f"removed {given.run}")
        return {"removed": str(job.path)}
    if given.action == "resume":
        if given.background:
            return started(job.resume(at_once=given.at_once))
        execution.resume(Path(given.run), **hooks(job.status()["steps"]))
        return show_run(job.directory) if processes().main else {}
    if given.follow:
        follow(job)
    shown = show_run(job.directory)
    return shown | {"reach": reach(job, given.reach)} if given.reach else shown


def list_runs(given: Namespace) -> dict[str, Any]:
    """Every run of a directory, unfinished ones too."""
    if given.run:
        raise UserError(f"`workbench runs list` lists a directory's runs: --root {given.run}")
    if given.root != "runs" and not Path(given.root).is_dir():
        raise UserError(f"--root {given.root}: no such directory")
    found = [directory.status() for directory in runs.list_runs(Path(given.root))]
    rows = [["run", "status", "step", "left", "spent"]]
    for r in found:
        rows.append([r["run"], r["status"], f"{r['step']}/{r['steps']}", clock(r["seconds_left"]), clock(r["seconds"])])
    table_line(rows)
    return {"runs": found}


def clock(seconds: float | None) -> str:
    """Seconds as people read them; nothing where they are not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def follow(job: jobs.Job) -> None:
    """Show a run's progress until its process has ended; Ctrl-C stops looking, not the run."""
    show = Progress().hooks(job.status()["steps"])["on_step"]
    try:
        for event in job.follow():
            show(event)
    except KeyboardInterrupt:
        print("the run goes on")
    finally:
        Progress.end_line()


def show_run(directory: runs.RunDirectory) -> dict[str, Any]:
    """Print how a run stands, what it has cost, and its metrics before and after."""
    status, metrics = directory.status(), directory.json("metrics.json") or {}
    reason = f" ({status['reason']})" if status["reason"] else ""
    print(f"{status['run']}: {status['status']}{reason}, step {status['step']} of {status['steps']}")
    if status["seconds"] is not None:
        left = f", about {clock(status['seconds_left'])} left" if status["seconds_left"] is not None else ""
        print(f"spent: {clock(status['seconds'])}, {status['flops']:.3g} FLOPs{left}")
    if metrics.get("before"):
        metric_table({phase: metrics.get(phase, {}) for phase in ("before", "after")})
        if directory.config.get("probe_limit"):
            print(f"probed: at most {directory.config['probe_limit']} answers a set")
    return status | {"metrics": metrics, "cost": directory.json("cost.json")}


def reach(job: jobs.Job, text: str) -> dict[str, Any]:
    """What it cost until a metric reached a level; `text` is SET.METRIC<=LEVEL or >=."""
    asked = level(text, "--reach")
    cost = cost_to_reach(job.directory.curve(), asked.probe_set, asked.metric, asked.level, below=asked.below)
    if cost["value"] is None:
        print(f"{text}: not available: {cost['reason']}")
    else:
        spent = f"{clock(cost['seconds'])}, {cost['flops']:.3g} FLOPs"
        print(f"{text}: {number(cost['value'])} at step {cost['step']}, after {spent}")
    return cost
