"""Checkpoints of a run: all that its next step depends on, written whole or not at all; the newest few are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
from torch import Tensor

from workbench.cost import Ledger
from workbench.files import writing
from workbench.unlearning import Checkpoint

FOLDER = "checkpoints"


def save_checkpoint(run: Path, state: Checkpoint, keep: int) -> None:
    """Write a checkpoint and drop all but the newest `keep`.

    It holds, as safetensors, what is trained (parameters or adapter), the scorer, the optimiser's moments and the state
    of skipping; the recorded scores; and as JSON the step, retain weight, micro-batch size and costs. The rest follows
    from the step and the settings: learning rate, place in the data, random state.
    """
    from safetensors.torch import save_file

    target = run / FOLDER / f"step-{state.step:06d}"
    if target.exists():  # resumed there, and stopped before the next step
        return
    with state.ledger.phase("checkpoint"), writing(target) as aside:
        aside.mkdir()
        for name in ("parameters", "optimizer", "scorer", "skipping"):
            save_file(getattr(state, name), aside / f"{name}.safetensors")
        state.scores.to_parquet(aside / "scores.parquet", index=False)
        record = {"step": state.step, "alpha": state.alpha, "micro_batch": state.micro_batch_size}
        (aside / "state.json").write_text(json.dumps(record | {"cost": state.ledger.as_dict()}))
    for old in sorted((run / FOLDER).glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint."""
    return max((run / FOLDER).glob("step-*"), default=None)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The state that a checkpoint holds."""
    from safetensors.torch import load_file

    def tensors(name: str) -> dict[str, Tensor]:
        # Copied: a file's tensors are unaligned in memory, and AdamW's last bits depend on alignment.
        if not (folder / f"{name}.safetensors").exists():  # an older version had no such part
            return {}
        return {key: value.clone() for key, value in load_file(folder / f"{name}.safetensors").items()}

    record = json.loads((folder / "state.json").read_text())
    return Checkpoint(
        step=record["step"],
        alpha=record["alpha"],
        micro_batch_size=record["micro_batch"],
        parameters=tensors("parameters"),
        optimizer=tensors("optimizer"),
        scorer=tensors("scorer"),
        skipping=tensors("skipping"),
        scores=pd.read_parquet(folder / "scores.parquet"),
        ledger=Ledger.from_dict(record["cost"]),
    )
