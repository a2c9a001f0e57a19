"""LUME (arXiv 2502.15097): invented stories and personal data, and real biographies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import UserError, check_known
from workbench.tasks.json_rows import Rows
from workbench.tasks.readers.official import columns, task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Task
from workbench.tasks.sources import hub, rows

TASKS = {"Task1": "task1", "Task2": "task2", "Task3": "task3"}
HUB = "llmunlearningsemeval2025organization/semeval25-unlearning-dataset-public"


@task("lume", source="arXiv 2502.15097, amazon-science/lume-llm-unlearning", certainty="sure")
def lume(variant: str, data_dir: Path | None) -> Task:
    """LUME: invented stories (task1), invented personal data (task2), real biographies (task3), or all three.

    The hub has the part that was published for SemEval 2025, task 4; access to it must be requested.
    """
    if variant:
        check_known("LUME task", variant, TASKS.values())
    sets = {}
    for name in ("forget", "retain"):
        source: Rows
        if data_dir is not None:
            source = rows(data_dir / f"{name}.jsonl")
        else:
            source = [row for part in ("train", "validation") for row in hub(HUB, "default", f"{name}_{part}")]
        sets[name] = samples_from(_converted(source, variant), name)
    return Task(f"lume/{variant}" if variant else "lume", sets)


def _converted(source: Rows, variant: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The variant's rows in our own format; ids tell questions (qa) from texts to continue (sc)."""
    for where, row in source:
        identity, prompt, answer, name = columns(row, where, "id", "input", "output", "task")
        kind = re.search(r"(sc|qa)\d+$", identity)
        if kind is None:
            raise UserError(f"{where}: 'id' must end in sc or qa and a number, found '{identity}'")
        if name not in TASKS:
            raise UserError(f"{where}: 'task' must be one of {', '.join(TASKS)}, found '{name}'")
        if variant in ("", TASKS[name]):
            yield where, {"id": identity, "question": prompt, "answer": answer, "continues": kind[1] == "sc"}
