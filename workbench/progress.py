"""The one signature by which long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is done (such as "probe forget"), how much of it, of how much, and a short note."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` of `what` is done."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Progress that nobody watches."""
