"""Many runs: a grid of objectives, token weights and seeds, here or on a Ray cluster, in one table.

A run's directory is named by its configuration, so that the same sweep, started again, repeats nothing that is finished
and goes on with what is not. A worker that dies takes nothing with it: its run is resumed by another.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UserError, unknown
from workbench.files import write_table
from workbench.objectives import objective
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory, is_run
from workbench.runs.execution import Stopped, resume, start
from workbench.unlearning import Settings

ATTEMPTS = 3  # times a run is begun whose workers die
ENGINES = ("local", "ray")


def grid(
    base: Config,
    objectives: Sequence[str],
    weights: Sequence[str],
    seeds: Sequence[int],
    settings: Callable[[str, str], Settings] | None = None,
) -> list[Config]:
    """A configuration for each objective, token weights and seed.

    Args:
        base: everything else.
        objectives: by name.
        weights: by name, or score tables or saved scorers.
        seeds: of the runs.
        settings: the numbers of a pair of objective and weights; by default those that the objective's authors set, and
            `base`'s for the rest.
    """
    found = []
    for name, chosen, seed in itertools.product(objectives, weights, seeds):
        authors = replace(base.settings, **objective[name].settings)
        numbers = settings(name, chosen) if settings else authors
        found.append(replace(base, objective=name, weights=chosen, settings=replace(numbers, seed=seed)))
    return found


def directory_of(config: Config, root: Path) -> Path:
    """Where a run of a sweep lies: `<objective>-<weights>-s<seed>-<hash of the whole configuration>`."""
    digest = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode()).hexdigest()
    return root / f"{config.objective}-{Path(config.weights).stem}-s{config.settings.seed}-{digest[:8]}"


def sweep(
    configs: Iterable[Config],
    root: Path,
    *,
    engine: str = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
) -> pd.DataFrame:
    """Run all configurations that are not finished yet; the table of all of them is also `ROOT/sweep.parquet`.

    Args:
        configs: see `grid`.
        root: the directory of the runs.
        engine: "local", a pool of processes; or "ray", whose nodes must see `root` under the same path to resume
            each other's runs.
        workers: processes of the local pool.
        address: of the Ray cluster; a new one on this machine by default.
        progress: called with runs done, all runs, and the row of the one that has just ended.

    Raises:
        UserError: a configuration names what does not exist; nothing is started then.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, list(ENGINES))
    jobs = {str(directory_of(config, root.absolute())): config.as_dict() for config in configs}
    for record in jobs.values():
        Config.from_dict(record).check()
    root.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    rounds = _on_ray(jobs, address) if engine == "ray" else _on_this_machine(jobs, workers)
    for path, row in rounds:
        rows[path] = row
        progress(len(rows), len(jobs), row)
    table = pd.DataFrame([rows[path] for path in jobs])
    write_table(root / "sweep.parquet", table)
    return table


def one(path: str, record: dict[str, Any]) -> dict[str, Any]:
    """Start, resume or only read a run; returns its row. What is wrong with it stands in the row."""
    config, folder = Config.from_dict(record), Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # which says that it has been begun
        if not is_run(folder):
            start(config, folder)
        elif not (folder / "run.json").exists():
            resume(folder)
    except UserError as error:
        return row_of(config, folder) | {"status": "failed", "reason": str(error)}
    except Stopped:
        pass
    return row_of(config, folder)


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
        "reason": None,
        "flops": None,
        "seconds": None,
    }
    if not is_run(path):
        return row
    run = RunDirectory(path)
    row |= {key: value for key, value in run.status().items() if key in ("status", "reason", "flops", "seconds")}
    for phase, sets in (run.json("metrics.json") or {}).items():
        for name, metrics in sets.items():
            for key, value in metrics.items():
                row[f"{phase}.{name}.{key}"] = None if isinstance(value, dict) else value
    return row


def _on_this_machine(jobs: dict[str, Any], workers: int) -> Iterable[tuple[str, dict[str, Any]]]:
    """Rows as they come. A killed worker breaks its pool: a new one goes on with what is missing."""
    begun = dict.fromkeys(jobs, 0)
    missing = dict(jobs)
    while missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_worker, initargs=(workers,)) as pool:
            waiting = {pool.submit(one, path, record): path for path, record in missing.items()}
            try:
                for future in as_completed(waiting):
                    path = waiting[future]
                    row = future.result()
                    del missing[path]
                    yield path, row
            except BrokenProcessPool:
                pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for path in missing:
            begun[path] += Path(path).exists()
        lost = [path for path in missing if begun[path] >= ATTEMPTS]
        for path in lost:
            config = Config.from_dict(missing.pop(path))
            reason = f"its worker died {ATTEMPTS} times, as it does when memory runs out"
            yield path, row_of(config, Path(path)) | {"status": "failed", "reason": reason}


def _worker(workers: int) -> None:
    """Give a worker its share of the cores."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def _on_ray(jobs: dict[str, Any], address: str | None) -> Iterable[tuple[str, dict[str, Any]]]:
    """Rows as they come; Ray begins a task again whose worker or node is gone."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs a package: pip install 'unlearning-workbench[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    try:
        task = ray.remote(max_retries=ATTEMPTS - 1)(one)
        waiting = {task.remote(path, record): path for path, record in jobs.items()}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            path = waiting.pop(done[0])
            try:
                row = ray.get(done[0])
            except ray.exceptions.RayError as error:
                reason = f"its worker died {ATTEMPTS} times: {str(error).splitlines()[0]}"
                row = row_of(Config.from_dict(jobs[path]), Path(path)) | {"status": "failed", "reason": reason}
            yield path, row
    finally:
        if ours:
            ray.shutdown()
