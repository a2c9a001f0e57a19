"""What a test starts in several processes: runs in float64, their events and scores into a folder.

OWN OUT PAIRS, as JSON but for the folder: a task's files, and the pairs of objective and weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.models.distributed import processes
from workbench.models.load import load
from workbench.models.sharding import shard
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

PAIRS = (("atwu", "atwu"), ("npo", "learned"), ("wga", "surprisal"))
SETTINGS = Settings(steps=4, batch_size=8, lr=1e-3, record_every=2, retain_loss="kl")


def run_pairs(
    own: dict[str, str], out: Path, settings: Settings = SETTINGS, pairs: Sequence[Sequence[str]] = PAIRS
) -> None:
    """A run of each pair of objective and weights; each process holds a share of the weights where they say so."""
    for objective, weights in pairs:
        lm = load("bio-full", device="cpu")
        lm = shard(lm, "cpu") if processes().sharded else lm
        lm.module.double()  # AdamW divides by the gradient's size: in float32 rounding of small gradients would show
        run = unlearn(lm, TaskSpec(**own).load(), objective, weights, settings=settings, in_place=True)
        if processes().main:
            (out / f"{objective}.json").write_text(json.dumps(run.events))
            run.scores.to_parquet(out / f"{objective}.parquet")


if __name__ == "__main__":
    run_pairs(json.loads(sys.argv[1]), Path(sys.argv[2]), pairs=json.loads(sys.argv[3]))
