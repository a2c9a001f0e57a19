"""A grid of runs in one table: each exactly once, whatever dies on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from commandline import refused, told
from runs_of import QUICK, config_of, own_files, wait_until

from workbench import runs
from workbench.errors import UserError
from workbench.runs.config import Config
from workbench.runs.sweep import directory_of, grid, sweep
from workbench.tasks.samples import Task

SHORT = QUICK.replace(steps=2, batch_size=4)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 12)


def options(own: dict[str, str], out: Path, *more: str) -> list[str]:
    files = ["--forget", own["forget"], "--retain", own["retain"], "--model", "bio-full", "--device", "cpu"]
    return ["sweep", *files, "--probe-limit", "2", "--set", "steps=2", "batch_size=4", "--out", str(out), *more]


def test_a_grid_stands_in_one_table_and_is_not_repeated(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible pair is a row with its reason; options go to those that take them."""
    words = options(
        own, tmp_path, "--set", "beta=2.5", "--objective", "wga,altpo", "--weights", "uniform,wga", "--seeds", "0,1"
    )
    lines, result = told(capsys, *words)
    table = pd.read_parquet(result["table"])
    assert len(table) == len(result["runs"]) == 8
    assert not table.duplicated(["objective", "weights", "seed"]).any()
    done = table[table["status"] == "finished"]
    assert set(done["objective"]) == {"wga"}
    assert done["after.forget.fact_accuracy"].notna().all()
    assert (done["seconds"] > 0).all()
    assert all("needs wrong answers" in reason for reason in table[table["status"] == "failed"]["reason"])
    assert any("altpo uniform seed 0: failed: " in line for line in lines)
    configs = [d.config for d in runs.list_runs(tmp_path)]
    assert all(c["settings"]["options"]["objective"]["beta"] == 2.5 for c in configs)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/run.json")}
    assert len(before) == 4
    _, again = told(capsys, *words)
    assert again == result
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/run.json")} == before


@pytest.mark.usefixtures("forked_workers")
def test_finished_runs_on_rows_that_have_changed_since_are_not_taken(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Path(own["forget"]).read_text()
    forget, out = tmp_path / "forget.jsonl", tmp_path / "out"
    forget.write_text(rows)
    words = options(own | {"forget": str(forget)}, out, "--objective", "wga", "--weights", "uniform", "--seeds", "0")
    _, first = told(capsys, *words)
    forget.write_text(rows.replace("Celia", "Delia"))
    assert "is a run on other rows than the task's files have now; choose another --out" in refused(capsys, *words)
    forget.write_text(rows)
    assert told(capsys, *words)[1] == first


def older_digest(config: Config, *without: str) -> str:
    """The hash of a configuration in a version that did not have some of its fields."""
    record = {key: value for key, value in config.as_dict().items() if key not in without}
    record["task"] = {key: value for key, value in record["task"].items() if key not in without}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]


@pytest.mark.usefixtures("forked_workers")
def test_a_run_of_a_version_with_fewer_fields_is_taken_up(own: dict[str, str], tmp_path: Path) -> None:
    """Its directory is named by the hash of fewer fields."""
    (config,) = grid(config_of(own, SHORT, weights="uniform"), ["wga"], ["uniform"], [0])
    first = sweep([config], tmp_path)
    (made,) = tmp_path.glob("wga-*")
    assert made == directory_of(config, tmp_path)
    old = made.rename(tmp_path / f"wga-uniform-s0-{older_digest(config, 'track', 'keep')}")
    record = json.loads((old / "config.json").read_text())
    del record["track"], record["task"]["keep"]
    (old / "config.json").write_text(json.dumps(record))
    (old / "manifest.json").unlink()
    again = sweep([config], tmp_path)
    assert [path.name for path in tmp_path.glob("wga-*")] == [old.name]
    assert again.drop(columns="run").equals(first.drop(columns="run"))
    for change in ({"track": ("tensorboard",)}, {"task": dataclasses.replace(config.task, keep=("x",))}):
        assert directory_of(config.replace(**change), tmp_path) != old  # which it could not have said


