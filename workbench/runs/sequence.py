"""Many requests, one after the other: each a run on the model that the one before left; after each, all is probed.

Whatever is killed, the same command goes on: runs from their checkpoints, probes and attacks from what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.errors import UserError
from workbench.files import PART, make_folder, remove_parts
from workbench.models import processes
from workbench.objectives import objective as registered
from workbench.progress import Progress, silent
from workbench.runs.config import Config, versions
from workbench.runs.directory import is_run
from workbench.runs.execution import cpu_threads
from workbench.runs.loading import check_rows, check_weights, checked_task
from workbench.runs.lock import run_lock
from workbench.runs.records import record_json, record_table
from workbench.runs.sequence_files import PLAN, RESULTS, TABLE, SequenceDirectory, is_sequence, request_key
from workbench.runs.sequence_plan import Plan, planned
from workbench.runs.sequence_requests import Following
from workbench.runs.stages import Event
from workbench.tasks import Task, TaskSpec
from workbench.unlearning import Settings


def sequence(
    tasks: Sequence[str | TaskSpec],
    model: str,
    objective: str = "atwu",
    weights: str = "atwu",
    *,
    settings: Settings | None = None,
    seeds: Sequence[int] = (0,),
    rehearse: bool = False,
    scorer: str = "new",
    adapters: str = "stacked",
    attacks: str | Sequence[str] = (),
    attack_options: dict[str, dict[str, Any]] | None = None,
    out: Path | str | None = None,
    progress: Progress = silent,
    on_step: Callable[[Event], None] | None = None,
    **config: Any,
) -> SequenceDirectory:
    """Carry out deletion requests in order, each on the model that the one before left, and probe all after each.

    Args:
        tasks: the requests; each forgets its own forget set and practises on its own retain set.
        model: the model before any request.
        objective: the forget loss by name.
        weights: of tokens, as in `Config`.
        settings: of each request's run; by default those of the objective's authors, and ours for the rest.
        seeds: one sequence each.
        rehearse: each request forgets the earlier forget sets again.
        scorer: "new" for every request, or "carried" on; see `Plan`.
        adapters: of LoRA, "stacked" or "merged" on disk; the numbers are the same.
        attacks: names, or "all", of attacks on the last model; `reference` is their retain-only model.
        attack_options: attack -> its keyword options.
        out: the directory; by default one under `runs/` that is named by all of this, so that the same call finds it.
        progress: called with what is done, with the request in front.
        on_step: called with each step's event.
        config: the other fields of `Config`, such as `reference`, `probe_limit`, `device`.

    Returns:
        The directory, finished: `retention()`, `results()`, `answers(...)`, `run(n)`.

    Raises:
        UserError: what is asked cannot be; it is said before any model is loaded.
        Stopped: by Ctrl-C, or a file `stop` in a run's directory; the same call goes on.
    """
    if unknown_fields := {"task", "scorer"} & set(config):
        raise UserError(f"{unknown_fields.pop()} is no option of a sequence's runs")
    specs = [tasks] if isinstance(tasks, str | TaskSpec) else list(tasks)
    first = TaskSpec(specs[0]) if specs and isinstance(specs[0], str) else specs[0] if specs else TaskSpec()
    chosen = settings or Settings(**registered[objective].settings)
    base = Config(task=first, model=model, objective=objective, weights=weights, settings=chosen, **config)
    options = {"seeds": seeds, "rehearse": rehearse, "scorer": scorer, "adapters": adapters}
    plan = planned(specs, base, **options, attacks=attacks, attack_options=attack_options)  # type: ignore[arg-type]
    return carry_out(plan, Path(out) if out else plan.default_path(), progress=progress, on_step=on_step)


def carry_out(
    plan: Plan, path: Path, *, progress: Progress = silent, on_step: Callable[[Event], None] | None = None
) -> SequenceDirectory:
    """Carry out a plan in a directory, or go on with it; arguments and errors as of `sequence`."""
    if processes().world > 1:
        raise UserError("a sequence runs in one process; start it without torchrun")
    plan.base.check()
    tasks, union = plan.load()
    for spec in plan.tasks:
        checked_task(plan.base.replace(task=spec))
    _check_place(plan, path)
    make_folder(path)
    with run_lock(path):
        remove_parts(part for part in path.rglob(".*.part") if not any(is_run(parent) for parent in part.parents))
        if not is_sequence(path):
            made = {"versions": versions(), "threads": torch.get_num_threads()}
            record_json(path, PLAN, plan.as_dict() | made)
        directory = SequenceDirectory(path)
        _check_runs(plan, tasks, directory)
        if not directory.finished:
            with cpu_threads(directory.plan.get("threads")):
                for seed in plan.seeds:
                    Following(plan, tasks, union, directory, seed, progress, on_step).run()
            _finish(directory)
    return directory


def _check_place(plan: Plan, path: Path) -> None:
    """Raise for a directory that holds something else, or a sequence of another plan."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is no directory; choose another --out")
    if not is_sequence(path):
        if path.is_dir() and any(f.name != ".lock" and not PART.fullmatch(f.name) for f in path.iterdir()):
            raise UserError(f"{path} is not empty; choose another --out")
        return
    held = Plan.from_dict(SequenceDirectory(path).plan, path / PLAN).as_dict()
    for name, value in plan.as_dict().items():
        if held[name] != value:
            raise UserError(f"{path} has a sequence with another {name}; choose another --out, or remove it")


def _check_runs(plan: Plan, tasks: Sequence[Task], directory: SequenceDirectory) -> None:
    """Raise where a request was carried out on other rows, or with other weights, than the files have now."""
    for number in range(1, len(tasks) + 1):
        task = plan.trained_on(tasks, number)
        for seed in plan.seeds:
            if is_run(directory.seed_folder(seed) / request_key(number)):
                run = directory.run(number, seed)
                check_weights(run, plan.base)
                check_rows(run, task)


def _finish(directory: SequenceDirectory) -> None:
    """Write the tables and numbers that follow; `retention.json` last."""
    frames = [directory.retention(name).to_frame() for name in directory.metrics()]
    record_table(directory.path, TABLE, pd.concat(frames, ignore_index=True))
    record_json(directory.path, RESULTS, directory.results())
