"""Small runs as tests make them, and what of a run must not depend on interruptions."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import runs
from workbench.tasks.samples import DATA, Task
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.settings import Settings

COMPARED = ("loss", "forget_loss", "forget_nll", "retain_loss", "retain_nll", "grad_norm")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
ROWS = {"forget": 24, "retain": 64, "neighbours": 24, "general": 16, "train_extra": 64, "nonmembers": 24}
QUICK = Settings(steps=12, batch_size=8, checkpoint_every=4, record_every=4)


def series(events: list[dict[str, Any]]) -> pd.DataFrame:
    """What two runs that should be the same are compared by, a row a step."""
    return pd.DataFrame(events)[list(COMPARED)]


def own_files(bio: Task, folder: Path, count: int = 24) -> dict[str, str]:
    """A small task in files of one's own: their paths by set."""
    paths = {}
    for name in ("forget", "retain"):
        path = folder / f"{name}.jsonl"
        keys = ("id", "question", "answer", "spans")
        path.write_text("".join(json.dumps({k: getattr(s, k) for k in keys}) + "\n" for s in bio.sets[name][:count]))
        paths[name] = str(path)
    return paths


def few_rows(folder: Path) -> Path:
    """The embedded task with few people: every third row, which is another fact, of the first ones."""
    for name, count in ROWS.items():
        lines = (DATA / "biographies" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[: 3 * count : 3]), encoding="utf-8")
    return folder


def config_of(own: dict[str, str], settings: Settings = QUICK, **changes: Any) -> runs.Config:
    """The run that `command` starts."""
    named = {"objective": "atwu", "weights": "atwu", "device": "cpu", "probe_limit": 4, **changes}
    return runs.Config(task=TaskSpec(**own), model="bio-full", settings=settings, **named)


def command(own: dict[str, str], out: Path, settings: Settings = QUICK) -> list[str]:
    """The same run from a shell."""
    names = ("steps", "batch_size", "checkpoint_every", "record_every")
    pairs = [word for name in names for word in ("--set", f"{name}={getattr(settings, name)}")]
    files = ["--forget", own["forget"], "--retain", own["retain"], "--probe-limit", "4"]
    return [
        *(sys.executable, "-m", "workbench", "unlearn", *files, "--model", "bio-full"),
        *("--objective", "atwu", "--weights", "atwu", *pairs, "--device", "cpu", "--out", str(out), "--json"),
    ]


CLOCK = {"seconds", "time", "total_seconds", "total_flops"}


def results(path: Path) -> tuple[Any, ...]:
    """What must not depend on interruptions."""
    directory = runs.RunDirectory(path)
    events = [{k: v for k, v in e.items() if k not in CLOCK} for e in directory.events()]
    probes = directory.table("probes.parquet").drop(columns="run")
    return events, directory.json("metrics.json"), directory.table("scores.parquet"), probes


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    """Equal to the last bit."""
    pairs = zip(a[0], b[0], strict=True)
    differing = [
        (x["step"], key, x.get(key), y.get(key)) for x, y in pairs for key in x | y if x.get(key) != y.get(key)
    ]
    assert differing == []
    assert a[1] == b[1]
    pd.testing.assert_frame_equal(a[2], b[2], check_exact=True)
    pd.testing.assert_frame_equal(a[3], b[3], check_exact=True)


def wait_until(condition: Callable[[], bool], seconds: float = 120.0, every: float = 0.02) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(every)
