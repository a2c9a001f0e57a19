"""Start or resume a run in this process: check, load, probe, unlearn, probe, write; and record how it ended."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.cost import Ledger
from workbench.errors import UserError, note
from workbench.files import remove_parts
from workbench.models import processes
from workbench.progress import Progress, silent
from workbench.runs.checkpoints import latest_checkpoint
from workbench.runs.config import Config, made_by
from workbench.runs.directory import RunDirectory, is_run
from workbench.runs.loading import checked_task, load_for, load_inputs, located
from workbench.runs.lock import Lock, job_of, run_lock
from workbench.runs.new_directory import begin, check_new, new_directory, place
from workbench.runs.stages import Event, Stages
from workbench.runs.stopping import STOP, Stopped
from workbench.unlearning import Diverged


def start(
    config: Config,
    path: Path | str | None = None,
    *,
    on_step: Callable[[Event], None] | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
) -> RunDirectory:
    """Run a configuration in a new directory: probe, unlearn, probe again, save the model.

    Args:
        config: what to run.
        path: the directory; a new one under `runs/` by default.
        on_step: called with each step's event.
        progress: of the probes: "probe forget", samples done, all samples.
        stop: called before each step; the run stops there if it returns true, and can be resumed.

    Raises:
        UserError: something in the configuration is wrong; nothing is written then.
        Stopped: by Ctrl-C, `stop`, or a file `stop` in the directory.
    """
    ledger, team = _new_ledger(), processes()
    stages = functools.partial(Stages, ledger=ledger, on_step=on_step, progress=progress, stop=stop)
    with ledger.phase("other"):
        path = Path(team.gather(place(config, path))[0])
        config = config.absolute()
        with ledger.phase("loading"):
            if team.main:
                check_new(path, config.weights)
            config.check()
            task, lm = load_inputs(config)
        if not team.main:
            team.wait()
            return stages(config, task, lm, RunDirectory(path)).run()
        with new_directory(path, config.weights) as lock, _outcome(lock, path):
            directory = begin(path, config)
            lock("running")
            team.wait()
            return stages(config, task, lm, directory).run()


def resume(
    path: Path | str,
    *,
    on_step: Callable[[Event], None] | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
    lock: Lock | None = None,
) -> RunDirectory:
    """Continue an unfinished run from its newest checkpoint; the numbers are those of an uninterrupted run.

    Arguments are as in `start`; `lock` is the run's, where this process has it already.

    Raises:
        UserError: the run is finished, another process has it, its configuration is damaged or of another version, or
            the model or data are not those that it began with. Checkpoints, probes and costs that are damaged are made
            again, which is said on standard error and in the next event.
        Stopped: as in `start`.
    """
    directory, team, ledger = RunDirectory(Path(path)), processes(), _new_ledger()
    path = directory.path
    stages = functools.partial(Stages, ledger=ledger, on_step=on_step, progress=progress, stop=stop)
    if not team.main:
        team.wait()
        return _resumed(directory, ledger, stages)
    with ledger.phase("other"), run_lock(path) if lock is None else contextlib.nullcontext(lock) as held:
        if directory.finished:
            raise UserError(f"{path} is finished; there is nothing to resume")
        with _outcome(held, path):
            if job_of(path).get("pid") != os.getpid():  # a stop meant for an earlier process
                (path / STOP).unlink(missing_ok=True)
            held("running")
            remove_parts(path.rglob(".*.part"))
            team.wait()
            return _resumed(directory, ledger, stages)


def carried_out(config: Config, path: Path, **hooks: Any) -> RunDirectory:
    """The finished run of a configuration: started or resumed, with the arguments of `start`, or done before."""
    if not is_run(path):
        return start(config, path, **hooks)
    run = RunDirectory(path)
    return run if run.finished else resume(path, **hooks)


def _resumed(directory: RunDirectory, ledger: Ledger, stages: Callable[..., Stages]) -> RunDirectory:
    config = directory.read_config()
    if (by := made_by(directory.config)) and processes().main:
        text = f"begun by another version{by}; options that were not set have this version's defaults"
        note(f"workbench: {directory.path}: {text}")
    with cpu_threads(directory.config.get("threads")):
        with ledger.phase("loading"), located(config):
            task, lm = checked_task(config), load_for(config)
        return stages(config, task, lm, directory).run()


def _new_ledger() -> Ledger:
    """A ledger that begins with what this process spent before, if it was started for the run alone."""
    ledger = Ledger()
    if os.environ.get("WORKBENCH_STARTED"):
        with ledger.phase("startup") as phase:
            phase.seconds += max(0.0, time.time() - float(os.environ.pop("WORKBENCH_STARTED")))
    return ledger


@contextlib.contextmanager
def _outcome(write_status: Lock, path: Path) -> Iterator[None]:
    """Record in `job.json` how the run ended, whatever ended it."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as error:  # Ctrl-C outside the steps (while probing) can be resumed too
        if not is_run(path):  # its configuration was not written yet
            raise
        stopped = error if isinstance(error, Stopped) else Stopped(path, RunDirectory(path).status()["step"])
        (path / STOP).unlink(missing_ok=True)
        write_status("stopped", str(stopped))
        raise stopped from None
    except Diverged as error:
        error.args = (f"{error}; the last good checkpoint is {latest_checkpoint(path, error.step) or 'not there yet'}",)
        write_status("failed", str(error), step=error.step, samples=error.samples)
        raise
    except Exception as error:
        write_status("failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        raise
    write_status("finished")


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Use so many CPU threads for a while: sums split over another number of threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
