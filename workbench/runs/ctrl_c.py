"""Ctrl-C (or SIGTERM, as schedulers send it) takes effect at a moment of our choosing: after a step, or after loading.

Python raises KeyboardInterrupt wherever it is, and drops it in a finaliser, a weak reference's callback or native code
that clears errors: the command goes on as if nothing had happened. A Ctrl-C during a garbage collection, half a second
with torch and transformers loaded, is raised in whatever that calls. `remembered` and `heed` raise it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_pressed = threading.Event()


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt as usual, and `heed` raises it again where it was dropped.

    A process that ignores Ctrl-C, such as a shell's background job, goes on ignoring it.
    """
    here = threading.current_thread() is threading.main_thread()  # Python hands signals to no other
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(*_: Any) -> None:
        _pressed.set()
        raise KeyboardInterrupt

    _pressed.clear()
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed.clear()


def heed() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed and its own was dropped."""
    if _pressed.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns true after Ctrl-C, so that the step can end first; a second Ctrl-C interrupts."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def handle(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pressed.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block: native libraries interrupted while loading may abort the process."""
    with interruptible() as interrupted:
        yield
    if interrupted():
        raise KeyboardInterrupt
