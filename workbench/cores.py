"""How many of a machine's cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores of the machine, of this process's affinity, or of its control group's quota: the fewest, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> list[float]:
    """Cores that the process's control groups allow, of version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`)."""
    quotas = []
    with contextlib.suppress(OSError):
        for line in OWN.read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            root = CGROUPS / "cpu" if kinds else CGROUPS
            own = root / name.lstrip("/")
            for folder in [own, *own.parents]:  # a group's quota holds for all groups in it
                quotas += _quota(folder)
                if folder == root:
                    break
    return quotas


def _quota(folder: Path) -> list[float]:
    """The quota of one control group, if it has one."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            quota, period = map(float, (folder / "cpu.max").read_text().split())  # "max": not a number
        else:
            quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return [quota / period] if quota > 0 else []
    return []


def wait_passively() -> None:
    """Let threads that have nothing to do sleep; it holds for this process if torch is not loaded yet.

    OpenMP's threads otherwise spin for a while between two operations. On a machine that others use too, they spin away
    the time that the working ones need.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
