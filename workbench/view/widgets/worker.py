"""Work beside the kernel: one job at a time in a thread that ends with it, and a newer job in an older one's place."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.errors import UserError, one_line
from workbench.evals import Stopped

Job = Callable[[Callable[[], bool]], None]


class Worker:
    """Runs the newest job that it was given. While there is none there is no thread.

    Args:
        failed: called in the thread with one line, where a job that was not stopped has failed.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._change = threading.Condition()
        self._waiting: Job | None = None
        self._stop = threading.Event()  # of the job that runs; each has its own
        self._thread: threading.Thread | None = None
        self.closed = False

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._thread is not None

    def submit(self, job: Job) -> None:
        """Run a job, which is called with a function that says whether it is to end; stop the one that runs."""
        with self._change:
            if self.closed:
                return
            self._waiting = job
            self._stop.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="workbench widget", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Let the job that runs end, and forget the one that waits."""
        with self._change:
            self._waiting = None
            self._stop.set()

    def close(self) -> None:
        """The same, and take no more jobs."""
        self.closed = True
        self.stop()

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until there is nothing to do; False where there still is after so many seconds."""
        with self._change:
            return self._change.wait_for(lambda: self._thread is None, seconds)

    def _work(self) -> None:
        while True:
            with self._change:
                job, self._waiting = self._waiting, None
                if job is None:
                    self._thread = None
                    self._change.notify_all()
                    return
                stop = self._stop = threading.Event()
            try:
                job(stop.is_set)
            except Stopped:
                continue
            except Exception as error:  # raised in a thread it would not be seen
                if not stop.is_set():
                    line = one_line(error)
                    self._failed(line if isinstance(error, UserError) else f"{type(error).__name__}: {line}")
