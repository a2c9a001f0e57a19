"""Experiment trackers, which get each step of a run through accelerate: TensorBoard, trackio, W&B, MLflow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from workbench.errors import UserError, check_known, note
from workbench.files import cannot_write
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise for a tracker that does not exist, or whose package is not installed."""
    for name in names:
        check_known("tracker", name, PACKAGES)
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(f"tracker '{name}' needs a package: pip install {PACKAGES[name]}")


class Trackers:
    """A run's trackers; does nothing if there are none.

    They write where their own settings say; TensorBoard and W&B below `RUN/trackers`. A tracker that fails on the way
    does not end the run: it is reported once, and the run goes on without.
    """

    def __init__(self, config: Config, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.accelerator: Any = None

    def __enter__(self) -> Trackers:
        if not self.config.track:
            return self
        from accelerate import Accelerator

        folder = self.directory.path / "trackers"
        try:
            folder.mkdir(exist_ok=True)  # not its parents: a run that was deleted meanwhile stays deleted
        except OSError as error:
            raise cannot_write(folder, error) from error
        names = ", ".join(self.config.track)
        try:
            self.accelerator = Accelerator(device_placement=False, log_with=list(self.config.track), project_dir=folder)
            self.accelerator.init_trackers("unlearning-workbench", flat(self.config.as_dict()), self._options(folder))
        except Exception as error:  # whatever such a package raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"{names} cannot be started: {reason}; see the tracker's own settings") from error
        return self

    def _options(self, folder: Path) -> dict[str, Any]:
        """The run's name and place, under each tracker's own keys."""
        name = self.directory.name
        return {"wandb": {"name": name, "dir": str(folder)}, "trackio": {"name": name}, "mlflow": {"run_name": name}}

    def log(self, event: dict[str, Any]) -> None:
        """Log an event's numbers."""
        if self.accelerator is None:
            return
        numbers = {k: v for k, v in flat(event).items() if isinstance(v, int | float)}
        try:
            self.accelerator.log(numbers, step=event["step"])
        except Exception as error:
            note(f"workbench: {', '.join(self.config.track)}: {error}; the run goes on untracked")
            self.accelerator = None

    def __exit__(self, *_: Any) -> None:
        if self.accelerator is not None:
            self.accelerator.end_training()


def flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested entries as `outer/inner`; other values than numbers and text become text."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out |= flat(value, f"{before}{key}/")
        else:
            out[before + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return out
