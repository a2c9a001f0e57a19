"""The leaderboard's judgement: no winner within the noise, and no run twice."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[1] / "benchmarks" / "leaderboard.py"


@pytest.fixture(scope="module")
def leaderboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("leaderboard", HOME)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(module: ModuleType, objective: str, weights: str, scores: list[float]) -> list[dict[str, Any]]:
    job = {"objective": objective, "weights": weights, "lr": 1e-3, "gamma": 1.0}
    return [job | dict.fromkeys(module.COLUMNS, score) | {"seed": i} for i, score in enumerate(scores)]


def test_no_winner_within_the_noise(leaderboard: ModuleType) -> None:
    near = [
        *rows(leaderboard, "npo", "uniform", [0.6, 0.7, 0.8]),
        *rows(leaderboard, "wga", "uniform", [0.5, 0.6, 0.61]),
    ]
    assert leaderboard.verdict(leaderboard.cells(near)).startswith("No single winner")
    apart = [*rows(leaderboard, "npo", "uniform", [0.7, 0.8]), *rows(leaderboard, "wga", "uniform", [0.5, 0.69])]
    assert leaderboard.verdict(leaderboard.cells(apart)).startswith("npo + uniform leads")


def test_weights_are_compared_with_uniform_by_their_ranges(leaderboard: ModuleType) -> None:
    found = leaderboard.cells(
        [
            *rows(leaderboard, "npo", "uniform", [0.5, 0.6]),
            *rows(leaderboard, "npo", "atwu", [0.7, 0.8]),
            *rows(leaderboard, "npo", "spans", [0.55, 0.9]),
        ]
    )
    assert leaderboard.against_uniform(found) == ["- `npo`: atwu better by 0.200, spans within the noise"]


def test_cells_hold_mean_and_range_and_failed_runs_have_none(leaderboard: ModuleType) -> None:
    good = rows(leaderboard, "npo", "uniform", [0.5, 0.7])
    bad = [{"objective": "dpo", "weights": "atwu", "lr": 1e-3, "gamma": 1.0, "seed": 0, "failed": "why", "score": 0.0}]
    best, worst = leaderboard.cells([*bad, *good])
    assert best["score"] == pytest.approx({"mean": 0.6, "low": 0.5, "high": 0.7})
    assert (worst["score"], worst["failed"]) == (None, "why")
    assert leaderboard.spread(worst["score"]) == "not available"


def test_what_is_finished_is_not_run_again(leaderboard: ModuleType, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    class Pool:
        def map(self, function: Any, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            asked.extend(jobs)
            return [job | {"score": 0.5, "forget": 0.1, "retain": 1.0} for job in jobs]

    jobs = [{"objective": "npo", "weights": "uniform", "lr": 1e-3, "gamma": 1.0, "seed": seed} for seed in range(3)]
    path = tmp_path / "rows.jsonl"
    leaderboard.Rows(path).run(Pool(), jobs[:2])
    found = leaderboard.Rows(path).run(Pool(), jobs)
    assert asked == jobs
    assert [row["seed"] for row in found] == [0, 1, 2]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 3
