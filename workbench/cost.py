"""What a run costs: tokens, floating-point operations, seconds and memory by phase, counted from what ran."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch


@dataclass
class Phase:
    """Sums over the calls of one phase. `tokens` leaves padding out; `flops` counts it, since it is computed.

    `flops` are matrix products (a multiply-add is 2): elementwise work and the optimiser's update are not in it.
    `peak_bytes` is the most memory held during any call, 0 where the system does not tell.
    """

    calls: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0

    def plus(self, other: Phase) -> Phase:
        """The sum of both, and the higher of the peaks."""
        return Phase(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.flops + other.flops,
            self.seconds + other.seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


class _Watch:
    """The most memory held since it began. Watches may be nested: an inner one hands its peak on."""

    open: ClassVar[list[_Watch]] = []

    def __init__(self) -> None:
        self.peak = 0
        for outer in self.open:
            outer.peak = max(outer.peak, _peak_since_reset())
        _reset_peak()
        self.open.append(self)

    def close(self) -> int:
        """The peak in bytes, 0 where it is not known."""
        self.peak = max(self.peak, _peak_since_reset())
        self.open.remove(self)
        for outer in self.open:
            outer.peak = max(outer.peak, self.peak)
        return self.peak


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_most_resident = 0  # what was read before a reset: `ru_maxrss` forgets it on some kernels


def _reset_peak() -> None:
    """Begin to look for the highest memory anew: of the GPU's allocator, or resident (Linux only)."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        return
    global _most_resident
    _most_resident = max(_most_resident, _peak_since_reset())
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _peak_since_reset() -> int:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = _STATUS.read_bytes()
    except OSError:  # not Linux
        return 0
    found = status.partition(b"VmHWM:")[2].split(None, 1)
    return int(found[0]) * 1024 if found else 0


@dataclass(eq=False)
class _Open:
    """A phase that goes on: since when, and how much of it were inner phases that have ended."""

    phase: Phase
    since: float
    inner: float = 0.0


@dataclass
class Ledger:
    """Costs by phase; seconds are wall-clock, and a run's phases together are its whole time.

    A GPU works on while the processor is in a later phase already: there the sum is right, its parts are not exact.

    `startup` (imports), `loading`, `probes`, `scoring`, `reference`, `forget` and `retain` (forward passes),
    `backward`, `scorer` (its learning), `optimizer`, `recording` (of token scores), `checkpoint`, `tracking` (events),
    `saving`, `other` (what is in none of these); `lost` are the steps after the checkpoint that a killed run was
    resumed from.
    """

    phases: dict[str, Phase] = field(default_factory=dict)
    _open: list[_Open] = field(default_factory=list, repr=False, compare=False)

    @contextmanager
    def phase(self, name: str, *, calls: int = 1) -> Iterator[Phase]:
        """Time a phase; the body adds tokens and flops to what it gets. `calls=0` goes on with the last call.

        Phases may be nested: the time of an inner one is not the outer one's.
        """
        entry = self.phases.setdefault(name, Phase())
        mine = _Open(entry, time.perf_counter())
        self._open.append(mine)
        watch = _Watch()
        try:
            yield entry
        finally:
            self._open.remove(mine)
            took = time.perf_counter() - mine.since
            entry.seconds += took - mine.inner
            for outer in self._open[-1:]:
                outer.inner += took
            entry.calls += calls
            entry.peak_bytes = max(entry.peak_bytes, watch.close())

    @contextmanager
    def shared(self, parts: dict[str, int]) -> Iterator[Phase]:
        """Time one computation for several phases; each gets its part of what the body adds and of the seconds."""
        names, whole = list(parts), sum(parts.values())
        with self.phase(names[0]) as first:
            before = replace(first)
            yield first
        taken = replace(
            first, tokens=first.tokens - before.tokens, flops=first.flops - before.flops,
            seconds=first.seconds - before.seconds, calls=1,
        )  # fmt: skip
        for name in names[1:]:
            entry = self.phases.setdefault(name, Phase())
            share = parts[name] / whole
            given = replace(taken, tokens=parts[name], flops=share * taken.flops, seconds=share * taken.seconds)
            vars(entry).update(vars(entry.plus(given)))
            first.tokens -= given.tokens
            first.flops -= given.flops
            first.seconds -= given.seconds

    def add(self, other: Ledger) -> None:
        """Add another ledger's phases to these."""
        for name, phase in other.phases.items():
            entry = self.phases.setdefault(name, Phase())
            vars(entry).update(vars(entry.plus(phase)))  # in place: it may be open

    def now(self) -> dict[str, Phase]:
        """The phases as they stand, the time of those included that still go on."""
        found = {name: replace(phase) for name, phase in self.phases.items()}
        names = {id(phase): name for name, phase in self.phases.items()}
        later = time.perf_counter()
        for each in reversed(self._open):
            found[names[id(each.phase)]].seconds += later - each.since - each.inner
            later = each.since
        return found

    @property
    def total(self) -> Phase:
        """The sum over all phases."""
        out = Phase()
        for phase in self.now().values():
            out = out.plus(phase)
        return out

    def as_dict(self) -> dict[str, Any]:
        """The content of `cost.json`."""
        phases = {name: asdict(phase) for name, phase in self.now().items()}
        total = self.total
        return {"phases": phases, "total": asdict(total), "peak_memory_bytes": max(total.peak_bytes, peak_memory())}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Ledger:
        """The ledger that wrote `record`."""
        return cls({name: Phase(**phase) for name, phase in record["phases"].items()})


def peak_memory() -> int:
    """Bytes: the most the GPU's allocator has held, or on a CPU the most resident memory of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().rss)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit, _most_resident)
