"""The state of a run between two steps."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from workbench.cost import Ledger


@dataclass
class Checkpoint:
    """All that the next step depends on, and what was recorded so far.

    Attributes:
        step: steps done.
        alpha: weight of the retain loss.
        micro_batch_size: samples computed at once, where that is less than a process's share of the batch; else 0.
        parameters: trained parameters by name.
        optimizer: AdamW's state as `<parameter index>.<entry>`.
        scorer: state of the live scorer; empty without one.
        skipping: state of saturation skipping, and the contexts that sparse steps keep; empty without them.
        scores: recorded token scores.
        ledger: costs so far.
    """

    step: int
    alpha: float
    micro_batch_size: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    scorer: dict[str, Tensor]
    skipping: dict[str, Tensor]
    scores: pd.DataFrame
    ledger: Ledger
