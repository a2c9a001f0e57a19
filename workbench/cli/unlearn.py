"""The command that makes a model forget: here, or in a process of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from workbench.cli.options import (
    AtOnce,
    Background,
    ModelOptions,
    ProbeLimit,
    Reference,
    TaskOptions,
    command,
    count,
    option,
    settings,
)
from workbench.runs import uninterrupted


@command
def unlearn(
    task: TaskOptions,
    model: ModelOptions,
    objective: Annotated[str, option("X", "the forget loss")],
    weights: Annotated[str, option("Y", "a scorer's name, a score table, or a saved scorer")],
    reference: Reference = None,
    pairs: Annotated[list[str], settings("e.g. steps=60 lr=3e-4")] = [],  # noqa: B006
    probe_limit: ProbeLimit = None,
    probe_every: Annotated[int | None, count("also probe a few samples every N steps")] = None,
    stop_at: Annotated[
        str, option("SET.METRIC<=X,...", "end the run when a probe finds all of these reached (or >=)")
    ] = "",
    track: Annotated[str, option("A,B", "tensorboard, trackio, wandb, mlflow")] = "",
    out: Annotated[Path | None, option("RUN", "default: a new directory in runs/")] = None,
    background: Background = False,
    at_once: AtOnce = None,
) -> dict[str, Any]:
    """Make a model forget; writes a run directory."""
    with uninterrupted():
        from workbench.cli.runs import hooks, job_started, show_run
        from workbench.models import processes
        from workbench.runs import Config, check_trackers, jobs, settings_for, start
    chosen = settings_for(pairs, [objective], [weights])
    config = Config(
        task=task.spec(),
        **asdict(model),
        objective=objective,
        weights=weights,
        settings=chosen,
        reference=reference,
        probe_limit=probe_limit,
        probe_every=probe_every or 0,
        stop_at=stop_at,
        track=tuple(track.split(",")) if track else (),
    )
    check_trackers(config.track)
    if background:
        return job_started(jobs.start(config, out, at_once=at_once))
    directory = start(config, out, **hooks(chosen.steps))
    return show_run(directory) if processes().main else {}
