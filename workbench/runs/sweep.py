"""Many runs: a grid of objectives, token weights and seeds, here or on a Ray cluster, in one table.

A run's directory is named by its configuration, so the same sweep, started again, repeats nothing that is finished and
goes on with what is not. If a worker dies, another one resumes its run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UserError, check_known, is_missing
from workbench.files import writable, write_table
from workbench.objectives import objective
from workbench.progress import Progress, silent
from workbench.runs.attack_files import attacks_of, most_comes_back
from workbench.runs.config import Config
from workbench.runs.directory import METRICS, RunDirectory, is_run
from workbench.runs.execution import resume, start
from workbench.runs.loading import check_rows, check_weights
from workbench.runs.places import place_of
from workbench.runs.records import Damaged
from workbench.runs.scheduler import ATTEMPTS, WorkerDied, Workers
from workbench.runs.stopping import Stopped
from workbench.tasks import Task
from workbench.unlearning import Settings

ENGINES = ("local", "ray")


def grid(
    base: Config,
    objectives: Sequence[str],
    weights: Sequence[str],
    seeds: Sequence[int],
    settings: Callable[[str, str], Settings] | None = None,
) -> list[Config]:
    """A configuration for each objective, token weights and seed; everything else is `base`'s.

    The weights are names, or score tables or saved scorers. `settings` returns the settings of a pair of objective and
    weights; by default they are those of the objective's authors, and `base`'s for the rest.
    """
    configs = []
    for name, chosen, seed in itertools.product(objectives, weights, seeds):
        authors = base.settings.replace(**objective[name].settings)
        numbers = settings(name, chosen) if settings else authors
        configs.append(base.replace(objective=name, weights=chosen, settings=numbers.replace(seed=seed)))
    return configs


def directory_of(config: Config, root: Path) -> Path:
    """The directory of a run of a sweep: `<objective>-<weights>-s<seed>-<hash of the whole configuration>`."""
    return place_of(config, f"{config.objective}-{Path(config.weights).stem}-s{config.settings.seed}", root)


def sweep(
    configs: Iterable[Config],
    root: Path,
    *,
    engine: str = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Run all configurations that are not finished yet; the table of all of them is also `ROOT/sweep.parquet`.

    Args:
        configs: see `grid`.
        root: the directory of the runs.
        engine: "local", a pool of processes; or "ray", whose nodes must see `root` under the same path to resume
            each other's runs.
        workers: processes of the local pool.
        address: of the Ray cluster; a new one on this machine by default.
        progress: called with "run", runs done, all runs, and the objective and weights of the one that has just ended.

    Raises:
        UserError: a configuration names what does not exist, or a run has other rows or weights than the files have
            now; nothing is started then.
    """
    check_known("engine", engine, ENGINES)
    jobs = {str(directory_of(config, root.absolute())): config.absolute().as_dict() for config in configs}
    for record in jobs.values():
        Config.from_dict(record).check()
    _check_files(jobs)
    writable(root / "sweep.parquet")
    root.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    for path, row in _on_ray(jobs, address) if engine == "ray" else _on_this_machine(jobs, workers):
        rows[path] = row
        progress("run", len(rows), len(jobs), f"{row['objective']} {row['weights']}")
    table = pd.DataFrame([rows[path] for path in jobs])
    write_table(root / "sweep.parquet", table)
    return table


def _check_files(jobs: dict[str, Any]) -> None:
    """Raise for a run with other weights, or a finished one on other rows, than there are now; a task is read once."""
    tasks: dict[str, Task] = {}
    for path, record in jobs.items():
        with contextlib.suppress(Damaged):  # which the table says
            if not is_run(Path(path)):
                continue
            run, config = RunDirectory(Path(path)), Config.from_dict(record)
            check_weights(run, config)
            if run.finished:
                name = json.dumps(record["task"], sort_keys=True)
                if name not in tasks:
                    tasks[name] = config.task.load(lambda _: None)
                check_rows(run, tasks[name])


def one(job: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The row of a run (its directory, and its configuration), which is started, resumed or only read.

    An error of the user's is in the row, and does not end the sweep.
    """
    folder, config = Path(job[0]), Config.from_dict(job[1])
    try:
        if not is_run(folder):
            start(config, folder)
        elif not (folder / "run.json").exists():
            resume(folder)
    except UserError as error:
        return failed(job, str(error))
    except Stopped:
        pass
    return row_of(config, folder)


def failed(job: tuple[str, dict[str, Any]], reason: str) -> dict[str, Any]:
    """The row of a run that failed."""
    return row_of(Config.from_dict(job[1]), Path(job[0])) | {"status": "failed", "reason": reason}


def row_of(config: Config, path: Path) -> dict[str, Any]:
    """A run as a row of the table: what it was, how it ended, its metrics by phase and set, and its costs."""
    row: dict[str, Any] = {
        "run": str(path),
        "task": config.task.name or str(config.task.forget),
        "model": config.model,
        "objective": config.objective,
        "weights": config.weights,
        "seed": config.settings.seed,
        "status": "failed",
        **dict.fromkeys(("reason", "flops", "seconds", "most_comes_back", "comes_back")),
    }
    if not is_run(path):
        return row
    run = RunDirectory(path)
    row |= {key: value for key, value in run.status().items() if key in ("status", "reason", "flops", "seconds")}
    with contextlib.suppress(UserError):  # damaged, as the status says
        row |= metrics_of(run)
    with contextlib.suppress(UserError):
        if most := most_comes_back(attacks_of(path)):
            row |= {"most_comes_back": most["attack"], "comes_back": most["comes_back"]}
    return row


def metrics_of(run: RunDirectory) -> dict[str, float | None]:
    """The metrics of a run as columns: phase, set and metric; None where one is not available."""
    row = {}
    for phase, sets in (run.json(METRICS) or {}).items():
        for name, metrics in sets.items():
            for key, value in metrics.items():
                row[f"{phase}.{name}.{key}"] = None if is_missing(value) else value
    return row


def _on_this_machine(jobs: dict[str, Any], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as they come, from a pool of processes."""
    with Workers(workers) as pool:
        for job, row in pool.run(one, list(jobs.items())):
            yield job[0], failed(job, str(row)) if isinstance(row, WorkerDied) else row


def _on_ray(jobs: dict[str, Any], address: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as they come; Ray itself restarts a task whose worker or node is gone."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs a package: pip install 'unlearning-workbench[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    try:
        task = ray.remote(max_retries=ATTEMPTS - 1)(one)
        waiting = {task.remote(job): job for job in jobs.items()}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done[0])
            try:
                row = ray.get(done[0])
            except ray.exceptions.RayError as error:
                row = failed(job, f"its worker died {ATTEMPTS} times: {str(error).splitlines()[0]}")
            yield job[0], row
    finally:
        if ours:
            ray.shutdown()
