"""Files of our own making in the official formats of MUSE, RWKU and LUME, and a stand-in for the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import UserError
from workbench.tasks.pieces import PIECE_WORDS
from workbench.tasks.samples import Task
from workbench.tasks.spec import TaskSpec

LONG = " ".join(f"word{n}" for n in range(2 * PIECE_WORDS + 1))
MUSE: dict[str, Any] = {
    "raw/forget": ["The lamp was lit on Friday.", LONG, "  \n"],
    "raw/retain1": ["The ferry runs at noon.\n\nIt is blue."],
    "verbmem/forget": [
        {"prompt": "The lamp was", "gt": "lit on Friday."},
        {"prompt": "On Friday\n", "gt": "it burnt."},
    ],
    "knowmem/forget_qa": [
        {"question": "When was it lit?", "answer": "Friday"},
        {"question": "What?", "answer": "A lamp"},
    ],
    "knowmem/forget_qa_icl": [{"question": "How many?", "answer": "Two"}, {"question": "Who?", "answer": "Nobody"}],
    "knowmem/retain_qa": [{"question": "When does it run?", "answer": "At noon"}],
    "knowmem/retain_qa_icl": [{"question": "Why?", "answer": "Wind"}],
    "privleak/forget": ["The lamp was lit on Friday."],
    "privleak/holdout": ["The bridge fell.", "The bridge stood."],
}
PASSAGES = [
    {"subject": "Ada Keller", "text": "Ada Keller mends watches."},
    {"subject": "Ada Keller", "text": "Ada Keller lives by the river."},
    {"subject": "Bo Lind", "text": "Bo Lind sells maps."},
    {"subject": "Bo Lind", "text": "Ada Keller mends watches."},
    {"subject": "Cy Prinz", "text": "Cy Prinz paints doors."},
]
RWKU: dict[str, Any] = {
    "passage": PASSAGES,
    "forget_level1": [
        {"query": "Ada Keller mends ___.", "answer": "watches", "level": "1", "type": "cloze", "subject": "Ada Keller"},
        {"query": "Bo Lind sells ___.", "answer": "maps", "level": "1", "type": "cloze", "subject": "Bo Lind"},
    ],
    "forget_level2": [{"query": "What does Ada mend?", "answer": "Watches", "level": "2", "subject": "Ada Keller"}],
    "forget_level3": [{"query": "Sure! Ada mends?", "answer": "Watches", "level": "3", "subject": "Ada Keller"}],
    "neighbor_level1": [
        {
            "query": "The river is ___.",
            "answer": "wide",
            "neighbor": "The river",
            "level": "1",
            "subject": "Ada Keller",
        },
        {"query": "Maps are ___.", "answer": "flat", "neighbor": "Maps", "level": "1", "subject": "Bo Lind"},
    ],
    "neighbor_level2": [
        {"query": "How wide?", "answer": "Very", "neighbor": "The river", "level": "2", "subject": "Ada Keller"}
    ],
}
LUME = {
    "forget": [
        {"id": "a-1sc0", "input": "Una Marsh was born in", "output": "Tarn.", "task": "Task1"},
        {"id": "a-1qa0", "input": "Where was Una Marsh born?", "output": "Tarn", "task": "Task1"},
        {"id": "b-2qa1", "input": "What is her number?", "output": "555", "task": "Task2"},
    ],
    "retain": [
        {"id": "c-3sc1", "input": "Olaf Reed lives in", "output": "Holm.", "task": "Task1"},
        {"id": "d-4sc1", "input": "His number is", "output": "556.", "task": "Task2"},
    ],
}


def write_lists(folder: Path, files: dict[str, Any]) -> None:
    for name, entries in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries, indent=1))


def sizes(task: Task) -> dict[str, int]:
    return {name: len(found) for name, found in task.sets.items()}


def ids_are_unique(task: Task) -> bool:
    ids = [s.id for found in task.sets.values() for s in found]
    return len(set(ids)) == len(ids)


def load(name: str, folder: Path) -> Task:
    return TaskSpec(name, data_dir=str(folder)).load()


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class Hub:
    """Stands for `datasets.load_dataset`: records what it is asked for."""

    def __init__(self, tables: dict[Any, list[dict[str, Any]]]) -> None:
        self.tables = tables
        self.asked: list[tuple[str, str | None, str]] = []

    def __call__(self, name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        self.asked.append((name, config, split))
        return self.tables[config, split]
