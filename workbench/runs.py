"""The run directory: a run on disk, started, resumed, listed and read."""

from __future__ import annotations

import contextlib
import json
import platform
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.adapters import ADAPTER, has_adapter, save_adapter
from workbench.cost import Ledger
from workbench.files import cannot_write, write_json, write_table, write_text, writing
from workbench.interrupts import interruptible
from workbench.models import LanguageModel, Prompt, load, load_adapter
from workbench.objectives import objective, retain_loss
from workbench.probes import Probed, probe
from workbench.registry import UserError
from workbench.scorers import check_needs, load_scorer, read_scores, save_scorer, scorer
from workbench.scorers.weights import from_file, is_live, one_scorer
from workbench.settings import Settings
from workbench.tasks import Task, TaskSpec
from workbench.terms import preferred_answers
from workbench.unlearn import Run, State, unlearn

KEEP_CHECKPOINTS = 2


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

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Config:
        """The configuration that `config.json` holds."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**{**known, "task": TaskSpec(**record["task"]), "settings": Settings(**record["settings"])})

    def check(self) -> None:
        """Raise for a name that does not exist, before anything is loaded or written."""
        objective[self.objective]
        retain_loss[self.settings.retain_loss]
        if self.probe_limit is not None and self.probe_limit < 1:
            raise UserError(f"probe_limit must be at least 1, not {self.probe_limit}")
        if self.weights.endswith(".parquet"):
            one_scorer(read_scores(Path(self.weights)))
        elif from_file(self.weights):
            load_scorer(Path(self.weights))
        else:
            check_needs([self.weights], self.reference is not None)


class Stopped(Exception):
    """A run was stopped; its directory can be resumed."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step = path, step


def is_run(path: Path) -> bool:
    """Whether a directory is a run's: its `config.json` names an objective (a model's has none)."""
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"objective", "settings"} <= set(record)


@contextlib.contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Ctrl-C outside the steps (while probing) is a stop too: what is there can be resumed."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(path, RunDirectory(path).status()["step"]) from None


def check_new(path: Path) -> None:
    """Raise for a directory that holds something already."""
    if path.is_dir() and any(path.iterdir()):
        resume = is_run(path) and not (path / "run.json").exists()
        raise UserError(f"{path} is not empty; choose another --out" + ", or resume it" * resume)


class RunDirectory:
    """One run's files. Without `run.json` the run is unfinished."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not is_run(self.path):
            raise UserError(f"{path} is no run directory (it has no config.json of one); see `workbench runs list`")

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """Make the directory and write the configuration; refuses a directory that holds something."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_new(path)
        except OSError as error:
            raise cannot_write(path, error) from error
        with _undone(path):
            write_json(path / "config.json", asdict(config) | {"versions": versions()})
        return cls(path)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.name

    @property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return self.json("config.json")

    def json(self, name: str) -> Any:
        """A JSON file of the run; None where it is not there yet."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def table(self, name: str) -> pd.DataFrame | None:
        """A parquet table of the run; None where it is not there yet."""
        path = self.path / name
        return pd.read_parquet(path) if path.exists() else None

    def events(self) -> list[dict[str, Any]]:
        """Every event; a torn last line (a run killed while writing) is left out."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def append(self, event: dict[str, Any]) -> None:
        """Add an event."""
        path = self.path / "events.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    @property
    def weights(self) -> str:
        """The token weights as `unlearn` takes them: a saved scorer's copy, or what the configuration names."""
        copy = self.path / "weights.safetensors"
        return str(copy) if copy.exists() else str(self.config["weights"])

    def status(self) -> dict[str, Any]:
        """Name, status, last step and steps of the run."""
        record, events = self.json("run.json"), self.events()
        steps = self.config["settings"]["steps"]
        status = record["status"] if record else "unfinished"
        return {"run": str(self.path), "status": status, "step": events[-1]["step"] if events else 0, "steps": steps}

    def checkpoint(self, state: State) -> None:
        """Write a checkpoint, whole or not at all, and drop the oldest."""
        from safetensors.torch import save_file

        folder = self.path / "checkpoints"
        target = folder / f"step-{state.step:06d}"
        if target.exists():  # resumed there, and stopped again before a step
            return
        with state.ledger.phase("checkpoint"), writing(target) as aside:
            aside.mkdir()
            for name in ("parameters", "optimizer", "scorer"):
                save_file(getattr(state, name), aside / f"{name}.safetensors")
            state.scores.to_parquet(aside / "scores.parquet", index=False)
            record = {"step": state.step, "alpha": state.alpha, "cost": state.ledger.as_dict()}
            (aside / "state.json").write_text(json.dumps(record))
        for old in sorted(folder.glob("step-*"))[:-KEEP_CHECKPOINTS]:
            shutil.rmtree(old)

    def latest(self) -> Path | None:
        """The newest checkpoint."""
        found = sorted((self.path / "checkpoints").glob("step-*"))
        return found[-1] if found else None

    def restore(self, folder: Path) -> State:
        """The state of a checkpoint; later events are dropped."""
        from safetensors.torch import load_file

        def tensors(name: str) -> dict[str, Tensor]:
            # Copied: tensors of a file lie unaligned in memory, and AdamW's last bits depend on alignment.
            return {key: value.clone() for key, value in load_file(folder / f"{name}.safetensors").items()}

        record = json.loads((folder / "state.json").read_text())
        self.keep_events(record["step"])
        return State(
            step=record["step"],
            alpha=record["alpha"],
            parameters=tensors("parameters"),
            optimizer=tensors("optimizer"),
            scorer=tensors("scorer"),
            scores=pd.read_parquet(folder / "scores.parquet"),
            ledger=Ledger.from_dict(record["cost"]),
        )

    def keep_events(self, step: int) -> None:
        """Drop events after `step`."""
        write_text(
            self.path / "events.jsonl", "".join(json.dumps(e) + "\n" for e in self.events() if e["step"] <= step)
        )


