"""Many pieces of work in processes of this machine: its cores are shared out, and what a killed worker left is redone.

Sweeps and benchmarks hand their work to `Workers`. Background runs (`jobs`) share the cores and the start of a process
with them, but not the pool: they outlive the notebook or shell that started them, so no process is left that could hold
their queue. Each waits for its turn by itself, through files (see `worker`).
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from workbench.cores import usable_cores

ATTEMPTS = 3  # times a piece of work is begun whose workers die
T = TypeVar("T")
R = TypeVar("R")


class WorkerDied(Exception):
    """The workers of a piece of work died at every attempt."""

    def __init__(self) -> None:
        super().__init__(f"its worker died {ATTEMPTS} times, as it does when memory runs out")


def cores_each(at_once: int) -> int:
    """The cores of one of so many processes; processes that fight over cores take many times as long."""
    return max(1, usable_cores() // at_once)


def default_at_once() -> int:
    """How many runs this machine does at once: one where there is a GPU, else one for every two cores."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, usable_cores() // 2)


def start_detached(module: str, *arguments: str, at_once: int, log: Path, keep_open: int) -> subprocess.Popen[bytes]:
    """Start a module in a process and a session of its own, with its share of the cores, writing to `log`.

    The open file `keep_open` is open there too, under the same number (not on Windows, which has no such thing).
    """
    files = () if os.name == "nt" else (keep_open,)
    environment = {"OMP_NUM_THREADS": str(cores_each(at_once)), **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    environment["WORKBENCH_STARTED"] = str(time.time())
    command = [sys.executable, "-m", module, *arguments]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=environment,
            pass_fds=files,
        )  # fmt: skip


class Workers:
    """A pool of processes, each with its share of the cores. Not forked, which a GPU would refuse.

    `prepare` is called in each when it starts, with `arguments`.
    """

    def __init__(self, count: int, prepare: Callable[..., None] | None = None, *arguments: Any) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._setup = (cores_each(count), prepare, arguments)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()

    def run(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | WorkerDied]]:
        """Each item with its result, as they come. A killed worker breaks its pool: a new one redoes what was lost."""
        waiting = [(item, 1) for item in items]
        running: dict[Future[R], tuple[T, int]] = {}
        while waiting or running:
            while waiting and len(running) < self.count:  # no more, so that a broken pool loses only what was begun
                future = self._submit(function, waiting[0][0])
                running[future] = waiting.pop(0)
            done = list(wait(running, return_when=FIRST_COMPLETED).done)
            if any(map(_lost, done)):
                self._close()
                done = list(running)
            for future in done:
                item, attempt = running.pop(future)
                if not _lost(future):
                    yield item, future.result()
                elif attempt < ATTEMPTS:
                    waiting.insert(0, (item, attempt + 1))
                else:
                    yield item, WorkerDied()

    def _submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        try:
            return self._executor().submit(function, item)
        except BrokenProcessPool:  # a worker died while it had nothing to do
            self._close()
            return self._executor().submit(function, item)

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=spawn, initializer=_set_up, initargs=self._setup)
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def _lost(future: Future[Any]) -> bool:
    """Whether the worker died before the result was there."""
    return isinstance(future.exception(), BrokenProcessPool)


def _set_up(threads: int, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    """End this worker where its parent is killed: nobody would take its result, and its run would stay locked."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
