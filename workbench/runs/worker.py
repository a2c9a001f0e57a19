"""The process of a job: it waits for its turn, then continues its run.

The queue is the directory of runs itself: a job looks at the `job.json` of the others, since no process lives long
enough to hold a pool (see `scheduler`). It imports little before its turn, so that a long queue takes little memory.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench.errors import UserError
from workbench.runs.lock import alive, job_of, run_lock
from workbench.runs.stopping import STOP, Stopped

LOOK_EVERY = 0.3  # seconds between two looks at the queue
PATIENCE = 5.0  # seconds to wait until the process that started this one has recorded it


def wait_for_turn(path: Path, at_once: int, write_status: Callable[..., None]) -> bool:
    """Wait until fewer than `at_once` other runs are going on, none waits longer, and there is memory for it.

    Returns:
        False if the run was stopped in the meantime.
    """
    mine = job_of(path)
    since = mine.get("since", time.time())
    facts = {name: mine.get(name) for name in ("needs_bytes", "device")}
    write_status("queued", since=since, **facts)
    while not (path / STOP).exists():
        with FileLock(path.parent / ".turns"):
            others = [p.parent for p in path.parent.glob("*/job.json") if p.parent != path]
            jobs = [job for other in others if alive(other, job := job_of(other))]
            before = sum(job.get("state") == "queued" and job.get("since", since) < since for job in jobs)
            running = sum(job.get("state") != "queued" for job in jobs)
            if running + before < at_once and (not running or room_for(facts)):
                write_status("running")
                return True
        time.sleep(LOOK_EVERY)
    return False


def room_for(facts: dict[str, Any]) -> bool:
    """Whether the memory that a run will need is free now."""
    if not facts.get("needs_bytes"):
        return True
    import torch

    from workbench.models import free_memory

    return free_memory(torch.device(facts["device"] or "cpu")) >= facts["needs_bytes"]


def work(path: Path, at_once: int, lock_file: int | None = None) -> int:
    """Continue a run when it is its turn, under the lock that was handed over; returns the exit status."""
    deadline = time.monotonic() + PATIENCE
    while job_of(path).get("pid") != os.getpid() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        with run_lock(path, lock_file) as lock:
            if not wait_for_turn(path, at_once, lock):
                (path / STOP).unlink(missing_ok=True)
                lock("stopped", "stopped while it waited for its turn")
                return 130
            from workbench.runs.execution import resume

            try:
                resume(path, lock=lock)
            except Stopped as stopped:
                print(f"workbench: {stopped}", file=sys.stderr)
                return 130
    except UserError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(work(Path(sys.argv[1]).absolute(), int(sys.argv[2]), *map(int, sys.argv[3:])))
