"""What must be forgotten and what must be kept: samples, tasks, and the readers that make them.

A task is named: `biographies` (embedded), `tofu/forget01`, `muse/news`, `rwku/Some Name`, `lume/task2` (hub, or a
directory with the official files), or a pair of JSONL files of one's own. Every reader validates row by row and names
file and line in its errors.
"""

from workbench.tasks.benchmarks import biographies, lume, muse, rwku, tofu
from workbench.tasks.samples import (
    DATA,
    KEYS,
    PROBE_SETS,
    Sample,
    Task,
    rows,
    sample_from,
    samples_from,
    spread,
    task,
    with_spans,
)
from workbench.tasks.spec import TaskSpec

__all__ = [
    "DATA",
    "KEYS",
    "PROBE_SETS",
    "Sample",
    "Task",
    "TaskSpec",
    "biographies",
    "lume",
    "muse",
    "rows",
    "rwku",
    "sample_from",
    "samples_from",
    "spread",
    "task",
    "tofu",
    "with_spans",
]
