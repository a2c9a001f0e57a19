"""What a run works with: its task and model, checked before any work, and the model that it leaves."""

from __future__ import annotations

import torch

from workbench.errors import UserError
from workbench.models import ADAPTER, LanguageModel, Prompt, load, load_adapter, processes, shard
from workbench.objectives import objective
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory
from workbench.runs.trackers import check_trackers
from workbench.scorers import scorer
from workbench.tasks import Task
from workbench.unlearning import is_live, preferred_answers


def load_inputs(config: Config) -> tuple[Task, LanguageModel]:
    """The task and the model of a new run.

    Raises:
        UserError: see `checked_task`; or a scorer's option is wrong.
    """
    task, lm = checked_task(config), load_for(config)
    if is_live(config.weights):
        options = config.settings.options.get("weights", {})
        scorer[config.weights].function(lm.config.hidden_size, **options)  # raises for options that cannot work
    return task, lm


def checked_task(config: Config) -> Task:
    """The task of a configuration, after checking that it can be run on.

    Raises:
        UserError: the objective lacks something in the samples, a tracker is not installed, or a batch cannot be split
            over the processes.
    """
    check_trackers(config.track)
    task = config.task.load()
    check_processes(config, task)
    preferred_answers(objective[config.objective], task.forget)
    return task


def check_processes(config: Config, task: Task) -> None:
    """Raise for what a run of several processes cannot do, before any work."""
    team, settings = processes(), config.settings
    uses_retain = settings.alpha > 0 or settings.dual_rate > 0
    for samples in (task.forget, *([task.retain] if uses_retain else [])):
        team.part(range(min(settings.batch_size, len(samples))))
    if team.sharded and config.weights in scorer and scorer[config.weights].kind in ("task", "input"):
        raise UserError(
            f"a sharded model cannot be scored by '{config.weights}'; score without sharding and use the table: "
            f"workbench score ... --scorer {config.weights} --out FILE.parquet, then --weights FILE.parquet"
        )


def load_for(config: Config) -> LanguageModel:
    """The model of a configuration; with several processes on the GPU of this one, or sharded over them."""
    device = config.device
    if processes().sharded:
        return shard(load(config.model, device="cpu", prompt=config.prompt), device, config.precision)  # type: ignore[arg-type]
    if processes().world > 1 and (device or "cuda").startswith("cuda") and torch.cuda.is_available():
        device = f"cuda:{torch.cuda.current_device()}"
    return load(config.model, device=device, precision=config.precision, prompt=config.prompt)  # type: ignore[arg-type]


def load_result(run: RunDirectory, prompt: Prompt | None = None) -> LanguageModel:
    """The model that a run left, in the run's number format; with LoRA the original model with the run's adapter.

    Raises:
        UserError: the run is not finished.
    """
    if run.json("run.json") is None:
        raise UserError(f"{run.path} is not finished, so it has no model yet; resume it first")
    adapter = run.path / ADAPTER
    source = str(run.config["model"]) if adapter.exists() else str(run.path / "model")
    lm = load(source, precision=run.config["precision"], prompt=prompt)
    return load_adapter(lm, adapter) if adapter.exists() else lm
