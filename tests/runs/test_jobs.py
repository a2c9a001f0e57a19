"""Runs in processes of their own: followed, stopped, resumed, queued, and visible to any process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import refused, told
from jupyter_client.manager import start_new_kernel
from runs_of import QUICK, config_of, own_files, results, same, wait_until

from workbench.errors import UserError
from workbench.runs import execution, jobs, stopping
from workbench.runs.lock import job_of, run_lock
from workbench.tasks.samples import Task

LONG = QUICK.replace(steps=100_000, checkpoint_every=50_000, record_every=100_000)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory of runs; what still goes on in it is ended."""
    yield tmp_path / "runs"
    for path in (tmp_path / "runs").glob("*/job.json"):
        job = jobs.Job(path.parent)
        if job.alive:
            os.kill(job_of(job.path)["pid"], signal.SIGKILL)


def test_a_job_is_followed_stopped_and_resumed_to_the_same_bits(
    own: dict[str, str], root: Path, request: pytest.FixtureRequest
) -> None:
    config = config_of(own, QUICK, probe_every=4)
    whole = execution.start(config, root / "whole")
    assert [e["step"] for e in whole.events() if "probe" in e] == [4, 8]
    job = jobs.start(config, root / "job", at_once=1)
    assert job.status()["status"] == "queued"
    with pytest.raises(UserError, match="in use by process"):
        job.resume()
    wait_until(lambda: job.status()["step"] >= 5)
    with pytest.raises(UserError, match=f"in use by process {job_of(job.path)['pid']} on "):
        job.remove()
    status = job.stop()
    assert status["status"] == "unfinished"
    assert status["reason"] == f"stopped at step {status['step']}"
    assert "stopped at step" in job.log()
    assert status["seconds"] > 0
    request.getfixturevalue("forked_jobs")
    steps = [event["step"] for event in jobs.Job(root / "job").resume(at_once=1).follow()]
    assert steps == list(range(1, 13))
    assert job.status()["status"] == "finished"
    same(results(job.path), results(whole.path))
    assert job.directory.json("cost.json")["phases"]["startup"]["seconds"] > 0.5
    with pytest.raises(UserError, match="finished"):
        job.resume()
    with pytest.raises(UserError, match="not running: finished"):
        job.stop()


@pytest.mark.usefixtures("forked_jobs")
def test_jobs_wait_for_their_turn_and_a_killed_one_makes_room(own: dict[str, str], root: Path) -> None:
    first = jobs.start(config_of(own, LONG), root / "first", at_once=1)
    wait_until(lambda: first.status()["step"] >= 2)
    status = first.status()
    assert status["status"] == "running"
    assert status["steps_per_second"] > 0
    assert status["seconds_left"] == pytest.approx((status["steps"] - status["step"]) / status["steps_per_second"])
    second, third = (jobs.start(config_of(own), root / name, at_once=1) for name in ("second", "third"))
    wait_until(lambda: "needs_bytes" in job_of(third.path) and "needs_bytes" in job_of(second.path))
    assert third.stop()["reason"] == "stopped while it waited for its turn"
    assert second.status()["status"] == "queued"
    os.kill(job_of(first.path)["pid"], signal.SIGKILL)
    wait_until(lambda: not first.alive)
    assert first.status()["status"] == "unfinished"
    assert "its process is gone: process" in first.status()["reason"]
    assert second.wait(120)["status"] == "finished"
    first.remove()
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == ["second", "third"]


def test_a_stop_while_the_libraries_are_loading_is_not_lost(
    own: dict[str, str], root: Path, request: pytest.FixtureRequest
) -> None:
    job = jobs.start(config_of(own, LONG), root / "run", at_once=1)
    wait_until(lambda: job.status()["status"] == "running")
    status = job.stop(60)
    assert status["status"] == "unfinished"
    assert not (job.path / "stop").exists()
    request.getfixturevalue("forked_jobs")
    job.resume(at_once=1)
    wait_until(lambda: job.status()["step"] > status["step"])  # the old wish does not stop it again
    job.stop()


