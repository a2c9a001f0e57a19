"""Attack a run's model, the one before it and a retain-only one, attack by attack: stopped at any moment, it goes on.

The results are in `RUN/attacks/`: `answers.parquet`, a row an answer, attack and model, and `summary.json`. Both are
written after every attack on one model. What a killed process had not finished is done again, to the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.errors import Missing, UserError, is_missing, missing
from workbench.evals.attacks import MODELS, Target, attack_model, chosen_attacks, estimate, recovery
from workbench.models import LanguageModel
from workbench.progress import Progress, silent
from workbench.runs.attack_files import FOLDER
from workbench.runs.attack_results import Results
from workbench.runs.directory import RunDirectory, run_at
from workbench.runs.loading import load_original, loaded_model
from workbench.tasks import Task, TaskSpec

Models = dict[str, LanguageModel]
ABSENT = {
    "before": "no model before the run is given (--before)",
    "retain_only": "no retain-only model is given (--reference)",
}


def attack(
    target: str | Path | RunDirectory | LanguageModel,
    task: str | TaskSpec | Task | None = None,
    *,
    reference: str | LanguageModel | None = None,
    before: str | LanguageModel | None = None,
    attacks: str | list[str] = "all",
    options: dict[str, dict[str, Any]] | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    out: Path | None = None,
    progress: Progress = silent,
    say: Callable[[dict[str, float | Missing]], None] | None = None,
    style: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Attack a model: does what it forgot come back? Each attack also runs on the model before and a retain-only one.

    Args:
        target: a run, its directory, a model by name, or a model.
        task: whose forget set is attacked; by default the run's own.
        reference: a retain-only model, the floor; or a run that left one.
        before: the model before the run, the ceiling; by default the one that the run began with.
        attacks: names with commas between, or "all".
        options: attack -> its keyword options.
        limit: at most so many answers, evenly spread.
        seed: of everything random.
        batch_size: samples a forward pass.
        out: the directory of the results; by default `RUN/attacks`, and none for a model.
        progress: called with the attack and the model, what is done, and how much there is.
        say: called before anything runs with the FLOPs that each attack will take, or why it cannot run.
        style: how prompts are written, as in `models.load`.

    Returns:
        `attacks`: by name `before`, `run`, `retain_only`, `comes_back` (numbers or missing values), their `parts`,
        `answers`, `seconds`; `made_from`: what they depend on; `answers`: the table, where nothing is kept on disk.

    Raises:
        UserError: no such attack, model or task; or the directory has results that were made from something else.
    """
    target = target.path if isinstance(target, RunDirectory) else target
    options = options or {}
    names = chosen_attacks(attacks, options)
    models = models_of(target, reference, before, style or {})
    if out is None and (run := run_at(target)) is not None:
        out = run.path / FOLDER
    loaded = task_of(target, task)
    made_from: dict[str, Any] = {"task": loaded.name, "data_sha256": loaded.fingerprint, "limit": limit, "seed": seed}
    made_from["models"] = {name: lm.fingerprint() for name, lm in models.items()}
    of_models = {
        name: Target(lm, loaded, models.get("before"), models.get("retain_only"), limit, seed, batch_size, progress)
        for name, lm in models.items()
    }
    with Results.opened(out, made_from) as results:
        results.check_options({name: recovery[name].options | options.get(name, {}) for name in names})
        flops = {name: estimate(name, of_models["run"], options.get(name, {})) for name in names}
        if say is not None:
            say({n: v if is_missing(v) else v * len(models) for n, v in flops.items()})
        for name in names:
            for model in MODELS:
                if model not in models:
                    results.add(name, model, missing(ABSENT[model]), None, options.get(name, {}))
                elif not results.has(name, model):
                    _carry_out(results, name, model, of_models[model], options.get(name, {}))
    kept = {} if out else {"answers": results.answers}
    return {"attacks": {name: results.summary[name] for name in names}, "made_from": results.made_from} | kept


def _carry_out(results: Results, name: str, model: str, target: Target, options: dict[str, Any]) -> None:
    since, show = time.perf_counter(), target.progress

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        show(f"{what}, {model}", done, total, note)

    def keep(rows: list[dict[str, Any]]) -> None:
        results.keep(name, model, recovery[name].options | options, rows)

    kept = results.kept(name, model, recovery[name].options | options)
    outcome = attack_model(name, replace(target, progress=progress, kept=kept, keep=keep), options)
    if is_missing(outcome):
        results.add(name, model, outcome, None, options)
        return
    seconds = round(time.perf_counter() - since, 3)
    entry = {"value": outcome.value, "parts": outcome.parts, "answers": len(outcome.rows), "seconds": seconds}
    results.add(name, model, entry, outcome.rows.assign(attack=name, model=model), options)


def models_of(target: Any, reference: Any, before: Any, style: dict[str, Any]) -> Models:
    """The models by their part: `run` is the one that is attacked."""
    lm, run = loaded_model(target, **style), run_at(target)
    models: Models = {}
    if before is not None:
        models["before"] = loaded_model(before, **lm.like())
    elif run is not None:
        models["before"] = load_original(run, lm)
    models["run"] = lm
    if reference is not None:
        models["retain_only"] = loaded_model(reference, **lm.like())
    return models


def task_of(target: Any, task: Any) -> Task:
    """The task that is named, else the run's own; UserError where there is neither."""
    task = TaskSpec(task) if isinstance(task, str) else task
    if isinstance(task, TaskSpec | Task):
        return task if isinstance(task, Task) else task.load()
    if task is not None:
        raise UserError(f"a task is its name, a TaskSpec or a Task, not {task!r:.40}")
    if (run := run_at(target)) is None:
        raise UserError("name the task whose forget set is attacked (--task); only a run has its own")
    return run.read_config().task.load()
