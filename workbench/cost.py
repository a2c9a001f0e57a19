"""What a run costs: tokens, floating-point operations, seconds and memory by phase, counted from what ran."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass
class Phase:
    """Sums over the calls of one phase.

    Attributes:
        calls: how often it ran.
        tokens: tokens read and generated, without padding.
        flops: of matrix products, a multiply-add counted as 2, on padding too since it is computed. Elementwise work
            and the optimiser's update are not counted.
        seconds: wall-clock time.
        peak_bytes: on a GPU the most memory that torch's allocator held during any call. A CPU has only one mark for
            the whole process, which never falls: there it is the process's highest resident memory up to the end of
            the phase's last call, whichever phase needed it.
    """

    calls: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0

    def add(self, other: Phase) -> None:
        """Add another phase's sums to these, and keep the higher of the peaks."""
        self.calls += other.calls
        self.tokens += other.tokens
        self.flops += other.flops
        self.seconds += other.seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)


@dataclass(eq=False)
class _Open:
    """A phase that is still going on: since when, the seconds its inner phases took, and the GPU's peak since then."""

    phase: Phase
    since: float
    inner: float = 0.0
    gpu_peak: int = 0


_open_phases: list[_Open] = []  # of all ledgers: they share the GPU's allocator, which has a single peak


def _update_gpu_peaks() -> None:
    """Note the allocator's peak for every open phase, and reset it."""
    if cuda := _cuda():
        peak = int(cuda.max_memory_allocated())
        for each in _open_phases:
            each.gpu_peak = max(each.gpu_peak, peak)
        cuda.reset_peak_memory_stats()


def _cuda() -> Any:
    """`torch.cuda` where a GPU is in use, else None. It never loads torch: reading a ledger does not need it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


@dataclass
class Ledger:
    """Costs by phase; seconds are wall-clock, and a run's phases together are its whole time.

    A GPU still works while the processor is in a later phase: the sum is right there, its parts are not exact.

    The phases of a run are `startup` (imports), `loading`, `probes`, `scoring`, `reference`, `context` (of sparse
    steps), `forget` and `retain` (forward passes), `backward`, `scorer` (its learning), `optimizer`, `recording` (of
    token scores), `checkpoint`, `tracking` (events), `saving`, and `other` (everything else). `lost` are the steps
    after the checkpoint from which a killed run was resumed.
    """

    phases: dict[str, Phase] = field(default_factory=dict)
    _open: list[_Open] = field(default_factory=list, repr=False, compare=False)

    @contextmanager
    def phase(self, name: str, *, calls: int = 1) -> Iterator[Phase]:
        """Time a phase; the body adds tokens and flops to the entry it gets. `calls=0` continues the last call.

        Phases may be nested: the time of an inner one does not count for the outer one.
        """
        entry = self.phases.setdefault(name, Phase())
        _update_gpu_peaks()
        current = _Open(entry, time.perf_counter())
        self._open.append(current)
        _open_phases.append(current)
        try:
            yield entry
        finally:
            self._open.remove(current)
            seconds = time.perf_counter() - current.since
            if self._open:
                self._open[-1].inner += seconds
            _update_gpu_peaks()
            _open_phases.remove(current)
            entry.add(Phase(calls, seconds=seconds - current.inner, peak_bytes=current.gpu_peak or peak_memory()))

    @contextmanager
    def shared(self, tokens: dict[str, int]) -> Iterator[Phase]:
        """Time one computation for several phases: what the body adds, and the seconds, are split by their tokens."""
        (first_name, _), *others = tokens.items()
        with self.phase(first_name) as first:
            before = replace(first)
            yield first
        flops, seconds = first.flops - before.flops, first.seconds - before.seconds
        for name, count in others:
            share = count / sum(tokens.values())
            part = Phase(1, count, share * flops, share * seconds, first.peak_bytes)
            self.phases.setdefault(name, Phase()).add(part)
            first.tokens -= part.tokens
            first.flops -= part.flops
            first.seconds -= part.seconds

    def add(self, other: Ledger) -> None:
        """Add another ledger's phases to these."""
        for name, phase in other.phases.items():
            self.phases.setdefault(name, Phase()).add(phase)

    def now(self) -> dict[str, Phase]:
        """The phases as they stand, with the time so far of those that still go on."""
        phases = {name: replace(phase) for name, phase in self.phases.items()}
        names = {id(phase): name for name, phase in self.phases.items()}
        until = time.perf_counter()
        for current in reversed(self._open):
            phases[names[id(current.phase)]].seconds += until - current.since - current.inner
            until = current.since
        return phases

    @property
    def total(self) -> Phase:
        """The sum over all phases."""
        total = Phase()
        for phase in self.now().values():
            total.add(phase)
        return total

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
    """Bytes: the most that the GPU's allocator has held, or on a CPU the highest resident memory of this process."""
    if (cuda := _cuda()) and cuda.max_memory_allocated():
        return int(cuda.max_memory_allocated())
    with contextlib.suppress(OSError, IndexError):  # Linux; `ru_maxrss` would include the process that started this one
        high_water = Path("/proc/self/status").read_bytes().partition(b"VmHWM:")[2]
        return int(high_water.split(None, 1)[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
