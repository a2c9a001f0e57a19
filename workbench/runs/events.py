"""The events of a run, one JSON object a line: appended by the run, read on by whoever follows it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.files import cannot_write, parse_json, write_text
from workbench.runs.config import RENAMED_SETS
from workbench.runs.records import Damaged, read, wrong

Event = dict[str, Any]
TAIL = 2**16  # bytes at the end of the file that are read to see how a run stands


class EventLog:
    """`events.jsonl` of a run. Each look reads what was appended since the last one, from the last byte on.

    A last line without its end (the run was killed while writing it) is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._events: list[Event] = []
        self._offset, self._last, self._wrong = 0, b"", ""

    def all(self) -> list[Event]:
        """Every event; `Damaged` where a line is none."""
        events, problem = self.readable()
        if problem:
            raise Damaged(self.path, problem)
        return events

    def readable(self) -> tuple[list[Event], str]:
        """The events that can be read, and what is wrong with the first line that is none; empty for nothing."""
        with self._lock:
            try:
                size = self.path.stat().st_size
            except OSError:
                self._forget()
                return [], ""
            if size < self._offset or not self._fits():
                self._forget()
            if size > self._offset:
                self._read_on()
            return list(self._events), self._wrong

    def _fits(self) -> bool:
        """Whether the file still is the one that was read: a resumed run replaces it by a shorter one."""
        if not self._last:
            return True
        with self.path.open("rb") as stream:
            stream.seek(self._offset - len(self._last))
            return stream.read(len(self._last)) == self._last

    def _read_on(self) -> None:
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        lines = new.split(b"\n")[:-1]
        for line in lines:
            self._offset, self._last = self._offset + len(line) + 1, line + b"\n"
            event, problem = parsed(line)
            if event:
                self._events.append(event)
            self._wrong = self._wrong or (problem and f"line {len(self._events) + 1}: {problem}")

    def latest(self, count: int) -> list[Event]:
        """The last events (`count`, or as many as the end of the file holds), without reading the others.

        Raises:
            Damaged: one of these lines is no event.
        """
        try:
            with self.path.open("rb") as stream:
                start = max(0, stream.seek(0, os.SEEK_END) - TAIL)
                stream.seek(start)
                lines = stream.read().split(b"\n")[1 if start else 0 : -1]
        except FileNotFoundError:
            return []
        if not lines and start:  # one line that is longer than that
            return self.all()[-count:]
        events = []
        for line in lines[-count:] if start else lines:
            event, problem = parsed(line)
            if event is None:
                raise Damaged(self.path, problem)
            events.append(event)
        return events[-count:]

    def append(self, event: Event) -> None:
        """Add an event."""
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def keep(self, step: int) -> list[Event]:
        """Drop events after `step`, and return them; what cannot be read is dropped too."""
        events, _ = self.readable()
        kept = [e for e in events if e["step"] <= step]
        write_text(self.path, "".join(json.dumps(e) + "\n" for e in kept))
        return [e for e in events if e["step"] > step]

    def synced(self) -> str:
        """Write what was appended to the disk; returns the sha256 of the whole file."""
        if not self.path.exists():
            return hashlib.sha256().hexdigest()
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def gap(self, step: int, digest: str | None) -> str:
        """What is missing or changed among the events up to a checkpoint's step; empty for nothing.

        `digest` is the sha256 of the file when the checkpoint was written; None where that is not known.
        """
        events, problem = self.readable()
        steps = [e["step"] for e in events if e["step"] <= step]
        missing = sorted(set(range(1, step + 1)) - set(steps))
        if missing:
            return f"events of {len(missing)} steps are missing, the first of step {missing[0]}"
        if problem or digest is None:
            return problem
        return "" if self._prefix(len(steps)) == digest else "an event is not what was written"

    def _prefix(self, lines: int) -> str:
        """The sha256 of the first lines of the file."""
        content = read(self.path) if self.path.exists() else b""
        return hashlib.sha256(b"".join(line + b"\n" for line in content.split(b"\n")[:lines])).hexdigest()


def parsed(line: bytes) -> tuple[Event | None, str]:
    """The event that a line holds, by the names that probe sets have today; or what is wrong with it."""
    try:
        event = json.loads(line) if b"NaN" in line or b"Infinity" in line else parse_json(line)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({str(error).partition(': line')[0]})"
    if problem := wrong("events.jsonl", event):
        return None, problem
    return (event | {"probe": current_sets(event["probe"])} if "probe" in event else event), ""


def notes_of(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of a run must know, in lines such as "before step 5: cost.json is damaged (...)"."""
    return [f"before step {event['step']}: {note}" for event in events for note in event.get("notes", [])]


def current_sets(metrics: dict[str, Any]) -> dict[str, Any]:
    """A probe's metrics by the names that its sets have today."""
    return {RENAMED_SETS.get(name, name): values for name, values in metrics.items()}
