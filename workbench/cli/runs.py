"""The command that looks after runs: list, show, follow, stop, resume, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.cli.console import Progress, number, say, table_line
from workbench.cli.options import AtOnce, Background, command, flag, option
from workbench.errors import UserError, is_missing
from workbench.runs import attacks_of, most_comes_back, most_in_words, notes_of, uninterrupted

if TYPE_CHECKING:
    from workbench.runs import Job, RunDirectory


@command
def manage_runs(
    action: Annotated[Literal["list", "show", "stop", "resume", "remove"], typer.Argument(metavar="ACTION")] = "list",
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="needed by every action but list")] = None,
    root: Annotated[Path, option("DIR", "with list: the directory of the runs")] = Path("runs"),
    follow: Annotated[
        bool, flag("--follow", "with show: follow the run until it ends; Ctrl-C stops following only")
    ] = False,
    reach: Annotated[str | None, option("SET.METRIC<=X", "with show: the cost of reaching this level (or >=)")] = None,
    background: Background = False,
    at_once: AtOnce = None,
) -> dict[str, Any]:
    """List runs; show, stop, resume or remove one."""
    if action == "list":
        if run:
            raise UserError(f"`workbench runs list` lists a directory's runs: --root {run}")
        return list_runs(root)
    if not run:
        raise UserError(f"`workbench runs {action}` needs a run; see `workbench runs list`")
    with uninterrupted():
        from workbench.runs import Job
    job = Job(run)
    if action == "stop":
        job.stop()
        say(f"{job!r}; resume it with: workbench runs resume {run}")
        return job.status()
    if action == "remove":
        job.remove()
        say(f"removed {run}")
        return {"removed": str(job.path)}
    if action == "resume":
        return resume(job, background, at_once)
    if follow:
        follow_run(job)
    shown = show_run(job.directory)
    return shown | {"reach": cost_of(job, reach)} if reach else shown


def list_runs(root: Path) -> dict[str, Any]:
    """Every run of a directory, unfinished ones too."""
    from workbench import runs

    if root != Path("runs") and not root.is_dir():
        raise UserError(f"--root {root}: no such directory")
    statuses, problems = [], []
    rows = [["run", "status", "step", "left", "spent", "most comes back"]]
    for directory in runs.list_runs(root):
        s = directory.status()
        try:
            attacks = attacks_of(directory.path)
        except UserError as error:
            attacks = {}
            problems.append(str(error))
        statuses.append(s | {"most_comes_back": most_comes_back(attacks)})
        row = [s["run"], s["status"], f"{s['step']}/{s['steps']}", clock(s["seconds_left"]), clock(s["seconds"])]
        rows.append([*row, most_in_words(attacks)])
    table_line(rows)
    for problem in problems:
        say(problem)
    for s in statuses:
        if s["status"] == "damaged":
            say(s["reason"])
    return {"runs": statuses}


def resume(job: Job, background: bool, at_once: int | None) -> dict[str, Any]:
    """Go on with a run, here or in a process of its own."""
    from workbench.models import processes
    from workbench.runs import resume as resume_run

    if background:
        return job_started(job.resume(at_once=at_once))
    resume_run(job.path, **hooks(job.status()["steps"]))
    return show_run(job.directory) if processes().main else {}


def hooks(steps: int) -> dict[str, Any]:
    """What shows a run's progress, in one of its processes."""
    from workbench.models import processes

    progress = Progress()
    return {"on_step": progress.of_steps(steps), "progress": progress} if processes().main else {}


def job_started(job: Job) -> dict[str, Any]:
    """Print how to look after a run in a process of its own."""
    say(repr(job))
    say(f"follow it with: workbench runs show {job.path} --follow")
    say(f"stop it with: workbench runs stop {job.path}")
    return job.status()


def clock(seconds: float | None) -> str:
    """Seconds as people read them; nothing where they are not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def follow_run(job: Job) -> None:
    """Show a run's progress until its process has ended; Ctrl-C stops looking, not the run."""
    show = Progress().of_steps(job.status()["steps"])
    try:
        for event in job.follow():
            show(event)
    except KeyboardInterrupt:
        say("the run continues")
    finally:
        Progress.end_line()


def show_run(directory: RunDirectory) -> dict[str, Any]:
    """Print how a run stands, what it has cost, and its metrics before and after."""
    directory.check()
    status, metrics = directory.status(), directory.json("metrics.json") or {}
    reason = f" ({status['reason']})" if status["reason"] else ""
    say(f"{status['run']}: {status['status']}{reason}, step {status['step']} of {status['steps']}")
    if status["seconds"] is not None:
        left = f", about {clock(status['seconds_left'])} left" if status["seconds_left"] is not None else ""
        say(f"spent: {clock(status['seconds'])}, {status['flops']:.3g} FLOPs{left}")
    notes = notes_of(directory.events())
    for note in notes:
        say(note)
    if metrics.get("before"):
        from workbench.cli.tables import metric_table

        metric_table({phase: metrics.get(phase, {}) for phase in ("before", "after")})
        if limit := directory.config.get("probe_limit"):
            say(f"probed: at most {limit} answers from each set")
    if attacks := attacks_of(directory.path):
        from workbench.view.html import in_words

        say(f"under attack it still gives: {in_words(attacks)}")
        if most := most_in_words(attacks):
            say(f"most comes back: {most}")
    shown = {"metrics": metrics, "cost": directory.json("cost.json"), "attacks": attacks, "notes": notes}
    return status | shown | {"most_comes_back": most_comes_back(attacks)}


def cost_of(job: Job, text: str) -> dict[str, Any]:
    """What it cost until a metric reached a level; `text` is SET.METRIC<=LEVEL or >=."""
    from workbench.runs import cost_to_reach, level

    goal = level(text, "--reach")
    cost = cost_to_reach(job.directory.curve(), goal.probe_set, goal.metric, goal.level, below=goal.below)
    if is_missing(cost):
        say(f"{text}: not available: {cost['reason']}")
    else:
        spent = f"{clock(cost['seconds'])}, {cost['flops']:.3g} FLOPs"
        say(f"{text}: {number(cost['value'])} at step {cost['step']}, after {spent}")
    return cost
