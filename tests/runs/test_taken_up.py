"""What is taken up again: runs and sequences of an older version, and none whose files have changed since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs_of import config_of, own_files

import workbench as wb
from workbench import runs
from workbench.errors import UserError
from workbench.files import remove
from workbench.runs.interference import run_one
from workbench.runs.sweep import directory_of, grid, sweep
from workbench.scorers.score import score_samples
from workbench.tasks import Task, TaskSpec, joined, rehearsing

SHORT = wb.Settings(steps=1, batch_size=4, lr=1e-3, checkpoint_every=1, record_every=1)
NAMED: dict[str, Any] = {"model": "bio-full", "objective": "wga", "settings": SHORT, "probe_limit": 2, "device": "cpu"}
PEOPLE = ["biographies/person:0", "biographies/person:1"]
NEWER = ("only", "keep", "sets")  # fields of a task that an older version did not have


@pytest.fixture
def table(bio: Task, full: Any, tmp_path: Path) -> Path:
    """Scores of the rows that are forgotten here."""
    samples = [*bio.forget[:12], *(s for name in PEOPLE for s in TaskSpec(name).load().forget)]
    file = tmp_path / "weights.parquet"
    score_samples(full, list({s.id: s for s in samples}.values()), ["position"]).to_parquet(file, index=False)
    return file


def edited(file: Path) -> None:
    """Change one score."""
    scores = pd.read_parquet(file)
    scores.loc[0, "score"] += 1
    scores.to_parquet(file, index=False)


@pytest.mark.parametrize("finished", [True, False])
def test_a_sequence_does_not_go_on_with_a_table_that_was_edited(table: Path, tmp_path: Path, finished: bool) -> None:
    """Else its first request would have other weights than its second, or old numbers stand for the new table."""
    named = NAMED | {"weights": str(table), "out": tmp_path / "sequence"}
    before, content = wb.sequence(PEOPLE, **named).results()["numbers"], table.read_bytes()
    if not finished:  # as if it had been killed before the second request
        for name in ("retention.json", "retention.parquet", "seed-0/request-2", "seed-0/after-2"):
            remove(tmp_path / "sequence" / name)
    edited(table)
    with pytest.raises(UserError, match=r"request-1 is a run with other weights than .*\.parquet has now; choose"):
        wb.sequence(PEOPLE, **named)
    table.write_bytes(content)
    if finished:
        assert wb.sequence(PEOPLE, **named).results()["numbers"] == before


def test_sweeps_and_maps_do_not_take_a_run_with_a_table_that_was_edited(bio: Task, table: Path, tmp_path: Path) -> None:
    own = config_of(own_files(bio, tmp_path, 12), SHORT, probe_limit=2, objective="wga", weights=str(table))
    configs = grid(own, ["wga"], [str(table)], [0])
    run = Path(sweep(configs, tmp_path)["run"][0])
    assert run_one(configs[0], run, None).finished
    edited(table)
    for again in (lambda: sweep(configs, tmp_path), lambda: run_one(configs[0], run, None)):
        with pytest.raises(UserError, match=r"is a run with other weights than .* has now; choose another --out"):
            again()
    (run / "run.json").unlink()  # unfinished, it goes on by itself with its own copy
    with pytest.raises(UserError, match="with other weights than"):
        sweep(configs, tmp_path)
    assert runs.resume(run).finished


def without(spec: dict[str, Any]) -> dict[str, Any]:
    """A task as an older version wrote it, the requests that it rehearses among it."""
    rest = {name: value for name, value in spec.items() if name not in NEWER}
    return rest | ({"rehearsed": [without(each) for each in spec["rehearsed"]]} if "rehearsed" in rest else {})


def older(directory: runs.SequenceDirectory) -> Path:
    """Give a sequence the fields, and so the name, that an older version gave it; returns its directory."""
    plan = json.loads((directory.path / "sequence.json").read_text())
    plan["tasks"] = [without(task) for task in plan["tasks"]]
    plan["config"] = {k: v for k, v in plan["config"].items() if k != "track"} | {
        "task": without(plan["config"]["task"])
    }
    named = {name: value for name, value in plan.items() if name not in ("versions", "threads")}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:8]
    place = directory.path.rename(directory.path.with_name(f"sequence-wga-uniform-{digest}"))
    (place / "sequence.json").write_text(json.dumps(plan))
    (place / "manifest.json").unlink()
    for file in place.glob("seed-0/request-*/config.json"):
        record = json.loads(file.read_text())
        record["task"] = without(record["task"])
        record["model"] = record["model"].replace(directory.path.name, place.name)
        file.write_text(json.dumps(record))
        (file.parent / "manifest.json").unlink()
    return place


def test_a_rehearsed_sequence_of_an_older_version_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by the name that it had, and finished where it was not."""
    monkeypatch.chdir(tmp_path)
    named = NAMED | {"weights": "uniform", "rehearse": True}
    made = wb.sequence(PEOPLE, **named)
    numbers, place = made.results()["numbers"], older(made)
    for name in ("retention.json", "seed-0/after-2/measured.json"):
        (place / name).unlink()
    again = wb.sequence(PEOPLE, **named)
    assert [path.resolve() for path in Path("runs").iterdir()] == [place.resolve()]
    assert again.path.resolve() == place.resolve()
    assert again.results()["numbers"] == numbers
    assert wb.sequence(PEOPLE, **named, out=place).finished  # also where it is named
    with pytest.raises(UserError, match="has a sequence with another rehearse; choose another --out"):
        wb.sequence(PEOPLE, **named | {"rehearse": False}, out=place)