def test_a_run_with_another_setting_is_another_run(own: dict[str, str], tmp_path: Path) -> None:
    """Also where the setting is left open in one of the two, and a run writes down what it took."""
    (config,) = grid(config_of(own, SHORT, weights="uniform"), ["wga"], ["uniform"], [0])
    open_fields = {"probe_limit": None, "prompt": None, "system": None, "device": None, "precision": None}
    config = config.replace(**open_fields)
    changes = [{"probe_limit": 1}, {"reference": "bio-retain"}, {"prompt": "plain"}, {"system": "x"}, {"device": "cpu"}]
    places = [directory_of(config, tmp_path)]
    for change in changes:
        places.append(directory_of(config.replace(**change), tmp_path))
        runs.RunDirectory.create(places[-1], config.replace(**change))
    assert len(set(places)) == 1 + len(changes)
    assert directory_of(config, tmp_path) == places[0]


@pytest.mark.usefixtures("forked_workers")
def test_a_killed_worker_s_run_is_taken_up_by_another(own: dict[str, str], tmp_path: Path) -> None:
    """The pool breaks in the middle of a run; all end, and the run goes on from its checkpoint."""
    long = QUICK.replace(steps=16, batch_size=4, checkpoint_every=2)
    configs = grid(config_of(own, long, weights="uniform"), ["wga", "grad_diff"], ["uniform"], [0])
    killed: list[int] = []

    def kill() -> None:
        path = directory_of(configs[0], tmp_path) / "job.json"
        wait_until(lambda: any(tmp_path.glob("*/checkpoints/step-*")))
        pid = runs.job_of(path.parent)["pid"]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    table = sweep(configs, tmp_path, workers=1)
    thread.join()
    assert len(killed) == 1
    assert list(table["status"]) == ["finished"] * 2
    assert list(table["objective"]) == ["wga", "grad_diff"]
    cost = runs.RunDirectory(directory_of(configs[0], tmp_path)).json("cost.json")["phases"]
    assert cost["forget"]["calls"] == 16  # resumed: the steps up to the checkpoint are not done again
    assert [e["step"] for e in runs.RunDirectory(directory_of(configs[0], tmp_path)).events()] == list(range(1, 17))


def test_wrong_names_start_nothing(own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    pair = ["--objective", "wga", "--weights", "uniform"]
    for more, line in (
        (["--objective", "wga,simnop", "--weights", "uniform"], "did you mean simnpo"),
        (["--objective", "wga", "--weights", "uniform,surprize"], "did you mean surprisal"),
        ([*pair, "--set", "betta=2"], "unknown setting 'betta'"),
        ([*pair, "--seeds", "0,x"], "--seeds takes whole numbers"),
        ([*pair, "--engine", "slurm"], "unknown engine 'slurm'"),
    ):
        assert line in refused(capsys, *options(own, out, *more))
        assert not out.exists()


@contextlib.contextmanager
def cluster_of_two() -> Iterator[tuple[Any, list[Any]]]:
    """A Ray cluster with a head that does no work, and two nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster, [cluster.add_node(num_cpus=1) for _ in range(2)]
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_killed_in_mid_sweep(own: dict[str, str], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is an extra: pip install 'unlearning-workbench[ray]'")
    configs = grid(config_of(own, QUICK.replace(steps=20)), ["wga", "simnpo"], ["uniform", "wga"], [0, 1])
    with cluster_of_two() as (cluster, nodes):
        killed: list[str] = []

        def kill() -> None:
            wait_until(lambda: len(list(tmp_path.glob("*/events.jsonl"))) >= 2, seconds=300)
            time.sleep(0.2)
            cluster.remove_node(nodes[0], allow_graceful=False)
            killed.append("node")

        thread = threading.Thread(target=kill)
        thread.start()
        table = sweep(configs, tmp_path, engine="ray", address=cluster.address)
        thread.join()
    assert killed == ["node"]
    assert len(table) == 8
    assert not table.duplicated(["objective", "weights", "seed"]).any()
    assert list(table["status"]) == ["finished"] * 8
    assert not ray.is_initialized()
    assert not [p for p in psutil.Process().children(recursive=True) if "raylet" in p.name()]


def test_ray_is_asked_for_where_it_is_absent(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="--engine ray needs a package: pip install"):
        sweep([config_of(own, SHORT)], tmp_path, engine="ray")
