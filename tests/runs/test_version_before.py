"""Run directories of the version before: shown and resumed under today's names, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commandline import refused
from runs_of import few_rows, results, same

from workbench import runs
from workbench.errors import UserError
from workbench.runs import execution
from workbench.tasks import TaskSpec
from workbench.unlearning import Settings

OLD_SETTINGS = {"micro_batch_size": "micro_batch", "retain_eps": "retain_level"}
OLD_SETS = {"general": "heldout"}


def as_before(path: Path) -> None:
    """Give what a run wrote the names that the version before wrote."""
    for manifest in path.rglob("manifest.json"):  # which it did not write
        manifest.unlink()
    for state in path.glob("checkpoints/*/state.json"):
        state.write_text(json.dumps({k: v for k, v in json.loads(state.read_text()).items() if k != "events"}))
    config = json.loads((path / "config.json").read_text())
    config["settings"] = {OLD_SETTINGS.get(name, name): value for name, value in config["settings"].items()}
    (path / "config.json").write_text(json.dumps(config))

    def renamed(metrics: dict[str, Any]) -> dict[str, Any]:
        return {OLD_SETS.get(name, name): values for name, values in metrics.items()}

    metrics = json.loads((path / "metrics.json").read_text())
    (path / "metrics.json").write_text(json.dumps({phase: renamed(sets) for phase, sets in metrics.items()}))
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    events = [event | {"probe": renamed(event["probe"])} for event in events]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    for name in ("probes", "tokens"):
        table = pd.read_parquet(path / f"{name}.parquet")
        table["probe_set"] = table["probe_set"].replace(OLD_SETS)
        table["sample_id"] = table["sample_id"].str.replace("general-", "heldout-")
        table.to_parquet(path / f"{name}.parquet")


def test_a_run_of_the_version_before_is_shown_and_resumed_to_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows").mkdir()
    config = runs.Config(
        task=TaskSpec("biographies", data_dir=str(few_rows(tmp_path / "rows"))), model="bio-full",
        objective="wga", weights="surprisal",
        settings=Settings(steps=4, batch_size=4, checkpoint_every=2, record_every=2), probe_limit=2, probe_every=1,
    )  # fmt: skip
    whole = execution.start(config, tmp_path / "whole")
    steps: list[dict[str, Any]] = []
    with pytest.raises(runs.Stopped):
        execution.start(config, tmp_path / "old", on_step=steps.append, stop=lambda: len(steps) == 2)
    as_before(tmp_path / "old")
    old = runs.RunDirectory(tmp_path / "old")
    assert old.read_config().settings == config.settings
    assert set(old.curve()["probe_set"]) == {"forget", "retain", "neighbours", "general"}
    assert execution.resume(old.path).status()["status"] == "finished"
    same(results(old.path), results(whole.path))

    (old.path / "manifest.json").unlink()
    record = old.config | {"skip_tokens": True}
    record["versions"]["unlearning-workbench"] = "7.1"
    (old.path / "config.json").write_text(json.dumps(record))
    (old.path / "run.json").unlink()
    capsys.readouterr()
    line = refused(capsys, "runs", "resume", str(old.path))
    assert f"{old.path / 'config.json'} of version 7.1 (this is " in line
    assert "unknown configuration key 'skip_tokens'" in line


def test_wrong_values_are_refused_in_one_line() -> None:
    good = runs.Config(task=TaskSpec("biographies"), model="bio-full")
    for change, line in (
        ({"probe_limit": 0}, "probe_limit must be at least 1, not 0"),
        ({"probe_every": "often"}, "probe_every must be a valid integer"),
        ({"modle": "x"}, "unknown configuration key 'modle': did you mean model"),
        ({"settings": {"steps": 0}}, "steps must be at least 1"),
    ):
        with pytest.raises(UserError, match=line) as error:
            good.replace(**change)
        assert "\n" not in str(error.value)


def test_retain_rows_of_the_version_before_are_the_last_ones() -> None:
    record = {"task": {"name": "biographies", "retain_rows": 40}, "model": "bio-full"}
    assert runs.Config.from_dict(record).task == TaskSpec("biographies", retain_rows=40, retain_from="end")
    config = runs.Config(task=TaskSpec("biographies", retain_rows=40, columns={"question": "Q"}), model="bio-full")
    assert runs.Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_the_commit_is_not_available_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert runs.versions()["commit"] == "not available"
