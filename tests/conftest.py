"""Shared fixtures: the embedded task and models, and where the data for benchmarks may lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from widget_page import browser

from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.runs import scheduler
from workbench.tasks.samples import Task
from workbench.tasks.spec import TaskSpec

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start: two workers leave them no more
LONGEST = ("test_notebooks", "test_jobs", "test_processes", "test_runs", "test_attribution", "test_demo", "test_sweep")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no worker is left alone with one at the end."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def compare(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Compare numbers with those of a plain re-derivation; the largest difference goes into the table at the end."""

    def differences(name: str, ours: Any, theirs: Any, *, rel: float = 1e-4, abs: float = 1e-6) -> None:
        values, expected = (np.asarray(each, dtype=float).ravel() for each in (ours, theirs))
        np.testing.assert_allclose(values, expected, rtol=rel, atol=abs, err_msg=name)
        record_property("oracle", [name, len(values), float(np.abs(values - expected).max(initial=0))])

    return differences


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the oracle tests compared: the largest difference of each name over all tests, from every worker."""
    largest: dict[str, tuple[int, float]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, count, difference in (value for key, value in report.user_properties if key == "oracle"):
            numbers, most = largest.get(name, (0, 0.0))
            largest[name] = numbers + count, max(most, difference)
    if largest:
        terminalreporter.section("largest differences from plain re-derivations")
    for name, (numbers, most) in sorted(largest.items()):
        terminalreporter.write_line(f"{name:58} {numbers:6} numbers   {most:.1e}")


@pytest.fixture(scope="session")
def bio() -> Task:
    return TaskSpec("biographies").load()


@pytest.fixture(scope="session")
def small(bio: Task) -> Task:
    """A few samples of each set: enough for every code path, quick to run."""
    sizes = {"forget": 12, "retain": 12, "neighbours": 6, "general": 4, "train_extra": 4}
    return replace(bio, sets={name: bio.sets[name][:size] for name, size in sizes.items()})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="session")
def full() -> LanguageModel:
    """The model that knows everybody. Tests must not change it: `unlearn` copies."""
    return load("bio-full", device="cpu")


@pytest.fixture(scope="session")
def retained() -> LanguageModel:
    """The model that never saw the people to forget."""
    return load("bio-retain", device="cpu")


@pytest.fixture(scope="session")
def tofu_dir() -> Path:
    if not (SHARED / "tofu" / "forget01.json").exists():
        pytest.skip("the official TOFU files are not beside the repository (shared/data/tofu)")
    return SHARED / "tofu"


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs start in processes that have the libraries loaded."""
    monkeypatch.setattr(scheduler, "subprocess", forked)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a pool have the libraries loaded."""
    monkeypatch.setattr("multiprocessing.get_context", lambda method: forked.CONTEXT)


@pytest.fixture
def own(small: Task, tmp_path: Path) -> list[str]:
    """Options that name a small task in files of one's own."""
    words = []
    for name in ("forget", "retain"):
        path = tmp_path / f"{name}.jsonl"
        keys = ("id", "question", "answer", "spans")
        path.write_text("".join(json.dumps({k: getattr(s, k) for k in keys}) + "\n" for s in small.sets[name]))
        words += [f"--{name}", str(path)]
    return words
