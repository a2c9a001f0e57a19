"""A run in a process of its own: it outlives the notebook that started it, and is followed from its files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench import models
from workbench.errors import UserError
from workbench.files import cannot_write, write_json
from workbench.runs.config import Config, new_path
from workbench.runs.directory import RunDirectory, check_new
from workbench.runs.lock import JOB, STOP, alive, holder, job_of, run_lock, whois

LOG = "log.txt"
_children: list[subprocess.Popen[bytes]] = []  # asked now and then, so that none that ended stays a zombie


class Job:
    """A run on disk, whoever works on it: what it says, and what can be asked of it.

    Any number of notebooks and shells may hold one for the same run; nothing is kept here but the path.
    """

    def __init__(self, path: Path | str) -> None:
        self.directory = RunDirectory(Path(path).absolute())
        self.path = self.directory.path

    def __repr__(self) -> str:
        found = self.status()
        reason = f" ({found['reason']})" if found["reason"] else ""
        return f"{self.path.name}: {found['status']}{reason}, step {found['step']} of {found['steps']}"

    @property
    def alive(self) -> bool:
        """Whether a process works on it, or waits for its turn to."""
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
        """All events from the first on, each as soon as it is there, until the process has ended."""
        seen = 0
        while True:
            going = self.alive  # asked first: what it wrote before it ended is read after that
            events = self.directory.events()
            if len(events) < seen:  # resumed from an earlier checkpoint
                seen = len(events)
            yield from events[seen:]
            seen = len(events)
            if not going:
                return
            time.sleep(every)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the process has ended, and return the status; after `timeout` seconds the status as it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.alive and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.1)
        return self.status()

    def stop(self, timeout: float = 120.0) -> dict[str, Any]:
        """Ask the run to stop: it ends its step, writes a checkpoint and goes. Returns the status then.

        Raises:
            UserError: nobody works on it, or it has not stopped in time (and still will).
        """
        if not self.alive:
            raise UserError(f"{self.path} is not running: {self.status()['status']}")
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise cannot_write(self.path / STOP, error) from error
        found = self.wait(timeout)
        if self.alive:
            raise UserError(f"{self.path} has not stopped within {timeout:.0f} s; it will after its step: {self!r}")
        return found

    def resume(self, *, at_once: int | None = None) -> Job:
        """Go on with the run in a new process.

        Raises:
            UserError: it is finished, or a process has it.
        """
        if self.directory.json("run.json"):
            raise UserError(f"{self.path} is finished; there is nothing to resume")
        if self.alive:
            raise UserError(f"{self.path} is in use by {holder(job_of(self.path))}; wait for it, or stop it")
        _spawn(self.path, Config.from_dict(self.directory.config), at_once or default_at_once())
        return self

    def remove(self) -> None:
        """Delete the run's directory.

        Raises:
            UserError: a process works on it.
        """
        with run_lock(self.path):
            shutil.rmtree(self.path)


def start(config: Config, path: Path | None = None, *, at_once: int | None = None) -> Job:
    """Start a run in a process of its own, in a session of its own; returns at once.

    Args:
        config: what to run.
        path: the directory; a new one under `runs/` by default.
        at_once: it waits while so many runs go on in the same parent directory, and takes its share of the cores; by
            default one where there is a GPU, else one for every two cores.

    Raises:
        UserError: a name in the configuration is wrong; nothing is written then. What shows later (a text too long,
            memory) is the run's status and reason.
    """
    path = (path or new_path(config)).absolute()
    config.check()
    config.task.load()
    check_new(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    with run_lock(path):
        RunDirectory.create(path, config)
    _spawn(path, config, at_once or default_at_once())
    return Job(path)


def default_at_once() -> int:
    """How many runs this machine does at once."""
    return 1 if torch.cuda.is_available() else max(1, (os.cpu_count() or 2) // 2)


def _spawn(path: Path, config: Config, at_once: int) -> None:
    """Start the process, and say in `job.json` that it waits."""
    (path / STOP).unlink(missing_ok=True)
    command = [sys.executable, "-m", "workbench.runs.worker", str(path), str(at_once)]
    share = str(max(1, (os.cpu_count() or 1) // at_once))  # runs that fight over cores take many times as long
    environment = {"OMP_NUM_THREADS": share, **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    environment["WORKBENCH_STARTED"] = str(time.time())
    with (path / LOG).open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    _children.append(child)
    facts = {"needs_bytes": memory_needed(config), "device": config.device or models.default_device()}
    known = job_of(path)
    if known.get("pid") != child.pid:  # it has not said so itself yet
        queued = {"since": time.time(), "state": "queued", "reason": None}
        write_json(path / JOB, whois(child.pid) | queued | facts)


def memory_needed(config: Config) -> int | None:
    """Bytes for weights, gradients and AdamW's moments in float32; None where the model's size is not known yet."""
    parameters = models.parameter_count(config.model)
    return None if parameters is None else parameters * (16 if config.settings.train == "all" else 6)
