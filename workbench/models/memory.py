"""Memory of a device: what is free, and whether an error says that it has run out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    pass


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device; on a CPU within the limit of the process's control group, if any."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for its next use
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        limit = int((group / "memory.max").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(counts.get("inactive_file", 0))  # a mere cache
        free = min(free, limit - used)
    return max(free, 0)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory could not be had, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
