"""Workers: every result once, whatever worker is killed; what kills its workers again and again is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from runs_of import wait_until

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


@pytest.mark.usefixtures("forked_workers")
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


SLEEPER = """
import sys, time
from pathlib import Path
from workbench.runs.scheduler import Workers
with Workers(1, Path.touch, Path(sys.argv[1])) as workers:
    list(workers.run(time.sleep, [600]))
"""


def test_workers_end_with_the_process_that_was_killed(tmp_path: Path) -> None:
    """Else a run would go on, locked, beside the sweep that is begun again."""
    parent = subprocess.Popen([sys.executable, "-c", SLEEPER, str(tmp_path / "ready")])
    wait_until((tmp_path / "ready").exists)
    workers = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert workers
    assert not psutil.wait_procs(workers, timeout=60)[1]
