"""A run begins in a directory of its own: nothing else is removed, and a failed start leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from commandline import refused
from runs_of import QUICK, command, config_of, own_files, wait_until

from workbench import files, runs
from workbench.errors import UserError
from workbench.runs import execution, jobs
from workbench.runs.directory import RunDirectory
from workbench.runs.lock import job_of
from workbench.runs.stopping import Stopped
from workbench.runs.sweep import directory_of, one
from workbench.tasks.samples import Task

SHORT = QUICK.replace(steps=2, batch_size=4)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 8)


@pytest.mark.parametrize("name", ["precious.txt", "config.json", "manifest.json", "metrics.json", "weights.parquet"])
def test_what_the_user_puts_there_while_the_model_loads_stays(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The retain file is a FIFO, so that the start waits until the user's file is there."""
    fifo, out = tmp_path / "retain.jsonl", tmp_path / "run"
    os.mkfifo(fifo)

    def user() -> None:
        with fifo.open("w") as stream:  # opens when the start reads
            out.mkdir()
            (out / name).write_text("mine")
            stream.write(Path(own["retain"]).read_text())

    thread = threading.Thread(target=user)
    thread.start()
    words = command(own | {"retain": str(fifo)}, out, SHORT)[3:]
    line = refused(capsys, *words, working=True)
    thread.join()
    assert f"{out} is not empty" in line
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [(name, "mine")]


def test_a_failed_start_removes_only_what_it_wrote(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def fail(*_: Any, **__: Any) -> None:
        (out / "mine").write_text("mine")
        (out / "tokens.parquet").write_text("mine")
        raise RuntimeError("anything")

    with monkeypatch.context() as patched:
        patched.setattr("workbench.runs.stages.probe", fail)
        with pytest.raises(RuntimeError, match="anything"):
            execution.start(config_of(own, SHORT), out)
    assert sorted(p.name for p in out.iterdir()) == ["mine", "tokens.parquet"]
    with monkeypatch.context() as patched:
        patched.setattr(
            jobs, "start_detached", lambda *_, **__: (_ for _ in ()).throw(OSError(11, "no processes left"))
        )
        with pytest.raises(UserError, match=r"cannot start a process for .*no processes left"):
            jobs.start(config_of(own, SHORT), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_run_needs_no_git(own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = execution.start(config_of(own, SHORT), tmp_path / "run")
    assert done.config["versions"]["commit"] == "not available"


def test_a_run_killed_while_its_configuration_was_written_is_begun_again(own: dict[str, str], tmp_path: Path) -> None:
    """By a sweep, and by a start in the same directory; its copy of the weights may be there already."""
    whole = execution.start(config_of(own, SHORT), tmp_path / "whole")
    file = tmp_path / "table.parquet"
    scores = whole.table("scores.parquet")
    assert scores is not None
    scores[(scores["scorer"] == "atwu") & (scores["step"] == 0)].to_parquet(file)
    config = config_of(own, SHORT, objective="wga", weights=str(file))
    path = directory_of(config, tmp_path / "sweep")

    def killed() -> None:
        class Killed(BaseException):
            pass

        real = os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).name == "config.json":
                raise Killed
            real(source, target)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(files.os, "replace", replace)
            patched.setattr(files.shutil, "rmtree", lambda *_, **__: None)
            patched.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(Killed):
                execution.start(config, path)

    killed()
    assert any(files.PART.fullmatch(p.name) for p in path.iterdir())
    assert {"weights.parquet", ".lock", "manifest.json"} <= {p.name for p in path.iterdir()}
    assert one((str(path), config.as_dict()))["status"] == "finished"
    (path / "weights.parquet").write_bytes(b"mine")
    for name in ("config.json", "run.json"):
        (path / name).unlink()
    with pytest.raises(UserError, match="not empty"):
        execution.start(config, path)


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    target, wrong = tmp_path / "file.json", []

    def write(number: int) -> None:
        try:
            for _ in range(50):
                files.write_json(target, {"number": number, "text": "x" * 1000})
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert list(tmp_path.iterdir()) == [target]


# The lock -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(own: dict[str, str], tmp_path: Path) -> Any:
    job = jobs.start(config_of(own, QUICK.replace(steps=100_000)), tmp_path / "runs" / "run", at_once=1)
    yield job
    if job.alive:
        os.kill(runs.job_of(job.path)["pid"], signal.SIGKILL)
        wait_until(lambda: not job.alive)


def test_a_run_is_never_free_while_its_worker_starts(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """From the start on, through all imports, nobody can remove or resume it, whatever the clock says."""
    looks = 0
    while job.status()["step"] < 1:
        for call in (job.remove, job.resume, lambda: execution.resume(job.path)):
            with pytest.raises(UserError, match="in use by process"):
                call()
        assert job.alive
        assert job.status()["status"] in ("queued", "running")
        looks += 1
    assert looks >= 3
    assert "in use by" in refused(capsys, "runs", "remove", str(job.path))
    copied = job.path.with_name("copied")
    worker = runs.job_of(job.path)["pid"]
    os.kill(worker, signal.SIGSTOP)  # it keeps its lock, and leaves its old checkpoints alone while they are copied
    try:
        wait_until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED)
        shutil.copytree(job.path, copied)
    finally:
        os.kill(worker, signal.SIGCONT)
    status = jobs.Job(copied).status()
    assert status["status"] == "unfinished"
    assert "its process is gone" in status["reason"]
    jobs.Job(copied).remove()


def test_a_clock_that_steps_changes_nothing(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    for hours in (-48, 48):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda hours=hours: now() + 3600 * hours)
            patched.setattr(psutil.Process, "create_time", lambda self, hours=hours: 3600.0 * hours)
            assert job.alive
            assert job.status()["status"] in ("queued", "running")
            with pytest.raises(UserError, match="in use by process"):
                job.resume()
    pid = runs.job_of(job.path)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not job.alive)
    assert job.status()["status"] == "unfinished"


def test_ctrl_c_right_after_the_configuration_is_written_can_be_resumed(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RunDirectory.create

    def create(path: Path, config: Any) -> None:
        original(path, config)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "create", staticmethod(create))
    with pytest.raises(Stopped):
        execution.start(config_of(own, SHORT), tmp_path / "run")
    assert job_of(tmp_path / "run")["state"] == "stopped"
