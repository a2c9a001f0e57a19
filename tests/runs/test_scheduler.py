"""Workers: every result once, whatever worker is killed; what kills its workers again and again is given up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from workbench.runs import scheduler
from workbench.runs.scheduler import WorkerDied, Workers

_prepared: list[str] = []


def prepare(word: str) -> None:
    _prepared.append(word)


def work(item: tuple[str, int]) -> int:
    """The square of a number; 3 kills its worker at the first attempt, 4 at every one."""
    folder, number = Path(item[0]), item[1]
    attempt = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{attempt}").touch()
    if number == 4 or (number == 3 and not attempt):
        os.kill(os.getpid(), signal.SIGKILL)
    assert _prepared == ["once"]
    return number**2


def test_a_killed_worker_s_item_is_redone_and_in_the_end_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "ATTEMPTS", 2)
    items = [(str(tmp_path), number) for number in (3, 1, 4, 2)]
    with Workers(1, prepare, "once") as workers:
        results = {item[1]: result for item, result in workers.run(work, items)}
        assert list(workers.run(work, items[1:2])) == [(items[1], 1)]
    assert {n: r for n, r in results.items() if n != 4} == {1: 1, 2: 4, 3: 9}
    assert isinstance(results[4], WorkerDied)
    assert "died 2 times" in str(results[4])
    assert len(list(tmp_path.glob("4-*"))) == 2