@pytest.mark.usefixtures("forked_jobs")
def test_what_fails_says_why(own: dict[str, str], root: Path) -> None:
    with pytest.raises(UserError, match="unknown objective"):
        jobs.start(config_of(own, objective="atwo"), root / "wrong")
    assert not root.exists()
    job = jobs.start(config_of(own, QUICK.replace(lr=1e30, clip=1e30), objective="grad_diff"), root / "diverges")
    status = job.wait(120)
    assert status["status"] == "unfinished"
    assert "at step" in status["reason"]
    assert status["reason"].endswith("the last good checkpoint is not there yet")
    assert job_of(job.path)["samples"][0]
    assert "workbench: the " in job.log()


def test_two_who_resume_one_run(own: dict[str, str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stops = iter([False] * 2)
    with pytest.raises(stopping.Stopped):
        execution.start(config_of(own), root / "run", stop=lambda: next(stops, True))
    with run_lock(root / "run") as write_status:
        write_status("running")
        line = refused(capsys, "runs", "resume", str(root / "run"))
        assert f"in use by process {os.getpid()} on " in line
        assert "in use by" in refused(capsys, "runs", "remove", str(root / "run"))
    assert execution.resume(root / "run").status()["status"] == "finished"
    assert "not running" in refused(capsys, "runs", "stop", str(root / "run"))


@pytest.mark.usefixtures("forked_jobs")
def test_from_the_shell(own: dict[str, str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--forget", own["forget"], "--retain", own["retain"], "--probe-limit", "2", "--probe-every", "1"]
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "wga", "--set", "steps=2", "batch_size=4"]
    lines, status = told(capsys, "unlearn", *files, *words, "--out", str(root / "run"), "--background")
    assert status["status"] == "queued"
    assert lines[1] == f"follow it with: workbench runs show {root / 'run'} --follow"
    level = "retain.probability>=0.5"
    lines, shown = told(capsys, "runs", "show", str(root / "run"), "--follow", "--reach", level)
    assert shown["status"] == "finished"
    assert shown["reach"]["step"] == 0
    assert lines[-1].startswith(f"{level}: ")
    _, listed = told(capsys, "runs", "list", "--root", str(root))
    assert [r["status"] for r in listed["runs"]] == ["finished"]
    assert "takes SET.METRIC<=LEVEL" in refused(
        capsys, "runs", "show", str(root / "run"), "--reach", "x<1", working=True
    )
    lines, _ = told(capsys, "runs", "remove", str(root / "run"))
    assert not (root / "run").exists()


def test_a_run_outlives_its_notebook(own: dict[str, str], root: Path) -> None:
    """The kernel is restarted while a run goes on: a fresh one attaches, and shows the whole history."""
    manager, client = start_new_kernel(extra_arguments=["--HistoryManager.enabled=False"])

    def run(code: str) -> str:
        output: list[str] = []
        reply = client.execute_interactive(
            code, timeout=120, output_hook=lambda m: output.append(m["content"].get("text", ""))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(output)

    try:
        settings = QUICK.replace(steps=60, checkpoint_every=30)
        run(
            "from pathlib import Path; from workbench.runs import jobs; from workbench.runs import Config\n"
            f"config = Config.from_dict({config_of(own, settings).as_dict()!r})\n"
            f"job = jobs.start(config, Path({str(root / 'run')!r}))"
        )
        wait_until(lambda: jobs.Job(root / "run").status()["step"] >= 3)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert jobs.Job(root / "run").alive
        code = f"from workbench.runs import jobs; job = jobs.Job({str(root / 'run')!r})\n"
        printed = run(code + "print(len(list(job.follow())), job.status()['status'])")
        assert printed.split() == ["60", "finished"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_eight_at_once(own: dict[str, str], root: Path) -> None:
    config = config_of(own, QUICK.replace(steps=3))
    started = [jobs.start(config, root / f"run-{i}", at_once=8) for i in range(8)]
    assert [job.wait(600)["status"] for job in started] == ["finished"] * 8
    for job in started[1:]:
        same(results(job.path), results(started[0].path))
