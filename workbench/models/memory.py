"""Memory of a device: how much is free, and whether an error means that it has run out."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Free bytes of a device; on a CPU within the limit of the process's control group, if there is one."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # for torch's next use
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        limit = int((group / "memory.max").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(counts.get("inactive_file", 0))  # freed on demand
        free = min(free, limit - used)
    return max(free, 0)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory has run out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
