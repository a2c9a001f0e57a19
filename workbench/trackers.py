"""Experiment trackers, told each step of a run through accelerate: TensorBoard, trackio, W&B, MLflow."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from typing import Any

from workbench.registry import UserError, unknown
from workbench.runs import Config, RunDirectory

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise for a tracker that does not exist, or whose package is not here."""
    for name in names:
        if name not in PACKAGES:
            raise unknown("tracker", name, list(PACKAGES))
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(f"tracker '{name}' needs a package: pip install {PACKAGES[name]}")


class Trackers:
    """A run's trackers; without any, all of it does nothing.

    They write where their own settings say, those that write files below `RUN/trackers`.
    """

    def __init__(self, config: Config, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.accelerator: Any = None

    def __enter__(self) -> Trackers:
        if self.config.track:
            from accelerate import Accelerator

            folder = self.directory.path / "trackers"
            folder.mkdir(exist_ok=True)
            self.accelerator = Accelerator(device_placement=False, log_with=list(self.config.track), project_dir=folder)
            self.accelerator.init_trackers(
                "unlearning-workbench", config=flat(asdict(self.config)), init_kwargs=self._names()
            )
        return self

    def _names(self) -> dict[str, Any]:
        """The run's name, in each tracker's own words."""
        name = self.directory.name
        return {"wandb": {"name": name}, "trackio": {"name": name}, "mlflow": {"run_name": name}}

    def tell(self, event: dict[str, Any]) -> None:
        """An event's numbers."""
        if self.accelerator is not None:
            numbers = {k: v for k, v in flat(event).items() if isinstance(v, int | float)}
            self.accelerator.log(numbers, step=event["step"])

    def __exit__(self, *_: Any) -> None:
        if self.accelerator is not None:
            self.accelerator.end_training()


def flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested entries as `outer/inner`; what is no number or text becomes text."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out |= flat(value, f"{before}{key}/")
        else:
            out[before + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return out