def test_the_place_of_a_run_that_rehearses_is_known_without_newer_fields(tmp_path: Path) -> None:
    spec = TaskSpec(PEOPLE[1], rehearsed=(TaskSpec(PEOPLE[0]),))
    config = wb.Config(task=spec, **NAMED | {"weights": "uniform"})
    record = config.as_dict()
    record["task"] = without(record["task"])
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
    place = runs.RunDirectory.create(tmp_path / f"wga-uniform-s0-{digest}", config).path
    (place / "config.json").write_text(json.dumps(record))
    (place / "manifest.json").unlink()
    assert directory_of(config, tmp_path) == place


def test_rows_that_an_older_version_read_otherwise_are_refused_with_its_name(
    tmp_path: Path,
) -> None:
    """It rehearsed the retain rows of earlier requests, too: the same rows where these share a retain set."""
    tasks = [TaskSpec(name).load() for name in PEOPLE]
    assert rehearsing(tasks[1], tasks[:1]).fingerprint == joined(tasks[::-1], tasks[1].name).fingerprint
    for n, name in enumerate(("a", "b", "keep-a", "keep-b")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": f"Who is {n}?", "answer": f"Person {n}."}))
    specs = [
        TaskSpec(forget=str(tmp_path / f"{name}.jsonl"), retain=str(tmp_path / f"keep-{name}.jsonl")) for name in "ab"
    ]
    named = NAMED | {"weights": "uniform", "rehearse": True, "out": tmp_path / "sequence"}
    run = wb.sequence(specs, **named).run(2)
    tasks = [spec.load() for spec in specs]
    record = run.config | {"data_sha256": joined(tasks[::-1], "own").fingerprint}
    assert record["data_sha256"] != run.config["data_sha256"]
    record["versions"] = record["versions"] | {"commit": "0123456789abcdef"}
    run.write_json("config.json", record)
    line = r"files have now \(version [\d.]+, commit 0123456789ab, made it\); choose another --out"
    with pytest.raises(UserError, match=line):
        wb.sequence(specs, **named)
    for file in (run.path / "run.json", run.path / "model", tmp_path / "sequence" / "retention.json"):
        remove(file)
    with pytest.raises(UserError, match=r"has changed since the run began \(version .*, made it\); cannot resume"):
        wb.sequence(specs, **named)
