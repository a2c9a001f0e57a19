"""The script that kills real commands: it kills once, and it notices what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import kills
import pytest


def test_what_is_compared(tmp_path: Path) -> None:
    """Clocks and costs may differ; a number, a file that is missing, and one left half-written may not."""
    out = tmp_path / "a" / "out"
    out.mkdir(parents=True)
    (out / "events.jsonl").write_text('{"step": 1, "loss": 0.5, "seconds": 1.0}\n')
    (out / "summary.json").write_text('{"attacks": {"greedy": {"run": 0.5, "seconds": {"run": 1.0}}}}')
    (out / "job.json").write_text("{}")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = tmp_path / "b" / "out"
    (other / "events.jsonl").write_text('{"step": 1, "loss": 0.5, "seconds": 2.0}\n')
    (other / "summary.json").write_text('{"attacks": {"greedy": {"run": 0.5, "seconds": {"run": 3.0}}}}')
    (other / "job.json").unlink()
    assert kills.left(out) == kills.left(other)
    (other / "events.jsonl").write_text('{"step": 1, "loss": 0.25, "seconds": 1.0}\n')
    (tmp_path / "b" / ".out.7-0a.part").write_text("half")
    differ = {name for name, each in kills.left(other).items() if kills.left(out).get(name) != each}
    assert differ == {"out/events.jsonl", ".out.7-0a.part"}


@pytest.mark.slow
def test_a_kill_of_each_kind(tmp_path: Path) -> None:
    assert kills.main(["--single", str(len(kills.KINDS)), "--double", "1", "--work", str(tmp_path / "work")]) == 0
