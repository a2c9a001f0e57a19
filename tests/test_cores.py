"""How many cores a process may use: affinity and the quotas of control groups, of both versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_it_is_the_affinity(machine: Path) -> None:
    assert cores.usable_cores() == 32
    write(machine / "own", "0::/a/b\n")
    write(machine / "a/b/cpu.max", "max 100000\n")
    assert cores.usable_cores() == 32


def test_the_smallest_quota_on_the_way_up_counts_rounded_up(machine: Path) -> None:
    write(machine / "own", "0::/a/b\n")
    write(machine / "a/b/cpu.max", "max 100000\n")
    write(machine / "a/cpu.max", "150000 100000\n")
    assert cores.usable_cores() == 2
    write(machine / "cpu.max", "20000 100000\n")
    assert cores.usable_cores() == 1


def test_quotas_of_version_1(machine: Path) -> None:
    write(machine / "own", "4:memory:/x\n3:cpu,cpuacct:/box\n")
    write(machine / "cpu/box/cpu.cfs_quota_us", "400000\n")
    write(machine / "cpu/box/cpu.cfs_period_us", "100000\n")
    write(machine / "cpu/cpu.cfs_quota_us", "-1\n")
    write(machine / "cpu/cpu.cfs_period_us", "100000\n")
    assert cores.usable_cores() == 4


def test_threads_are_no_more_than_the_cores_and_wait_asleep(tmp_path: Path) -> None:
    """Loading sets them before it looks for the model, of which there is none here: transformers takes seconds."""
    code = (
        "import os, workbench; from workbench import cores; cores.usable_cores = lambda: 1\n"
        "from workbench.models import load; import contextlib, torch\n"
        f"with contextlib.suppress(workbench.UserError): load({str(tmp_path)!r}, device='cpu')\n"
        "print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "PASSIVE"]
    more = environment | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=more)
    assert done.stdout.split() == ["2", "ACTIVE"]
