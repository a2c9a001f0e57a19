"""The leaderboard's judgement: no winner within the noise, and no run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import leaderboard_page
import pytest
from leaderboard import describe
from many_runs import Rows


def rows(objective: str, weights: str, scores: list[float]) -> list[dict[str, Any]]:
    job = {"objective": objective, "weights": weights, "lr": 1e-3, "gamma": 1.0}
    return [job | dict.fromkeys(leaderboard_page.COLUMNS, score) | {"seed": i} for i, score in enumerate(scores)]


def test_no_winner_within_the_noise() -> None:
    near = [
        *rows("npo", "uniform", [0.6, 0.7, 0.8]),
        *rows("wga", "uniform", [0.5, 0.6, 0.61]),
    ]
    assert leaderboard_page.verdict(leaderboard_page.cells(near)).startswith("No single winner")
    apart = [*rows("npo", "uniform", [0.7, 0.8]), *rows("wga", "uniform", [0.5, 0.69])]
    assert leaderboard_page.verdict(leaderboard_page.cells(apart)).startswith("npo + uniform leads")


def test_weights_are_compared_with_uniform_by_their_ranges() -> None:
    cells = leaderboard_page.cells(
        [
            *rows("npo", "uniform", [0.5, 0.6]),
            *rows("npo", "atwu", [0.7, 0.8]),
            *rows("npo", "spans", [0.55, 0.9]),
        ]
    )
    assert leaderboard_page.against_uniform(cells) == ["- `npo`: atwu better by 0.200, spans within the noise"]


def test_cells_hold_mean_and_range_and_failed_runs_have_none() -> None:
    good = rows("npo", "uniform", [0.5, 0.7])
    bad = [{"objective": "dpo", "weights": "atwu", "lr": 1e-3, "gamma": 1.0, "seed": 0, "failed": "why", "score": 0.0}]
    best, worst = leaderboard_page.cells([*bad, *good])
    assert best["score"] == pytest.approx({"mean": 0.6, "low": 0.5, "high": 0.7})
    assert (worst["score"], worst["failed"]) == (None, "why")
    assert leaderboard_page.spread(worst["score"]) == "not available"


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    done: list[dict[str, Any]] = []

    class Pool:
        def run(self, function: Any, jobs: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
            done.extend(jobs)
            return [(job, job | {"score": 0.5, "forget": 0.1, "retain": 1.0}) for job in reversed(jobs)]

    jobs = [{"objective": "npo", "weights": "uniform", "lr": 1e-3, "gamma": 1.0, "seed": seed} for seed in range(3)]
    path = tmp_path / "rows.jsonl"
    options = {"model": "bio-full", "data_dir": "/somewhere/tofu"}
    Rows(path, lambda job: job, describe, options).run(Pool(), jobs[:2])
    elsewhere = options | {"data_dir": "/elsewhere/tofu"}
    rows_again = Rows(path, lambda job: job, describe, elsewhere).run(Pool(), jobs)
    assert done == jobs
    assert [row["seed"] for row in rows_again] == [0, 1, 2]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 1 + 3
    with pytest.raises(SystemExit, match="model bio-full, now smollm2"):
        Rows(path, lambda job: job, describe, options | {"model": "smollm2"})
