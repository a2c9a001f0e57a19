"""Checkpoints of a run: all that its next step depends on, written whole or not at all; the newest few are kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.files import remove, writing
from workbench.runs.records import MANIFEST, Damaged, entries, read_json, record, verify
from workbench.scorers import read_scores
from workbench.unlearning import Checkpoint

FOLDER = "checkpoints"
NAME = re.compile(r"step-(\d+)")
PARTS = ("parameters", "optimizer", "scorer", "skipping")


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read.

    Attributes:
        state: of the run.
        events: sha256 of the run's events up to there; None in a checkpoint of an older version.
        damaged: newer checkpoints that cannot be used, each with why.
    """

    state: Checkpoint | None
    events: str | None
    damaged: dict[Path, str]


def save_checkpoint(run: Path, state: Checkpoint, keep: int, events: str | None = None) -> None:
    """Write a checkpoint and drop all but the newest `keep`.

    It holds, as safetensors, what is trained (parameters or adapter), the scorer, the optimiser's moments and the state
    of skipping; the recorded scores; as JSON the step, retain weight, micro-batch size, costs and `events`, the sha256
    of the events up to there; and the sha256 of all of these files. The rest follows from the step and the settings:
    learning rate, place in the data, random state.
    """
    from safetensors.torch import save_file

    target = run / FOLDER / f"step-{state.step:06d}"
    if target.exists():  # resumed there, and stopped before the next step
        return
    with state.ledger.phase("checkpoint"), writing(target) as aside:
        aside.mkdir()
        for name in PARTS:
            save_file(getattr(state, name), aside / f"{name}.safetensors")
        state.scores.to_parquet(aside / "scores.parquet", index=False)
        numbers: dict[str, Any] = {"step": state.step, "alpha": state.alpha, "micro_batch": state.micro_batch_size}
        numbers |= {"cost": state.ledger.as_dict()} | ({"events": events} if events else {})
        (aside / "state.json").write_text(json.dumps(numbers))
        record(aside, entries(aside, ""))
    for old in folders(run)[:-keep]:
        remove(old)


def folders(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; by number, since a million has a digit more than the others."""
    steps = {int(name[1]): path for path in (run / FOLDER).glob("step-*") if (name := NAME.fullmatch(path.name))}
    return [steps[step] for step in sorted(steps)]


def latest_checkpoint(run: Path, before: int | None = None) -> Path | None:
    """The newest checkpoint, or the newest before a step."""
    early = [path for path in folders(run) if before is None or int(path.name.removeprefix("step-")) < before]
    return early[-1] if early else None


def newest_intact(run: Path) -> Saved:
    """The newest checkpoint that is as it was written; without one the run begins again."""
    damaged: dict[Path, str] = {}
    for folder in reversed(folders(run)):
        try:
            state = read_checkpoint(folder)
            return Saved(state, read_json(folder / "state.json").get("events"), damaged)
        except Damaged as error:
            damaged[folder] = f"{error.path.name}: {error.what}"
    return Saved(None, None, damaged)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The state that a checkpoint holds.

    Raises:
        Damaged: a file is missing, or is not what was written.
        UserError: a file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    verify(folder, "")
    older = not (folder / MANIFEST).exists()

    def tensors(name: str) -> dict[str, Tensor]:
        file = folder / f"{name}.safetensors"
        if older and name in PARTS[2:] and not file.exists():  # an older version had no such part
            return {}
        # Copied: a file's tensors are unaligned in memory, and AdamW's last bits depend on alignment.
        return {key: value.clone() for key, value in load_file(file).items()}

    try:
        numbers = read_json(folder / "state.json")
        state = Checkpoint(
            step=numbers["step"],
            alpha=numbers["alpha"],
            micro_batch_size=numbers["micro_batch"],
            **{name: tensors(name) for name in PARTS},
            scores=read_scores(folder / "scores.parquet"),
            ledger=Ledger.from_dict(numbers["cost"]),
        )
    except FileNotFoundError as error:
        raise Damaged(Path(error.filename or folder), "it is missing") from None
    except SafetensorError as error:
        raise Damaged(folder, f"no safetensors ({error})") from None
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    except Damaged:
        raise
    except UserError as error:
        raise Damaged(folder / "scores.parquet", str(error).removeprefix(f"{folder / 'scores.parquet'}: ")) from None
    if not state.parameters or (state.step and not state.optimizer):
        raise Damaged(folder, "it holds no parameters or no state of the optimiser")
    return state
