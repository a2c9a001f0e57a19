"""What was asked and answered by hand, kept with the run: one JSON object a line, appended and never written over."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.files import cannot_write, parse_json, write_text

FILE = "chat.jsonl"
Record = dict[str, Any]
TEXTS = {"turn": ("chat", "question"), "samples": ("chat", "model")}


class ChatHistory:
    """The records of a chat's file: turns, and samples drawn for them. What cannot be written is tried again later.

    Args:
        path: the file; None to keep what is asked in memory only.

    Attributes:
        earlier: the records that were there before.
        own: those that were added here.
        problem: what is wrong with the file, in a line; the lines that are meant stay in it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._unsaved: list[Record] = []
        self.own: list[Record] = []
        self.earlier, self.problem = self._read()

    def _read(self) -> tuple[list[Record], str]:
        if self.path is None or not self.path.exists():
            return [], ""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            return [], f"cannot read {self.path}: {error.strerror}"
        records, wrong = [], []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                record = parsed(line)
                records.append(record) if record else wrong.append(str(number))
        shown = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
        which = "is" if len(wrong) == 1 else "are"
        problem = f"{self.path}: line {shown} {which} not a chat record; ignored here, kept in the file"
        return records, problem if wrong else ""

    def append(self, record: Record) -> None:
        """Add a record, and what could not be written before; UserError where it cannot be, and is kept here."""
        with self._lock:
            self.own.append(record)
            self._unsaved.append(record)
            if self.path is None:
                return
            if not self.path.parent.is_dir():
                raise UserError(f"{self.path.parent} is gone: this chat is kept in memory only; export it")
            try:
                with self.path.open("ab+") as stream:
                    text = "".join(map(as_line, self._unsaved))
                    if stream.tell():  # a line that was torn must not swallow this one
                        stream.seek(-1, 2)
                        text = text if stream.read(1) == b"\n" else f"\n{text}"
                    stream.write(text.encode())
            except OSError as error:
                raise UserError(f"{cannot_write(self.path, error)}. It is kept here until it can be written") from error
            self._unsaved = []

    def export(self, path: Path) -> Path:
        """Write the records that were added here as JSONL."""
        write_text(path, "".join(map(as_line, self.own)))
        return path


def as_line(record: Record) -> str:
    """A record as a line of the file."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def parsed(line: bytes) -> Record | None:
    """The record that a line holds; None where it is none."""
    try:
        record = parse_json(line)
        kind = record["kind"]
        texts = [record[name] for name in TEXTS[kind]]
        texts += (
            [a[name] for a in record["answers"] for name in ("model", "text")] if kind == "turn" else record["texts"]
        )
        return record if isinstance(record["turn"], int) and all(isinstance(text, str) for text in texts) else None
    except (ValueError, TypeError, LookupError):
        return None
