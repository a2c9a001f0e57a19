"""A run in a process of its own: it outlives the notebook that started it, and anyone can follow it from its files."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import models
from workbench.errors import UserError
from workbench.files import cannot_write
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory
from workbench.runs.events import EventLog
from workbench.runs.loading import checked_task
from workbench.runs.lock import Lock, alive, job_of, run_lock, started_by
from workbench.runs.new_directory import begin, check_new, new_directory, place
from workbench.runs.scheduler import default_at_once, start_detached
from workbench.runs.stopping import STOP

LOG = "log.txt"
_children: list[subprocess.Popen[bytes]] = []  # polled now and then, so that none that ended stays a zombie


class Job:
    """A run on disk, whichever process works on it: watch it, stop it, resume it, remove it.

    Any number of notebooks and shells may hold a `Job` of the same run; it keeps nothing but the path.
    """

    def __init__(self, path: Path | str) -> None:
        self.directory = RunDirectory(Path(path).absolute())
        self.path = self.directory.path

    def __repr__(self) -> str:
        status = self.status()
        reason = f" ({status['reason']})" if status["reason"] else ""
        return f"{self.path.name}: {status['status']}{reason}, step {status['step']} of {status['steps']}"

    @property
    def alive(self) -> bool:
        """Whether a process works on the run, or waits for its turn."""
        _children[:] = [child for child in _children if child.poll() is None]
        return alive(self.path, job_of(self.path))

    def status(self) -> dict[str, Any]:
        """See `RunDirectory.status`."""
        _children[:] = [child for child in _children if child.poll() is None]
        return self.directory.status()

    def log(self, lines: int = 20) -> str:
        """The last lines that the process wrote."""
        path = self.path / LOG
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])

    def follow(self, every: float = 0.2) -> Iterator[dict[str, Any]]:
        """All events from the first on, each as soon as it is written, until the process has ended."""
        seen, log = 0, EventLog(self.path / "events.jsonl")
        while True:
            going = self.alive  # before reading: so the last events are read after the process has ended
            events = log.all()
            seen = min(seen, len(events))  # fewer where it was resumed from an earlier checkpoint
            yield from events[seen:]
            seen = len(events)
            if not going:
                return
            time.sleep(every)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the process has ended, at most `timeout` seconds, and return the status."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.alive and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.1)
        return self.status()

    def stop(self, timeout: float = 120.0) -> dict[str, Any]:
        """Stop the run: it ends its step and writes a checkpoint. Returns its status after that.

        Raises:
            UserError: no process works on it, or it has not stopped in time (and still will).
        """
        if not self.alive:
            raise UserError(f"{self.path} is not running: {self.status()['status']}")
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise cannot_write(self.path / STOP, error) from error
        status = self.wait(timeout)
        if self.alive:
            raise UserError(f"{self.path} has not stopped within {timeout:.0f} s; it will after its step: {self!r}")
        return status

    def resume(self, *, at_once: int | None = None) -> Job:
        """Resume the run in a new process; UserError where it is finished, a process has it, or it cannot be read."""
        if self.directory.finished:
            raise UserError(f"{self.path} is finished; there is nothing to resume")
        with run_lock(self.path) as lock:
            _spawn(lock, self.directory.read_config(), at_once or default_at_once())
        return self

    def remove(self) -> None:
        """Delete the run's directory; UserError while a process works on it."""
        with run_lock(self.path):
            try:
                shutil.rmtree(self.path)
            except OSError as error:
                raise UserError(f"cannot remove {error.filename or self.path}: {error.strerror or error}") from error


def start(config: Config, path: Path | str | None = None, *, at_once: int | None = None) -> Job:
    """Start a run in a process and a session of its own, by default in a new directory under `runs/`; return at once.

    Of the runs in the same parent directory `at_once` go on at once, each with its share of the cores; others wait. By
    default it is one where there is a GPU, else one for every two cores.

    Raises:
        UserError: a name in the configuration is wrong; nothing is written then. Later errors (a text too long, memory)
            become the run's status and reason.
    """
    path, config = place(config, path).absolute(), config.absolute()
    check_new(path, config.weights)
    config.check()
    checked_task(config)
    with new_directory(path, config.weights) as lock:
        begin(path, config)
        _spawn(lock, config, at_once or default_at_once())
    return Job(path)


def _spawn(lock: Lock, config: Config, at_once: int) -> None:
    """Start the process, hand the lock over to it, and record in `job.json` that it waits."""
    path = lock.path
    (path / STOP).unlink(missing_ok=True)
    facts = {"needs_bytes": memory_needed(config), "device": config.device or models.default_device()}
    words = ("workbench.runs.worker", str(path), str(at_once), str(lock.file))
    try:
        child = start_detached(*words, at_once=at_once, log=path / LOG, keep_open=lock.file)
    except OSError as error:  # no room for the log, or for a process
        raise UserError(f"cannot start a process for {path}: {error.strerror or error}; make room") from error
    _children.append(child)
    started_by(child.pid, path, facts)


def memory_needed(config: Config) -> int | None:
    """Bytes for weights, gradients and AdamW's moments in float32; None where the model's size is not known yet."""
    parameters = models.parameter_count(config.model)
    return None if parameters is None else parameters * (16 if config.settings.train == "all" else 6)
