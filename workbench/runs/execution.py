"""A run from its configuration to its results, in this process: started, stopped, resumed, and everything written."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.evals import Probed, probe
from workbench.files import cannot_write, write_json, write_table, writing
from workbench.models import (
    ADAPTER,
    LanguageModel,
    Prompt,
    has_adapter,
    load,
    load_adapter,
    processes,
    save_adapter,
    shard,
    whole_weights,
)
from workbench.objectives import objective
from workbench.runs.checkpoints import latest_checkpoint, read_checkpoint, save_checkpoint
from workbench.runs.config import Config, new_path
from workbench.runs.directory import RunDirectory, check_new, cleanup_on_failure
from workbench.runs.interrupts import interruptible
from workbench.runs.lock import STOP, job_of, run_lock
from workbench.runs.stopping import levels, met
from workbench.runs.trackers import Trackers, check_trackers
from workbench.scorers import read_scores, save_scorer, scorer
from workbench.tasks import Task
from workbench.unlearning import Diverged, Run, State, is_live, preferred_answers, unlearn

PROBED_DURING = 32  # samples a set, of probes during a run


class Stopped(Exception):
    """A run was stopped; its directory can be resumed."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step = path, step


def start(config: Config, path: Path | None = None, **hooks: Any) -> RunDirectory:
    """Run a configuration in a new directory: probe, unlearn, probe again, save the model.

    Args:
        config: what to run.
        path: the directory; a new one under `runs/` by default.
        hooks: `on_step(event)`, `on_probe(set, done, total)`, `stop()`.

    Raises:
        UserError: something in the configuration is wrong; nothing is written then.
        Stopped: Ctrl-C, `stop`, or a file `stop` in the directory; it can be resumed.
    """
    ledger = _started()
    with ledger.phase("other"):
        return _start(config, path, ledger, **hooks)


def _start(config: Config, path: Path | None, ledger: Ledger, **hooks: Any) -> RunDirectory:
    team = processes()
    path = team.gather(path or new_path(config))[0]
    with ledger.phase("loading"):
        config.check()
        if team.main:
            check_new(path)
        task = checked_task(config)
        lm = load_for(config)
        if is_live(config.weights):
            options = config.settings.options.get("weights", {})
            scorer[config.weights].function(lm.module.config.hidden_size, **options)  # refuses what cannot work
    if not team.main:
        team.wait()
        return _execute(RunDirectory(path), config, task, lm, ledger, **hooks)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    with run_lock(path) as tell, cleanup_on_failure(path), _told(tell, path), _resumable(path):
        directory = RunDirectory.create(path, config)
        tell("running")
        team.wait()
        return _execute(directory, config, task, lm, ledger, **hooks)


def resume(path: Path, **hooks: Any) -> RunDirectory:
    """Go on with an unfinished run from its newest checkpoint, to the numbers of an undisturbed run.

    Raises:
        UserError: the run is finished, or another process has it.
        Stopped: as `start`.
    """
    directory, team, ledger = RunDirectory(path), processes(), _started()
    if not team.main:
        team.wait()
        return _resumed(directory, ledger, **hooks)
    with ledger.phase("other"), run_lock(path) as tell:
        if directory.json("run.json"):
            raise UserError(f"{path} is finished; there is nothing to resume")
        with _told(tell, path), _resumable(path):
            if job_of(path).get("pid") != os.getpid():  # one that was asked of an earlier process
                (path / STOP).unlink(missing_ok=True)
            tell("running")
            for left in list(path.rglob(".*.part")):  # half-written when the run was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            team.wait()
            return _resumed(directory, ledger, **hooks)


def _resumed(directory: RunDirectory, ledger: Ledger, **hooks: Any) -> RunDirectory:
    config = Config.from_dict(directory.config)
    with _threads(directory.config.get("threads")):
        with ledger.phase("loading"):
            task, lm = checked_task(config), load_for(config)
        return _execute(directory, config, task, lm, ledger, **hooks)


def _started() -> Ledger:
    """A ledger that begins with what this process spent before, where it exists for the run alone."""
    ledger = Ledger()
    if os.environ.get("WORKBENCH_STARTED"):
        with ledger.phase("startup") as phase:
            phase.seconds += max(0.0, time.time() - float(os.environ.pop("WORKBENCH_STARTED")))
    return ledger


def checked_task(config: Config) -> Task:
    """The task of a configuration, after making sure that a run on it can be.

    Raises:
        UserError: what must be forgotten must be kept too, the objective lacks something in the samples, a tracker is
            not here, or a batch cannot be split over the processes.
    """
    check_trackers(config.track)
    task = config.task.load()
    check_processes(config, task)
    preferred_answers(objective[config.objective], task.forget)
    return task


