"""The configuration of a run: task, model, objective, token weights and settings."""

from __future__ import annotations

import platform
import secrets
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.objectives import objective, retain_loss
from workbench.runs.stopping import levels
from workbench.scorers import check_needs, load_scorer, read_scores
from workbench.tasks import TaskSpec
from workbench.unlearning import Settings, from_file, one_scorer


@dataclass(frozen=True)
class Config:
    """All that names a run: with it, and the same versions, the numbers come out the same.

    Attributes:
        task: what to forget and keep.
        model: model by name or path.
        objective: forget loss by name.
        weights: scorer by name, or the path of a score table or of a saved scorer.
        settings: the numbers.
        reference: model for scorers that need one.
        prompt: "chat" or "plain"; None leaves it to the model.
        device: None for a GPU where there is one.
        precision: None leaves it to the machine.
        probe_limit: probe at most so many samples a set.
        probe_every: steps between two probes during the run, of at most `PROBED_DURING` samples a set; 0: none.
        stop_at: levels such as "forget.fact_accuracy<=0.2,retain.fact_accuracy>=0.9": the run ends, finished, at the
            first of these probes that finds all of them. They are of few answers: those after the run, of all, may say
            otherwise. The learning rate falls as for all its steps.
        track: trackers that are told each step: tensorboard, trackio, wandb, mlflow.
    """

    task: TaskSpec
    model: str
    objective: str = "atwu"
    weights: str = "atwu"
    settings: Settings = field(default_factory=Settings)
    reference: str | None = None
    prompt: str | None = None
    device: str | None = None
    precision: str | None = None
    probe_limit: int | None = None
    probe_every: int = 0
    stop_at: str = ""
    track: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Config:
        """The configuration that `config.json` holds."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        known |= {"track": tuple(known.get("track", ()))}
        return cls(**{**known, "task": TaskSpec(**record["task"]), "settings": Settings(**record["settings"])})

    def as_dict(self) -> dict[str, Any]:
        """The configuration as JSON takes it."""
        return asdict(self)

    def check(self) -> None:
        """Raise for a name that does not exist, before anything is loaded or written."""
        objective[self.objective]
        retain_loss[self.settings.retain_loss]
        if self.probe_limit is not None and self.probe_limit < 1:
            raise UserError(f"probe_limit must be at least 1, not {self.probe_limit}")
        if self.probe_every < 0:
            raise UserError(f"probe_every must be at least 0, not {self.probe_every}")
        if levels(self.stop_at, "stop_at") and not self.probe_every:
            raise UserError(f"stop_at={self.stop_at} is seen by probes during the run: set probe_every (--probe-every)")
        if self.weights.endswith(".parquet"):
            one_scorer(read_scores(Path(self.weights)))
        elif from_file(self.weights):
            load_scorer(Path(self.weights))
        else:
            check_needs([self.weights], self.reference is not None)


def versions() -> dict[str, str]:
    """What the numbers depend on besides the configuration."""
    from importlib.metadata import version

    names = ("unlearning-workbench", "torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")
    found = {name: version(name) for name in names}
    head = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    commit = head.stdout.strip() or "not available"
    return found | {"python": platform.python_version(), "machine": platform.machine(), "commit": commit}


def new_path(config: Config, root: Path = Path("runs")) -> Path:
    """`runs/<time>-<objective>-<weights>-<id>`."""
    weights = Path(config.weights).stem
    return root / f"{time.strftime('%Y-%m-%d_%H%M%S')}-{config.objective}-{weights}-{secrets.token_hex(3)}"
