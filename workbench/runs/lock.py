"""Which process works on a run: one at a time, recorded in `job.json`, and released however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.errors import UserError
from workbench.files import write_json

JOB, LOCK = "job.json", ".lock"
STOP = "stop"  # a file of this name in its directory stops a run after its step
SILENT = 600.0  # seconds without a write after which a run on another machine counts as gone


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[Callable[..., None]]:
    """Lock a run for this process. The body gets `write_status(state, reason)`, which updates `job.json`.

    The lock is the operating system's: it goes with the process, however that ends, so no lock is ever stale.

    Raises:
        UserError: another process has the lock; the message says which.
    """
    try:
        lock = FileLock(path / LOCK, timeout=0).acquire()
    except Timeout:
        raise UserError(f"{path} is in use by {holder(job_of(path))}; wait for it, or stop it") from None
    except OSError as error:
        raise UserError(
            f"cannot write {path / LOCK}: {error.strerror or error}; make room or choose another"
        ) from error
    with lock:
        since = time.time()

        def write_status(state: str, reason: str | None = None, **facts: Any) -> None:
            with contextlib.suppress(UserError, FileNotFoundError):  # a full disk must not hide why the run ended
                write_json(path / JOB, whois(os.getpid()) | {"since": since, "state": state, "reason": reason, **facts})

        yield write_status


def whois(pid: int) -> dict[str, Any]:
    """A process of this machine, so that other processes can identify it."""
    import psutil

    return {"pid": pid, "host": socket.gethostname(), "process_started": psutil.Process(pid).create_time()}


def job_of(path: Path) -> dict[str, Any]:
    """The content of `job.json`; empty if there is none."""
    try:
        job = json.loads((path / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return job if isinstance(job, dict) else {}


def holder(job: dict[str, Any]) -> str:
    """A process in words."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.get("since", 0)))
    return f"process {job['pid']} on {job['host']} since {since}" if "pid" in job else "another process"


def alive(path: Path, job: dict[str, Any]) -> bool:
    """Whether the process that `job.json` names still works on the run."""
    if "pid" not in job or job.get("state") not in ("queued", "running"):
        return False
    if job["host"] != socket.gethostname():
        files = [path / JOB, path / "events.jsonl"]
        return time.time() - max((f.stat().st_mtime for f in files if f.exists()), default=0.0) < SILENT
    import psutil

    try:
        process = psutil.Process(job["pid"])
        return abs(process.create_time() - job["process_started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