def check_processes(config: Config, task: Task) -> None:
    """Raise for what a run of several processes cannot be, before any work."""
    team, settings = processes(), config.settings
    keeps = settings.alpha > 0 or settings.dual_rate > 0
    for samples in (task.forget, *([task.retain] if keeps else [])):
        team.part(range(min(settings.batch_size, len(samples))))
    if team.sharded and config.weights in scorer and scorer[config.weights].kind in ("task", "input"):
        raise UserError(
            f"a sharded model cannot be scored by '{config.weights}'; score without sharding and give the table: "
            f"workbench score ... --scorer {config.weights} --out FILE.parquet, then --weights FILE.parquet"
        )


def load_for(config: Config) -> LanguageModel:
    """The model a configuration names; where several processes run, on the GPU of this one, or sharded over them."""
    device = config.device
    if processes().sharded:
        return shard(load(config.model, device="cpu", prompt=config.prompt), device, config.precision)  # type: ignore[arg-type]
    if processes().world > 1 and (device or "cuda").startswith("cuda") and torch.cuda.is_available():
        device = f"cuda:{torch.cuda.current_device()}"
    return load(config.model, device=device, precision=config.precision, prompt=config.prompt)  # type: ignore[arg-type]


def load_result(run: RunDirectory, prompt: Prompt | None = None) -> LanguageModel:
    """The model that a run left, in the number format of the run; with LoRA the model below and the run's adapter.

    Raises:
        UserError: the run is not finished.
    """
    if run.json("run.json") is None:
        raise UserError(f"{run.path} is not finished, so it has no model yet; resume it first")
    adapter = run.path / ADAPTER
    source = str(run.config["model"]) if adapter.exists() else str(run.path / "model")
    lm = load(source, precision=run.config["precision"], prompt=prompt)
    return load_adapter(lm, adapter) if adapter.exists() else lm


@contextlib.contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Ctrl-C outside the steps (while probing) is a stop too: what is there can be resumed."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(path, RunDirectory(path).status()["step"]) from None