@contextlib.contextmanager
def _undone(path: Path) -> Iterator[None]:
    """Removes a run's directory where it failed before its first step: an answer too long, a full disk."""
    try:
        yield
    except UserError:
        if not (path / "events.jsonl").exists() or not (path / "events.jsonl").stat().st_size:
            shutil.rmtree(path)
        raise


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
    return root / f"{time.strftime('%Y-%m-%d_%H%M%S')}-{config.objective}-{weights}-{secrets.token_hex(2)}"


def list_runs(root: Path = Path("runs")) -> list[RunDirectory]:
    """Every run under `root`, oldest first, unfinished ones too."""
    return [RunDirectory(path.parent) for path in sorted(root.glob("*/config.json")) if is_run(path.parent)]


def start(config: Config, path: Path | None = None, **hooks: Any) -> RunDirectory:
    """Run a configuration in a new directory: probe, unlearn, probe again, save the model.

    Args:
        config: what to run.
        path: the directory; a new one under `runs/` by default.
        hooks: `on_step(event)`, `on_probe(set, done, total)`, `stop()`.

    Raises:
        UserError: something in the configuration is wrong; nothing is written then.
        Stopped: Ctrl-C or `stop`; the directory can be resumed.
    """
    path = path or new_path(config)
    config.check()
    check_new(path)
    task = config.task.load()
    preferred_answers(objective[config.objective], task.forget)  # refuses what cannot be, before any work
    lm = load_for(config)
    if is_live(config.weights):
        options = config.settings.options.get("weights", {})
        scorer[config.weights].function(lm.module.config.hidden_size, **options)  # refuses what cannot work
    directory = RunDirectory.create(path, config)
    with _undone(path), _resumable(path):
        if from_file(config.weights):  # a copy, so that a resumed run reads what this one began with
            with writing(path / "weights.safetensors") as aside:
                shutil.copyfile(config.weights, aside)
        return _execute(directory, config, task, lm, **hooks)


def resume(path: Path, **hooks: Any) -> RunDirectory:
    """Go on with an unfinished run from its newest checkpoint, to the numbers of an undisturbed run."""
    directory = RunDirectory(path)
    if directory.json("run.json"):
        raise UserError(f"{path} is finished; there is nothing to resume")
    for left in list(directory.path.rglob(".*.part")):  # half-written when the run was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    config = Config.from_dict(directory.config)
    with _threads(directory.config.get("threads")), _resumable(path):
        return _execute(directory, config, config.task.load(), load_for(config), **hooks)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many CPU threads for a while: sums split over another number of threads end in other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_for(config: Config) -> LanguageModel:
    """The model a configuration names."""
    return load(config.model, device=config.device, precision=config.precision, prompt=config.prompt)  # type: ignore[arg-type]


