"""Progress: a line for each check in the learner's own folder, read again for the page of a class."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from workbench.errors import UserError, one_line, printable
from workbench.files import cannot_write, parse_json, write_text

FILE = "progress.jsonl"
LARGEST = 4_000_000  # bytes of a file: a learner makes about a hundred a check


@dataclass
class Learner:
    """What one file says.

    Attributes:
        name: of the learner, as in the file, or the file's own.
        tries: exercise -> checks until the first right one, that one included.
        solved: exercise -> when.
        last: when the last check was.
        damaged: number of lines that could not be read.
    """

    name: str
    tries: dict[str, int] = field(default_factory=dict)
    solved: dict[str, str] = field(default_factory=dict)
    last: str = ""
    damaged: int = 0


def begin(folder: Path, learner: str) -> Path:
    """Begin a file of progress in a folder, where there is none yet."""
    if not (path := folder / FILE).exists():
        write_text(path, _line({"learner": learner, "time": now()}))
    return path


def record(exercise: str, right: bool, folder: Path | None = None) -> None:
    """Note a check where the folder (the current one by default) keeps progress."""
    path = (folder or Path()) / FILE
    if path.is_file():
        try:
            with path.open("a", encoding="utf-8") as lines:
                lines.write(_line({"exercise": exercise, "right": right, "time": now()}))
        except OSError as error:
            raise cannot_write(path, error) from error


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.fromtimestamp(time.time()).astimezone().isoformat(timespec="seconds")


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def read_progress(path: Path) -> Learner:
    """What a file says, unreadable lines counted; UserError where it cannot be read, or holds no progress."""
    named = path.parent.name if path.name == FILE else path.stem
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: larger than any file of progress")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    learner, read = Learner(printable(named, 60)), 0
    for line in filter(bytes.strip, lines):
        try:
            row = parse_json(line.decode("utf-8"))
            read += _read_row(learner, row)
        except (ValueError, KeyError, TypeError):
            learner.damaged += 1
    if not read:
        raise UserError(f"{path}: no file of progress ({learner.damaged} lines that cannot be read)")
    return learner


def _read_row(learner: Learner, row: Any) -> bool:
    when = datetime.fromisoformat(row["time"]).isoformat(timespec="minutes")
    if "learner" in row:
        learner.name = printable(str(row["learner"]), 60) or learner.name
        return True
    name, right = row["exercise"], row["right"]
    if not isinstance(name, str) or not isinstance(right, bool):
        raise TypeError
    learner.last = when
    if name not in learner.solved:
        learner.tries[name] = learner.tries.get(name, 0) + 1
        if right:
            learner.solved[name] = when
    return True


def read_folder(folder: Path) -> tuple[list[Learner], list[str]]:
    """The learners of a folder, by name, and a line for each file that is wrong.

    Files are `NAME.jsonl`, or `progress.jsonl` in a folder of each learner.

    Raises:
        UserError: there is no such folder, or no file of progress in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one that holds the learners' files ({FILE}, or NAME.jsonl)")
    paths = sorted({*folder.glob("*.jsonl"), *folder.glob(f"*/{FILE}")})
    learners, wrong = [], []
    for path in paths:
        try:
            learners.append(read_progress(path))
        except UserError as error:
            wrong.append(one_line(error))
        else:
            if damaged := learners[-1].damaged:
                wrong.append(printable(f"{path}: {damaged} lines cannot be read and are left out"))
    if not learners:
        raise UserError(wrong[0] if wrong else f"{folder} holds no file of progress ({FILE}, or NAME.jsonl)")
    return sorted(learners, key=lambda each: each.name.casefold()), wrong


def class_page(learners: Sequence[Learner], wrong: Sequence[str]) -> str:
    """The page of a class: who has solved which exercise, when and after how many checks."""
    from workbench.view.course.exercises import exercise
    from workbench.view.html.render import page, render

    specs = dict(exercise.load())
    solved = {name: sum(name in each.solved for each in learners) for name in specs}
    chapters = {chapter: list(names) for chapter, names in groupby(specs, key=lambda name: name[:2])}
    parts: dict[str, Any] = {"learners": learners, "chapters": chapters, "exercises": specs, "solved": solved}
    body = render("course.progress", **parts, wrong=list(wrong))
    return page("Progress of a course", body, subtitle=f"{len(learners)} learners, {len(specs)} exercises")
