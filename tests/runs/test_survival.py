"""Runs that are killed at any moment, and disks that fill up at any file: nothing is ever unreadable or lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from runs_of import QUICK, command, config_of, own_files, results, same, wait_until

from workbench import files, runs
from workbench.errors import UserError
from workbench.runs import execution
from workbench.tasks.samples import Task

FILES = [
    "config.json", "job.json", "events.jsonl", "probes.parquet", "tokens.parquet", "metrics.json", "cost.json",
    "step-000004", "step-000012", "scores.parquet", "scorer.safetensors", "model", "run.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def whole(own: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return execution.start(config_of(own), tmp_path_factory.mktemp("whole") / "run").path


def failing(name: str, code: int, after: int) -> Callable[..., Any]:
    """`os.replace` on a disk on which a file of this name cannot be put in its place, except the first few times."""
    real, seen = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            seen.append(target)
            if len(seen) > after:
                raise OSError(code, os.strerror(code))
        real(source, target)

    return replace


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, pytest.param(errno.EROFS, marks=pytest.mark.slow)], ids=["full", "read-only"]
)
def test_a_write_that_fails_ends_the_run_readable(
    own: dict[str, str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """At each file of the run directory: one clear line, a directory that can be read and resumed, or none at all."""
    path = tmp_path / "run"
    after = {"probes.parquet": 1, "tokens.parquet": 1, "metrics.json": 1, "cost.json": 1}.get(name, 0)
    with monkeypatch.context() as patched:
        if name == "events.jsonl":
            real = Path.open

            def opened(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
                if self.name == name and mode == "a" and self.exists() and self.read_text().count("\n") >= 6:
                    raise OSError(code, os.strerror(code))
                return real(self, mode, *args, **more)

            patched.setattr(Path, "open", opened)
        else:
            patched.setattr(files.os, "replace", failing(name, code, after))
        if name == "job.json":  # says how a run stands, and nothing else: the run goes on without
            assert execution.start(config_of(own), path).status()["status"] == "finished"
        else:
            words = "disk is full" if code == errno.ENOSPC else "file system is read-only"
            with pytest.raises(UserError, match=f"cannot write .*{words}; choose another place or make room"):
                execution.start(config_of(own), path)
    if not path.exists():
        assert name == "config.json"
        execution.start(config_of(own), path)
    elif name != "job.json":
        status = runs.list_runs(tmp_path)[0].status()
        assert status["status"] == "unfinished"
        assert "cannot write" in status["reason"]
        assert execution.resume(path).status()["status"] == "finished"
    same(results(path), results(whole))
    assert not list(path.rglob("*.part"))


def part_of(path: Path, name: str) -> Callable[[], bool]:
    """Whether a file or checkpoint of this name is being written."""
    return lambda: any(any(folder.glob(f".{name}.*.part")) for folder in (path, path / "checkpoints"))


@pytest.mark.slow
def test_killed_at_twenty_moments(own: dict[str, str], tmp_path: Path) -> None:
    """Twelve at random steps, a random moment later; the others when something is just being written."""
    settings = QUICK
    whole = tmp_path / "whole"
    subprocess.run(command(own, whole, settings), capture_output=True, check=True)
    expected, each = results(whole), mean(e["seconds"] for e in runs.RunDirectory(whole).events())
    chance = random.Random(0)
    moments: list[str | tuple[int, float]] = [(chance.randrange(13), chance.uniform(0, 2 * each)) for _ in range(12)]
    moments += ["config.json", "probes.parquet", "step-000004", "step-000008", "step-000012", "scores.parquet"]
    moments += ["model", "run.json"]
    outcomes = []
    for number, moment in enumerate(moments):
        path = tmp_path / f"run-{number}"
        child = subprocess.Popen(
            command(own, path, settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        if isinstance(moment, tuple):
            step, later = moment
            wait_until((path / "config.json").exists, every=0.001)
            wait_until(lambda path=path, step=step: len(runs.RunDirectory(path).events()) >= step, every=0.001)
            time.sleep(later)
        else:
            being_written = part_of(path, moment)
            while child.poll() is None and not being_written():
                pass
        child.kill()
        child.wait()
        if not (path / "config.json").exists():  # killed before it had begun
            outcomes.append("not begun")
            shutil.rmtree(path, ignore_errors=True)
            done = execution.start(config_of(own, settings), path)
        else:
            status = next(r.status() for r in runs.list_runs(tmp_path) if r.path == path)
            outcomes.append(f"{status['status']} at step {status['step']}")
            done = runs.RunDirectory(path) if status["status"] == "finished" else execution.resume(path)
        same(results(done.path), expected)
        assert done.status()["status"] == "finished"
        assert not list(path.rglob("*.part"))
    print(f"killed {len(moments)} times: {outcomes}")
    assert sum(o.startswith("unfinished") for o in outcomes) >= 10
