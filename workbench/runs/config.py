"""The configuration of a run: task, model, objective, token weights and settings."""

from __future__ import annotations

import platform
import secrets
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from workbench.errors import UserError, unknown
from workbench.models import EMBEDDED, SMOLLM2
from workbench.runs.stopping import levels
from workbench.tasks import HUB, TaskSpec
from workbench.unlearning import Settings

DISTRIBUTION = "unlearning-workbench"
RECORDED = ("versions", "model_sha256", "data_sha256", "threads", "processes")  # what a run adds to its `config.json`
TASK_PATHS = ("data_dir", "forget", "retain", "spans", "unlabelled")
RENAMED_SETS = {"heldout": "general", "holdout": "nonmembers"}  # probe sets of the version before


class Config(BaseModel, frozen=True, extra="forbid"):
    """All that names a run: with it, and the same versions, the numbers come out the same.

    Raises:
        UserError: a field is unknown, or a value is of the wrong kind or out of its range.
    """

    task: TaskSpec = Field(description="What to forget and what to keep.")
    model: str = Field(description="The model, by name or path.")
    objective: str = Field("atwu", description="The forget loss, by name.")
    weights: str = Field(
        "atwu", description="Token weights: a scorer by name, or the path of a score table or of a saved scorer."
    )
    settings: Settings = Field(default_factory=Settings, description="The numbers of the run.")
    reference: str | None = Field(None, description="A second model, for scorers that need one.")
    scorer: str | None = Field(
        None, description="The file of a learned scorer, from which a live one goes on learning."
    )
    prompt: str | None = Field(None, description='"chat" or "plain"; by default the model decides.')
    system: str | None = Field(None, description="The system message of chats; by default as recorded, else none.")
    date: str | None = Field(None, description="ISO, what chat templates that write the day's date write instead.")
    device: str | None = Field(None, description='"cpu", "cuda", ...; by default a GPU where there is one.')
    precision: str | None = Field(None, description="The number format; by default the machine decides.")
    probe_limit: int | None = Field(None, ge=1, description="The most samples of a set that are probed.")
    probe_every: int = Field(
        0, ge=0, description="Steps between two probes during the run, of at most 32 samples a set; 0 means none."
    )
    stop_at: str = Field(
        "", description="Early stopping: levels such as forget.fact_accuracy<=0.2,retain.fact_accuracy>=0.9. The run "
        "ends, finished, at the first probe on the way that reaches all of them. That probe is of few answers, so the "
        "probe of all answers after the run may differ. The learning rate decays as it would over all steps.",
    )  # fmt: skip
    track: tuple[str, ...] = Field((), description="Trackers that get each step: tensorboard, trackio, wandb, mlflow.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _user_error(error) from None

    @classmethod
    def from_dict(cls, record: dict[str, Any], source: Path | None = None) -> Config:
        """The configuration that a `config.json` holds, also one of the version before.

        Raises:
            UserError: it holds what this version does not know; the line names the file (`source`) and the version that
                made it.
        """
        values = {key: value for key, value in record.items() if key not in RECORDED}
        task = values.get("task")
        if isinstance(task, dict) and task.get("retain_rows"):  # a version before took the last rows
            values["task"] = {"retain_from": "end"} | task
        for old, new in RENAMED_SETS.items():
            values["stop_at"] = str(values.get("stop_at", "")).replace(f"{old}.", f"{new}.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # settings by their old names
                return cls(**values)
        except UserError as error:
            writer, reader = dict(record.get("versions") or {}).get(DISTRIBUTION, "unknown"), version(DISTRIBUTION)
            raise UserError(f"{source or 'configuration'} of version {writer} (this is {reader}): {error}") from None

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed, validated like any other."""
        return Config(**{**dict(self), **changes})

    def as_dict(self) -> dict[str, Any]:
        """The configuration as JSON takes it."""
        return self.model_dump(mode="json")

    def absolute(self) -> Config:
        """The configuration with absolute paths, so that it means the same files wherever it is read."""
        return self._moved(lambda text: str(Path(text).expanduser().absolute()) if Path(text).exists() else text)

    def placed(self, run: Path) -> Config:
        """With the files of a run's configuration where they are now.

        An older version wrote paths as they were given, and not where: a relative one is looked for beside the
        directories that the run is in, then here. Whether it is the same model or data, their hashes must tell.
        """

        def find(text: str) -> str:
            places = [folder / text for folder in [*run.absolute().parents, Path()]]
            return str(next((place.absolute() for place in places if place.exists()), text))

        return self._moved(lambda text: text if Path(text).is_absolute() else find(text))

    def _moved(self, move: Callable[[str], str]) -> Config:
        """With another path for each file or folder that it names; built-in models and scorers are none."""
        built_in = (*EMBEDDED, SMOLLM2)
        files = {"weights": self.weights} if Path(self.weights).suffix in (".safetensors", ".parquet") else {}
        files |= {k: v for k in ("model", "reference", "scorer") if (v := getattr(self, k)) and v not in built_in}

        def moved(spec: TaskSpec) -> TaskSpec:
            paths: dict[str, Any] = {k: move(v) for k in TASK_PATHS if (v := getattr(spec, k))}
            return replace(spec, **paths, rehearsed=tuple(map(moved, spec.rehearsed)))

        return self.replace(**{k: move(v) for k, v in files.items()}, task=moved(self.task))

    def missing_files(self) -> list[str]:
        """The relative paths that it holds, which lead nowhere from here."""
        specs = (self.task, *self.task.rehearsed)
        values = [getattr(spec, name) for spec in specs for name in TASK_PATHS] + [self.model, self.reference]
        named = [v for v in values if v and v not in (*EMBEDDED, SMOLLM2) and not v.startswith(HUB)]
        return [v for v in named if not Path(v).expanduser().is_absolute() and not Path(v).exists()]

    def check(self) -> None:
        """Raise for what cannot be, before anything is loaded or written: a name, an option, a layer."""
        from workbench.models import layer_count, layers_of
        from workbench.objectives import objective, retain_loss
        from workbench.scorers import check_needs, load_scorer, read_scores
        from workbench.unlearning import check_options, check_retain_share, check_share, from_file, is_live, one_scorer

        options = self.settings.options.get("objective", {})
        check_options(self.objective, options)
        check_retain_share(retain_loss[self.settings.retain_loss], self.settings)
        if levels(self.stop_at) and not self.probe_every:
            raise UserError(f"stop_at={self.stop_at} needs probes during the run: set probe_every (--probe-every)")
        if self.weights.endswith(".parquet"):
            one_scorer(read_scores(Path(self.weights)))
        elif from_file(self.weights):
            load_scorer(Path(self.weights))
        else:
            check_needs([self.weights], self.reference is not None)
        learns = from_file(self.weights) or is_live(self.weights)
        check_share(objective[self.objective], self.weights, not learns, self.settings)
        if self.scorer and not is_live(self.weights):
            raise UserError(f"weights={self.weights} do not learn during a run, so no scorer can go on: leave it out")
        if self.scorer:
            load_scorer(Path(self.scorer))
        chosen = self.settings.train.startswith("layers:")
        if (chosen or options.get("layer")) and (count := layer_count(self.model)):
            if chosen:
                layers_of(self.settings.train, count)
            if not 0 <= options.get("layer", 0) <= count:
                raise UserError(f"layer={options['layer']}: the model has {count} layers; 0 lets the objective choose")


def _user_error(error: ValidationError) -> UserError:
    """The first thing that is wrong, in one line that names the field."""
    first = error.errors()[0]
    name, context = ".".join(map(str, first["loc"])), first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        return unknown("configuration key", name, list(Config.model_fields))
    if first["type"] == "value_error":
        return UserError(str(context["error"]))
    needed = f"at least {context['ge']}" if "ge" in context else first["msg"].removeprefix("Input should be ")
    return UserError(f"{name} must be {needed}, not {first['input']!r}")


def versions() -> dict[str, str]:
    """What the numbers depend on besides the configuration."""
    names = (DISTRIBUTION, "torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")
    return {name: version(name) for name in names} | {
        "python": platform.python_version(), "machine": platform.machine(), "commit": _commit()
    }  # fmt: skip


def made_by(record: dict[str, Any]) -> str:
    """Which version made the run of a `config.json`, in brackets; empty where it is this one."""
    then, now = dict(record.get("versions") or {}), versions()
    if all(then.get(name) == now[name] for name in (DISTRIBUTION, "commit")):
        return ""
    return f" (version {then.get(DISTRIBUTION, 'unknown')}, commit {str(then.get('commit', 'unknown'))[:12]}, made it)"


def _commit() -> str:
    """The commit of a checkout; an installed package has none, and git may be absent."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not available"


def new_path(config: Config, root: Path = Path("runs")) -> Path:
    """`runs/<time>-<objective>-<weights>-<id>`."""
    weights = Path(config.weights).stem
    return root / f"{time.strftime('%Y-%m-%d_%H%M%S')}-{config.objective}-{weights}-{secrets.token_hex(3)}"
