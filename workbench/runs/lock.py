"""Which process works on a run: the one that holds the lock on its directory. `job.json` says who that is, and why.

The lock is the operating system's. It goes with the process, however that ends, and no clock, copied directory or
reused process number can fake it. A process that starts another one for a run hands the open lock over to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.files import parse_json, write_json

try:
    import fcntl
except ImportError:  # Windows: its lock cannot be handed over, so there is a gap while the other process starts
    fcntl = None  # type: ignore[assignment]

JOB, LOCK = "job.json", ".lock"
SILENT = 600.0  # seconds without a write after which a run on another machine counts as gone
PATIENCE = 0.5  # seconds to wait for a lock: whoever only looks whether it is held has it for microseconds
GOING = ("queued", "running")
ENDED = ("stopped", "failed", "finished")


class Lock:
    """The lock of a run's directory, held by this process.

    Attributes:
        path: the run's directory.
        file: the descriptor of the open lock file, for a process that takes the lock over.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path, self.file, self.since = path, file, time.time()

    def __call__(self, state: str, reason: str | None = None, **facts: Any) -> None:
        """Update `job.json`; a full disk must not hide why a run ended."""
        with contextlib.suppress(UserError, FileNotFoundError):
            record = {"since": self.since, "state": state, "reason": reason, **facts}
            write_json(self.path / JOB, whois(os.getpid()) | {"lock": _place(self.path)} | record)


@contextlib.contextmanager
def run_lock(path: Path, inherited: int | None = None) -> Iterator[Lock]:
    """Lock a run for this process, or go on with the lock that the process before left open for it.

    `inherited` is the descriptor that was handed over; one of something else is not used.

    Raises:
        UserError: another process has the lock; the message says which.
    """
    try:
        file = inherited if inherited is not None and _names(inherited, path) else _acquire(path)
    except OSError as error:
        why = f"cannot write {path / LOCK}: {error.strerror or error}; make room or choose another"
        raise UserError(why) from error
    if file is None:
        raise UserError(f"{path} is in use by {holder(job_of(path))}; wait for it, or stop it")
    try:
        yield Lock(path, file)
    finally:
        os.close(file)  # not unlocked: a process that took it over goes on holding it


def _acquire(path: Path) -> int | None:
    """The descriptor of the lock file, locked; None where another process holds it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _locked(file, shared=False) and _names(file, path):  # it may be of a directory that was just removed
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)


def _locked(file: int, *, shared: bool) -> bool:
    """Lock an open file without waiting; False where another process has it."""
    try:
        if fcntl is None:
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _names(file: int, path: Path) -> bool:
    """Whether a descriptor is that of the lock file of a directory."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file), os.stat(path / LOCK))
    return False


def _place(path: Path) -> int | None:
    """The lock file's number, which a copy of the directory does not share."""
    with contextlib.suppress(OSError):
        return os.stat(path / LOCK).st_ino
    return None


def held(path: Path) -> bool:
    """Whether a process of this machine holds the lock; looking at it disturbs nobody."""
    try:
        file = os.open(path / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(file, shared=True)
    except OSError:
        return False
    finally:
        os.close(file)


def whois(pid: int) -> dict[str, Any]:
    """A process of this machine, so that people can find it."""
    import psutil

    return {"pid": pid, "host": socket.gethostname(), "process_started": psutil.Process(pid).create_time()}


def job_of(path: Path) -> dict[str, Any]:
    """The content of `job.json`; empty if there is none, or none that can be read (see `RunDirectory.status`)."""
    try:
        job = parse_json((path / JOB).read_bytes())
    except (OSError, ValueError):
        return {}
    return job if isinstance(job, dict) and not problem(job) else {}


def problem(job: Any) -> str:
    """What is wrong with the content of `job.json`; empty for nothing."""
    kinds = {"pid": int, "host": str, "since": int | float, "state": str}
    kinds |= {"reason": str | None, "needs_bytes": int | None, "device": str | None}
    if not isinstance(job, dict):
        return f"it holds no object but {type(job).__name__}"
    wrong = [name for name, kind in kinds.items() if name in job and not isinstance(job[name], kind)]
    return f"{wrong[0]} is {job[wrong[0]]!r:.40}" if wrong else ""


def holder(job: dict[str, Any]) -> str:
    """A process in words."""
    since = ""
    with contextlib.suppress(OverflowError, OSError, ValueError):
        since = time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(job.get("since", 0)))
    return f"process {job['pid']} on {job.get('host', 'this machine')}{since}" if "pid" in job else "another process"


def alive(path: Path, job: dict[str, Any]) -> bool:
    """Whether a process works on the run, or waits for its turn; `job` is the content of its `job.json`."""
    if job.get("state") in ENDED:
        return False
    if held(path):
        return True
    elsewhere = job.get("state") in GOING and job.get("host", "") not in ("", socket.gethostname())
    if not elsewhere or job.get("lock", -1) != _place(path):  # a copy, or nobody
        return False
    files = [path / JOB, path / "events.jsonl"]  # not every network file system shows the locks of other machines
    return time.time() - max((f.stat().st_mtime for f in files if f.exists()), default=0.0) < SILENT


def started_by(pid: int, path: Path, facts: dict[str, Any]) -> None:
    """Record in `job.json` that a process, which has been started for the run, waits for its turn."""
    queued = {"lock": _place(path), "since": time.time(), "state": "queued", "reason": None}
    with contextlib.suppress(UserError):  # it writes that itself, too
        write_json(path / JOB, whois(pid) | queued | facts)
