"""What benchmarks of many runs share: the task, rows that outlive an interruption, the machine's name."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.runs.scheduler import WorkerDied, Workers

Job = dict[str, Any]


def task_options(options: argparse.ArgumentParser) -> None:
    """The task and the model, and how many runs at a time."""
    options.add_argument("--task", default="biographies")
    options.add_argument("--data-dir")
    options.add_argument("--spans")
    options.add_argument("--retain-rows", type=int)
    options.add_argument("--model", default="bio-full")
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--threads", type=int, default=1, help="a worker")


class Rows:
    """Finished rows, kept in a file; a job whose row is there is not run again.

    Args:
        path: the file. Its first line holds the options.
        one: makes a job's row, in a worker.
        describe: a row in one line.
        options: what a row depends on beside its job; a file of rows with other options is refused.
    """

    def __init__(
        self, path: Path, one: Callable[[Job], Job], describe: Callable[[Job], str], options: dict[str, Any]
    ) -> None:
        self.path, self.one, self.describe = path, one, describe
        options = {name: placeless(value) for name, value in options.items()}
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        made = lines.pop(0)["options"] if lines else options
        other = [f"{n} {made.get(n)}, now {options[n]}" for n in options if made.get(n) != options[n]]
        if other:
            raise SystemExit(f"{path} has rows made with other options ({'; '.join(other)}); delete it or give --rows")
        if not path.exists():
            path.write_text(json.dumps({"options": options}) + "\n")
        self.rows = {row["key"]: row for row in lines}

    def run(self, workers: Workers, jobs: list[Job]) -> list[Job]:
        """The rows of all jobs, in their order."""
        keys = [json.dumps(job, sort_keys=True) for job in jobs]
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self.rows}
        for done, (job, row) in enumerate(workers.run(self.one, list(missing.values())), 1):
            if isinstance(row, WorkerDied):
                raise SystemExit(f"{json.dumps(job)}: {row}; the same command goes on with what is missing")
            key = json.dumps(job, sort_keys=True)
            self.rows[key] = row | {"key": key}
            with self.path.open("a") as stream:
                stream.write(json.dumps(self.rows[key]) + "\n")
            print(f"{done}/{len(missing)} {self.describe(row)}", file=sys.stderr, flush=True)
        return [self.rows[key] for key in keys]


def hardware() -> str:
    """The processor and what it can, or the GPU."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or "CPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} x {name}, {torch.backends.cpu.get_cpu_capability()}"


def placeless(word: Any) -> Any:
    """A word of the command, its path on this machine cut to a name: the others' files lie elsewhere."""
    return Path(word).name if isinstance(word, str) and Path(word).is_absolute() else word