@contextlib.contextmanager
def _told(tell: Callable[..., None], path: Path) -> Iterator[None]:
    """Writes down how the run ended, whatever ended it."""
    try:
        yield
    except Stopped as stopped:
        (path / STOP).unlink(missing_ok=True)
        tell("stopped", str(stopped))
        raise
    except Diverged as error:
        checkpoint = latest_checkpoint(path)
        error.args = (f"{error}; the last good checkpoint is {checkpoint or 'not there yet'}",)
        tell("failed", str(error), step=error.step, samples=error.samples)
        raise
    except Exception as error:
        tell("failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        raise
    tell("finished")


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many CPU threads for a while: sums split over another number of threads end in other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _execute(
    directory: RunDirectory,
    config: Config,
    task: Task,
    lm: LanguageModel,
    ledger: Ledger,
    on_step: Callable[[dict[str, Any]], None] = lambda event: None,
    on_probe: Callable[[str, int, int], None] = lambda name, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunDirectory:
    main = processes().main
    with ledger.phase("loading"):
        _write_config(directory, task, lm)
    with interruptible() as interrupted, Trackers(config, directory) as trackers:

        def asked() -> bool:
            return interrupted() or (directory.path / STOP).exists()

        def probing(name: str, done: int, total: int) -> None:
            on_probe(name, done, total)
            if asked():
                raise KeyboardInterrupt

        state = _restored(directory, ledger)
        before = _before(directory, config, task, lm, ledger, probing)
        wanted, steps = levels(config.stop_at, "stop_at"), config.settings.steps
        for level in wanted:
            level.check(before.metrics)
        latest = processes().gather(next(reversed(directory.events()), {}))[0]

        def step(event: dict[str, Any]) -> None:
            nonlocal latest
            if config.probe_every and event["step"] % config.probe_every == 0 and event["step"] < steps:
                few = min(config.probe_limit or PROBED_DURING, PROBED_DURING)
                found = probe(lm, task, run=directory.name, step=event["step"], limit=few, ledger=ledger)
                event["probe"] = processes().gather(found.metrics)[0]  # of one of them, so that all end together
            latest = event
            with ledger.phase("tracking"):
                total = ledger.total
                event |= {"time": time.time(), "total_flops": total.flops, "total_seconds": total.seconds}
                if main:
                    directory.append(event)
                trackers.tell(event)
                on_step(event)

        weights = directory.weights
        run = unlearn(
            lm,
            task,
            config.objective,
            read_scores(Path(weights)) if weights.endswith(".parquet") else weights,
            settings=config.settings,
            reference=load(config.reference, **lm.like()) if config.reference else None,
            in_place=True,
            on_step=step,
            on_checkpoint=lambda s: _checkpoint(directory, s, config.settings.keep_checkpoints),
            stop=lambda: processes().any(asked() or stop()),
            reached=lambda: met(wanted, latest.get("probe", {})),
            resume=state,
            ledger=ledger,
        )
        if not run.finished:
            raise Stopped(directory.path, directory.status()["step"])
        _finish(directory, config, task, run, before, probing)
    return directory


def _write_config(directory: RunDirectory, task: Task, lm: LanguageModel) -> None:
    """Add to `config.json` what the machine chose; refuses to go on with another model or other data."""
    hashes = {"model_sha256": lm.fingerprint(), "data_sha256": task.fingerprint}
    for name, value in hashes.items():
        if directory.config.get(name, value) != value:
            raise UserError(
                f"{directory.path}: the {name.split('_')[0]} has changed since the run began; cannot resume"
            )
    record = directory.config | hashes
    record |= {"precision": lm.precision, "prompt": lm.prompt, "device": str(lm.device)}
    record |= {"threads": torch.get_num_threads(), "processes": processes().world}
    if processes().main:
        write_json(directory.path / "config.json", record)


def _restored(directory: RunDirectory, ledger: Ledger) -> State | None:
    """The newest checkpoint's state; adds what the run has cost up to there, and what the steps since then had."""
    checkpoint = latest_checkpoint(directory.path)
    state = read_checkpoint(checkpoint) if checkpoint else None
    known = directory.json("cost.json")
    if processes().main:  # the earlier costs are the main process's
        if state or known:
            ledger.add(state.ledger if state else Ledger.from_dict(known))
        for event in directory.keep_events(state.step if state else 0):
            ledger.add(Ledger({"lost": Phase(1, event["tokens"], event["flops"], event["seconds"])}))
    return replace(state, ledger=ledger) if state else None


def _before(
    directory: RunDirectory,
    config: Config,
    task: Task,
    lm: LanguageModel,
    ledger: Ledger,
    on_probe: Callable[[str, int, int], None],
) -> Probed:
    """The probes before the run: made now, or (in a run that goes on) those made then."""
    tables = [directory.table("probes.parquet"), directory.table("tokens.parquet")]
    metrics = directory.json("metrics.json")
    if metrics and tables[0] is not None and tables[1] is not None:
        rows, tokens = (t[t["phase"] == "before"].reset_index(drop=True) for t in tables if t is not None)
        return Probed(rows, tokens, metrics["before"])
    before = probe(lm, task, run=directory.name, limit=config.probe_limit, ledger=ledger, progress=on_probe)
    if processes().main:
        _write_probes(directory, before)
        write_json(directory.path / "cost.json", ledger.as_dict())
    return before


def _checkpoint(directory: RunDirectory, state: State, keep: int) -> None:
    """Write a checkpoint; its costs are those of all processes."""
    state = replace(state, ledger=together(state.ledger))
    if processes().main:
        save_checkpoint(directory.path, state, keep)
    processes().wait()


def _write_probes(directory: RunDirectory, before: Probed, after: Probed | None = None) -> None:
    both = [before] if after is None else [before, after]
    write_table(directory.path / "probes.parquet", pd.concat([p.rows for p in both], ignore_index=True))
    write_table(directory.path / "tokens.parquet", pd.concat([p.tokens for p in both], ignore_index=True))
    phases = {"before": before.metrics} | ({"after": after.metrics} if after else {})
    write_json(directory.path / "metrics.json", phases)


def _finish(
    directory: RunDirectory,
    config: Config,
    task: Task,
    run: Run,
    before: Probed,
    on_probe: Callable[[str, int, int], None],
) -> None:
    """Probe again and write the results; the model is the last but one, `run.json` the last."""
    after = probe(
        run.lm,
        task,
        run=directory.name,
        step=run.steps,
        phase="after",
        limit=config.probe_limit,
        ledger=run.ledger,
        progress=on_probe,
    )
    weights = None if has_adapter(run.lm) else whole_weights(run.lm)
    if processes().main:
        with run.ledger.phase("saving"):
            _write_probes(directory, before, after)
            write_table(directory.path / "scores.parquet", run.scores)
            if run.scorer is not None:
                with writing(directory.path / "scorer.safetensors") as aside:
                    save_scorer(run.scorer, aside)
            left = ADAPTER if has_adapter(run.lm) else "model"
            shutil.rmtree(directory.path / left, ignore_errors=True)  # of a run killed here
            with writing(directory.path / left) as aside:
                save_adapter(run.lm, aside) if has_adapter(run.lm) else run.lm.save(aside, weights)
    ledger = together(run.ledger)
    if processes().main:
        write_json(directory.path / "cost.json", ledger.as_dict())
        reached = run.steps < config.settings.steps or met(levels(config.stop_at, "stop_at"), after.metrics)
        why = {"reason": f"{'reached' if reached else 'never reached'} {config.stop_at}"} if config.stop_at else {}
        write_json(directory.path / "run.json", {"status": "finished", "steps": run.steps, **why})
        shutil.rmtree(directory.path / "checkpoints", ignore_errors=True)
    processes().wait()


def together(ledger: Ledger) -> Ledger:
    """The costs of all processes: tokens and FLOPs of each, seconds and calls of the main one."""
    if processes().world == 1:
        return ledger
    whole = Ledger.from_dict(ledger.as_dict())
    for other in processes().gather(ledger.as_dict())[1:]:
        for name, phase in Ledger.from_dict(other).phases.items():
            whole.add(Ledger({name: replace(phase, seconds=0.0, calls=0)}))
    return whole
