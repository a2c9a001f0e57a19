"""What benchmarks of many runs share: the task, rows that outlive an interruption, the machine's name."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

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


def pool(workers: int, prepare: Callable[..., None], *given: Any) -> ProcessPoolExecutor:
    """Workers that are prepared once each. Not forked: a GPU serves only processes that began without it."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=prepare, initargs=given)


class Rows:
    """Finished rows, kept in a file; a job that is there is not run again.

    Args:
        path: the file. Its first line holds the options.
        one: makes a job's row, in a worker.
        said: a row in a line.
        options: what a row depends on beside its job; rows made with others are refused.
    """

    def __init__(
        self, path: Path, one: Callable[[Job], Job], said: Callable[[Job], str], options: dict[str, Any]
    ) -> None:
        self.path, self.one, self.said = path, one, said
        options = {name: placeless(value) for name, value in options.items()}
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        made = lines.pop(0)["options"] if lines else options
        other = [f"{n} {made.get(n)}, now {options[n]}" for n in options if made.get(n) != options[n]]
        if other:
            raise SystemExit(f"{path} has rows made with other options ({'; '.join(other)}); delete it or give --rows")
        if not path.exists():
            path.write_text(json.dumps({"options": options}) + "\n")
        self.found = {row["key"]: row for row in lines}

    def run(self, pool: ProcessPoolExecutor, jobs: list[Job]) -> list[Job]:
        """The rows of all jobs."""
        keys = [json.dumps(job, sort_keys=True) for job in jobs]
        missing = [(key, job) for key, job in zip(keys, jobs, strict=True) if key not in self.found]
        rows = pool.map(self.one, [job for _, job in missing])
        for done, ((key, _), row) in enumerate(zip(missing, rows, strict=True), 1):
            self.found[key] = row | {"key": key}
            with self.path.open("a") as stream:
                stream.write(json.dumps(self.found[key]) + "\n")
            print(f"{done}/{len(missing)} {self.said(row)}", file=sys.stderr, flush=True)
        return [self.found[key] for key in keys]


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
