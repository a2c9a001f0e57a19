"""What a run costs: tokens, floating-point operations and seconds by phase, counted from what ran."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from workbench.models import LanguageModel
from workbench.tokens import TokenBatch


@dataclass
class Phase:
    """Sums over the calls of one phase. `tokens` leaves padding out; `flops` counts it, since it is computed."""

    calls: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0


def forward_flops(lm: LanguageModel, batch: TokenBatch) -> float:
    """Multiply-adds (as 2 each) of one forward with logits at answer positions only.

    2 x decoder weights x positions + 4 x layers x L^2 x width (attention, per sample) + 2 x width x vocabulary x
    answer tokens.
    """
    config = lm.module.config
    decoder = sum(p.numel() for p in lm.module.get_decoder().parameters() if p.dim() > 1)
    embeddings = lm.module.get_input_embeddings().weight.numel()
    rows, length = batch.input_ids.shape
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    body = 2.0 * (decoder - embeddings) * rows * length
    attention = 4.0 * config.num_hidden_layers * rows * length**2 * width
    head = 2.0 * lm.module.get_output_embeddings().weight.numel() * len(batch.rows)
    return body + attention + head


@dataclass
class Ledger:
    """Costs by phase (forget, retain, scorer, reference, scoring, probes, optimizer, checkpoint).

    A backward costs twice its forward. Seconds are wall-clock.
    """

    phases: dict[str, Phase] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Time a phase; the body adds tokens and flops to what it gets."""
        entry = self.phases.setdefault(name, Phase())
        start = time.perf_counter()
        try:
            yield entry
        finally:
            entry.seconds += time.perf_counter() - start
            entry.calls += 1

    @property
    def total(self) -> Phase:
        """The sum over all phases."""
        out = Phase()
        for phase in self.phases.values():
            out = Phase(
                out.calls + phase.calls,
                out.tokens + phase.tokens,
                out.flops + phase.flops,
                out.seconds + phase.seconds,
            )
        return out

    def as_dict(self) -> dict[str, Any]:
        """The content of `cost.json`."""
        phases = {name: asdict(phase) for name, phase in self.phases.items()}
        return {"phases": phases, "total": asdict(self.total), "peak_memory_bytes": peak_memory()}

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
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
