"""Trackers get every step; one that is not installed is refused before any work, one that fails ends no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs_of import QUICK, config_of, own_files

from workbench.errors import UserError
from workbench.runs.execution import start
from workbench.runs.trackers import PACKAGES, Trackers, flat
from workbench.tasks.samples import Task


def test_tensorboard_reads_what_the_run_wrote(bio: Task, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="optional")
    config = config_of(own_files(bio, tmp_path), QUICK, probe_every=4, track=("tensorboard",))
    run = start(config, tmp_path / "run")
    folder = next((tmp_path / "run" / "trackers").rglob("events.out.tfevents.*")).parent
    written = accumulator.EventAccumulator(str(folder))
    written.Reload()
    events = run.events()
    losses = [(scalar.step, scalar.value) for scalar in written.Scalars("loss")]
    assert losses == [(e["step"], pytest.approx(e["loss"], rel=1e-6)) for e in events]
    assert [s.step for s in written.Scalars("probe/forget/fact_accuracy")] == [4, 8]


def test_a_tracker_that_is_not_here(bio: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = own_files(bio, tmp_path)
    monkeypatch.setitem(PACKAGES, "mlflow", "no_such_package")
    for name, line in (("tensorbord", "did you mean tensorboard"), ("mlflow", "pip install no_such_package")):
        with pytest.raises(UserError, match=line):
            start(config_of(own, track=(name,)), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_ends_no_run(bio: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Fails:
        def log(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("the server is gone")

    config = config_of(own_files(bio, tmp_path), QUICK)
    trackers = Trackers(config, start(config, tmp_path / "run"))
    trackers.accelerator = Fails()
    for step in (1, 2):
        trackers.log({"step": step, "loss": 1.0})
    assert capsys.readouterr().err.count("the server is gone; the run goes on untracked") == 1


def test_nested_entries_are_flat() -> None:
    assert flat({"a": 1, "b": {"c": 2.0, "d": {"e": None}}}) == {"a": 1, "b/c": 2.0, "b/d/e": "None"}
