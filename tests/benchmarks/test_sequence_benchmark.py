"""The benchmark of sequences keeps its model in memory; its figures are those of `wb.sequence`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sequence
import sequence_table

import workbench as wb
from workbench.errors import UserError

ARGS: dict[str, Any] = {"model": "bio-full", "size": 1, "steps": 4, "steps_at_once": 4, "level": 0.5, "probe_every": 2}
ARGS |= {"limit": 18, "answers": 18, "lr": 1e-3, "chosen": "docs/findings/leaderboard.json"}


@pytest.mark.slow
def test_the_matrix_is_that_of_a_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "PEOPLE", 2)
    job = {"objective": "wga", "weights": "uniform", "seed": 0, "way": sequence.WAYS[0]}
    job["args"] = ARGS | {"runs": str(tmp_path / "rows")}
    row = sequence.one(job)
    made = made_by_command(job, tmp_path, stop_at="forget.fact_accuracy<=0.5", probe_every=2)
    assert measured_alike(row, made) == 12  # of two requests every state of every set
    assert row["steps"] == sum(made.run(n).steps for n in (1, 2))
    for metric, key in (("fact_accuracy", "reversal"), ("probability", "probability_back")):
        assert row[key] == pytest.approx(made.retention(metric).numbers()["reversal"]["value"], abs=1e-6)
    assert sequence.done(job) == row
    job["args"]["lr"] = 3e-4
    with pytest.raises(UserError, match="is of other options; choose another --runs"):
        sequence.done(job)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "weights", "options"),
    [("rehearsed", "uniform", {"rehearse": True}), ("carried", "atwu", {"scorer": "carried"})],
)
def test_options_are_those_of_a_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, weights: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(sequence, "PEOPLE", 2)
    job = {"objective": "wga", "weights": weights, "seed": 0, "way": way}
    job["args"] = ARGS | {"level": -1.0, "runs": str(tmp_path / "rows")}  # to the last step
    row = sequence.one(job)
    assert measured_alike(row, made_by_command(job, tmp_path, **options)) == 12
    assert row["steps"] == 8
    assert row["reached"] == 0


def made_by_command(job: dict[str, Any], folder: Path, **options: Any) -> wb.SequenceDirectory:
    """The same sequence as a user makes it."""
    return wb.sequence(
        sequence.order(0, 1), "bio-full", "wga", job["weights"], settings=sequence.settings_of(job, 4),
        probe_limit=18, device="cpu", out=folder / "sequence", **options,
    )  # fmt: skip


def measured_alike(row: dict[str, Any], made: wb.SequenceDirectory) -> int:
    """How many cells the benchmark measured, all of them as the sequence did."""
    mine = np.array([[np.nan if v is None else v for v in state] for state in row["matrix"]])
    theirs = made.retention("fact_accuracy").values[0][:, : mine.shape[1]]
    measured = np.isfinite(mine)
    assert (mine[measured] == theirs[measured]).all()
    return int(measured.sum())


def test_the_table_has_both_ways_with_mean_and_range() -> None:
    row = {"objective": "wga", "weights": "spans", "forget": 0.1, "steps": 12, "gflops": 3.2}
    rows = [
        row | {"way": way, "seed": seed, "erosion": 0.1 * seed, "reached": float(seed > 0 or way == sequence.WAYS[0])}
        for way in sequence.BOTH for seed in (0, 1, 2)
    ]  # fmt: skip
    lines = sequence.table(sequence.cells_of(rows)).splitlines()
    assert len(lines) == 3
    assert "| `wga` | spans | 3 | .10 | .10* | .10 (.00 to .20) | .10 (.00 to .20) |" in lines[2]
    assert (
        sequence_table.shown({"mean": -0.25, "low": -1.0, "high": -0.001}, 2)
        == "\N{MINUS SIGN}.25 (\N{MINUS SIGN}1.00 to .00)"
    )
    assert len(sequence.table(sequence.cells_of(rows[:3])).splitlines()) == 2  # nothing to compare with


def test_options_have_a_row_each_beside_the_plain_way() -> None:
    row = {"objective": "wga", "seed": 0, "forget": 0.1, "erosion": 0.2, "steps": 12, "gflops": 3.2, "reached": 1.0}
    row |= {"reversal": 0.0, "probability_back": 0.1, "spill_over": -0.1}
    ways = [("uniform", 0), ("uniform", 1), ("uniform", 2), ("spans", 0), ("spans", 1)]
    rows = [row | {"weights": weights, "way": sequence.WAYS[n]} for weights, n in ways]
    lines = sequence_table.options_table(sequence_table.cells_of(rows)).splitlines()
    assert [line.split(" | ")[1:3] for line in lines[2:]] == [["uniform", "one at a time"], ["uniform", "rehearsed"]]
    assert len(sequence_table.table(sequence_table.cells_of(rows)).splitlines()) == 4
    assert sequence_table.options_table(sequence_table.cells_of(rows[3:])) == ""


def test_each_seed_asks_for_everybody_once() -> None:
    people = [int(n) for name in sequence.order(1, 2) for n in name.split(":")[1].split(",")]
    assert sorted(people) == list(range(sequence.PEOPLE))
    assert sequence.order(1, 2) != sequence.order(2, 2)