def load_result(run: RunDirectory, prompt: Prompt | None = None) -> LanguageModel:
    """The model that a run left, in the number format of the run; with LoRA the model below and the run's adapter.

    Raises:
        UserError: the run is not finished.
    """
    if run.json("run.json") is None:
        raise UserError(f"{run.path} is not finished, so it has no model yet; resume it first")
    adapter = run.path / ADAPTER
    source = str(run.config["model"]) if adapter.exists() else str(run.path / "model")
    lm = load(source, precision=run.config["precision"], prompt=prompt)
    return load_adapter(lm, adapter) if adapter.exists() else lm


def _execute(
    directory: RunDirectory,
    config: Config,
    task: Task,
    lm: LanguageModel,
    on_step: Callable[[dict[str, Any]], None] = lambda event: None,
    on_probe: Callable[[str, int, int], None] = lambda name, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunDirectory:
    hashes = {"model_sha256": lm.fingerprint(), "data_sha256": task.fingerprint}
    for name, value in hashes.items():
        if directory.config.get(name, value) != value:
            raise UserError(
                f"{directory.path}: the {name.split('_')[0]} has changed since the run began; cannot resume"
            )
    record = directory.config | hashes
    record |= {"precision": lm.precision, "prompt": lm.prompt, "device": str(lm.device)}
    record["threads"] = torch.get_num_threads()
    write_json(directory.path / "config.json", record)
    before_costs = Ledger()
    before = probe(lm, task, run=directory.name, limit=config.probe_limit, ledger=before_costs, progress=on_probe)
    _write_probes(directory, before)
    checkpoint = directory.latest()
    state = directory.restore(checkpoint) if checkpoint else None
    if state is None:
        directory.keep_events(0)

    def step(event: dict[str, Any]) -> None:
        directory.append(event)
        on_step(event)

    by_table = config.weights.endswith(".parquet")
    with interruptible() as interrupted:
        run = unlearn(
            lm,
            task,
            config.objective,
            read_scores(Path(config.weights)) if by_table and state is None else directory.weights,
            settings=config.settings,
            reference=load(config.reference, **lm.like()) if config.reference else None,
            in_place=True,
            on_step=step,
            on_checkpoint=directory.checkpoint,
            stop=lambda: stop() or interrupted(),
            resume=state,
        )
    if not run.finished:
        raise Stopped(directory.path, directory.status()["step"])
    run.ledger.add(before_costs)
    _finish(directory, config, task, run, before, on_probe)
    return directory


def _write_probes(directory: RunDirectory, before: Probed, after: Probed | None = None) -> None:
    both = [before] if after is None else [before, after]
    write_table(directory.path / "probes.parquet", pd.concat([p.rows for p in both], ignore_index=True))
    write_table(directory.path / "tokens.parquet", pd.concat([p.tokens for p in both], ignore_index=True))
    phases = {"before": before.metrics} | ({"after": after.metrics} if after else {})
    write_json(directory.path / "metrics.json", phases)


def _finish(
    directory: RunDirectory,
    config: Config,
    task: Task,
    run: Run,
    before: Probed,
    on_probe: Callable[[str, int, int], None],
) -> None:
    after = probe(
        run.lm,
        task,
        run=directory.name,
        step=config.settings.steps,
        phase="after",
        limit=config.probe_limit,
        ledger=run.ledger,
        progress=on_probe,
    )
    _write_probes(directory, before, after)
    write_table(directory.path / "scores.parquet", run.scores)
    if run.scorer is not None:
        with writing(directory.path / "scorer.safetensors") as aside:
            save_scorer(run.scorer, aside)
    write_json(directory.path / "cost.json", run.ledger.as_dict())
    left = ADAPTER if has_adapter(run.lm) else "model"
    shutil.rmtree(directory.path / left, ignore_errors=True)  # of a run killed here
    with writing(directory.path / left) as aside:
        save_adapter(run.lm, aside) if has_adapter(run.lm) else run.lm.save(aside)
    shutil.rmtree(directory.path / "checkpoints", ignore_errors=True)
    write_json(directory.path / "run.json", {"status": "finished", "steps": config.settings.steps})
