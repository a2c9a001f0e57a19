"""Ctrl-C (or SIGTERM, as schedulers send it) at a moment of our choosing: after the step, or after loading.

Python raises KeyboardInterrupt wherever it is, and drops it in a finaliser, a weak reference's callback or native code
that clears errors: the command goes on as if nothing had been asked. A Ctrl-C that comes during a collection of
garbage, half a second with torch and transformers loaded, is raised in what that calls. `remembered` and `heed` raise
it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_asked = threading.Event()


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt as ever, and `heed` raises it again where it was dropped.

    Only where it would be raised: what began with it ignored, as a shell's background jobs do, goes on ignoring it.
    """
    here = threading.current_thread() is threading.main_thread()  # Python hands signals to no other
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(*_: Any) -> None:
        _asked.set()
        raise KeyboardInterrupt

    _asked.clear()
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _asked.clear()


def heed() -> None:
    """KeyboardInterrupt, if Ctrl-C was pressed and its own was dropped."""
    if _asked.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A question that turns true on Ctrl-C, so that the step ends before the run does; a second Ctrl-C interrupts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handle(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end: native libraries may abort the process when interrupted while they are loaded."""
    with interruptible() as asked:
        yield
    if asked():
        raise KeyboardInterrupt
