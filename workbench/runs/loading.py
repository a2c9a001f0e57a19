"""What a run works with: its task and model, checked before any work, and the model that it leaves."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.errors import UserError
from workbench.evals import metric, probe_sets
from workbench.models import ADAPTER, LanguageModel, load, load_adapter, processes, shard
from workbench.objectives import objective
from workbench.runs.config import Config, made_by
from workbench.runs.directory import COPIED, RunDirectory, run_at
from workbench.runs.records import verify
from workbench.runs.stopping import levels
from workbench.runs.trackers import check_trackers
from workbench.scorers import scorer
from workbench.tasks import Task
from workbench.unlearning import is_live, preferred_answers


def load_inputs(config: Config) -> tuple[Task, LanguageModel]:
    """The task and the model of a new run; UserError as of `checked_task`, or for a scorer's option that is wrong."""
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
    values = {name: dict.fromkeys(metric, 0.0) for name in probe_sets(task)}
    for level in levels(config.stop_at):
        level.check(values)
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


def check_rows(run: RunDirectory, task: Task) -> None:
    """Raise for a finished run on other rows than its task has now, whose numbers would be taken for the task's."""
    if run.finished and run.config.get("data_sha256", task.fingerprint) != task.fingerprint:
        by = made_by(run.config)
        raise UserError(f"{run.path} is a run on other rows than the task's files have now{by}; choose another --out")


def check_weights(run: RunDirectory, config: Config) -> None:
    """Raise for a run, finished or not, with other weights than their file has now; a run goes on with its own copy."""
    file = Path(config.weights)
    if file.suffix not in COPIED:
        return
    held = Path(run.weights)
    if held.is_file() and file.is_file() and not filecmp.cmp(held, file, shallow=False):
        raise UserError(f"{run.path} is a run with other weights than {file} has now; choose another --out")


def load_for(config: Config) -> LanguageModel:
    """The model of a configuration; with several processes on the GPU of this one, or sharded over them."""
    device = config.device
    style: dict[str, Any] = {"prompt": config.prompt, "system": config.system, "date": config.date}
    if processes().sharded:
        return shard(load(config.model, device="cpu", **style), device, config.precision)
    if processes().world > 1 and (device or "cuda").startswith("cuda") and torch.cuda.is_available():
        device = f"cuda:{torch.cuda.current_device()}"
    return load(config.model, device=device, precision=config.precision, **style)


def load_original(run: RunDirectory, like: LanguageModel | None = None) -> LanguageModel:
    """The model that a run began with, as the run loaded it or as another model is: device, number format, prompts.

    Raises:
        UserError: it cannot be loaded, a relative path leads nowhere from here, or it is another model by now.
    """
    config = run.read_config()
    with located(config):
        lm = load_for(config.replace(**like.like()) if like else config)
    _check_original(run, config, lm)
    return lm


def _check_original(run: RunDirectory, config: Config, lm: LanguageModel) -> None:
    """Raise where a model is not the one that a run began with."""
    if run.config.get("model_sha256", "") not in ("", lm.fingerprint()):
        raise UserError(
            f"{run.path}: {config.model} is not the model that the run began with (its sha256 is another); put that "
            "one back"
        )


def loaded_model(source: Any, **options: Any) -> LanguageModel:
    """A model in any form: loaded already, a run, for the model that it left, or what `models.load` takes.

    `options` are those of `models.load`; of a run they say only how prompts are written.

    Raises:
        UserError: it is none of these, or cannot be loaded.
    """
    if isinstance(source, LanguageModel):
        return source
    if (run := run_at(source)) is not None:
        return load_result(run, **{name: options.get(name) for name in ("prompt", "system", "date")})
    if isinstance(source, str | Path):
        return load(str(source), **options)
    raise UserError(
        f"a model is a name ('bio-full', a directory, a hub name), a run or what wb.load gives, not {source!r:.40}"
    )


def load_result(run: RunDirectory, **style: str | None) -> LanguageModel:
    """The model that a run left, in the run's number format; with LoRA the original model with the run's adapter.

    `style` says how prompts are written, as in `models.load`; by default as in the run.

    Raises:
        UserError: the run is not finished, a file of it is damaged, or the original model is another than it was.
    """
    if not run.finished:
        raise UserError(f"{run.path} is not finished, so it has no model yet; resume it first")
    config, adapter = run.read_config(), run.path / ADAPTER
    verify(run.path, "config.json")
    verify(run.path, ADAPTER if adapter.exists() else "model")
    names = ("prompt", "date") if style.get("prompt") == "plain" else ("prompt", "system", "date")
    chosen: dict[str, Any] = {name: style.get(name) or getattr(config, name) for name in names}
    if not adapter.exists():
        return load(str(run.path / "model"), precision=config.precision, **chosen)
    with located(config):
        lm = load(config.model, precision=config.precision, **chosen)
    _check_original(run, config, lm)
    return load_adapter(lm, adapter)


@contextlib.contextmanager
def located(config: Config) -> Iterator[None]:
    """Say with an error that a path of the configuration leads nowhere from here."""
    try:
        yield
    except UserError as error:
        if not (paths := config.missing_files()):
            raise
        why = f"the run was made in another directory with the relative path {paths[0]}; resume it from there"
        raise UserError(f"{error} ({why})") from None
