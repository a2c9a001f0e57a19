"""Maps of where a fact still is: those that a run's attacks left, read without torch, or measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError, is_missing, missing, unknown
from workbench.evals import SOURCES, Where, stored_maps
from workbench.runs.attack_files import AGAIN, ANSWERS, FOLDER, attacks_of, read_answers, read_results
from workbench.runs.directory import RunDirectory, run_at
from workbench.runs.records import Damaged

if TYPE_CHECKING:
    import pandas as pd

    from workbench.models import LanguageModel
    from workbench.tasks import Sample, Task, TaskSpec

MODELS = ("run", "before", "retain_only")
Answer = str | int


def maps_of(run: Path, answers: pd.DataFrame | None = None) -> list[Where]:
    """The maps that attacks on a run left; none where neither `logit_lens` nor `uds` left any.

    `answers` are those of its attacks, where they are read already.

    Raises:
        Damaged: they are not what an attack writes.
    """
    answers = read_answers(run / FOLDER) if answers is None else answers
    try:
        return stored_maps(answers, attacks_of(run))
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(run / FOLDER / ANSWERS, "its maps of layers and tokens do not fit together", AGAIN) from None


def where_maps(
    target: str | Path | RunDirectory | LanguageModel | Mapping[str, Any],
    answer: Answer | Sequence[Answer] | None = None,
    *,
    reference: str | LanguageModel | None = None,
    before: str | LanguageModel | None = None,
    task: str | TaskSpec | Task | None = None,
    style: dict[str, Any] | None = None,
) -> list[Where]:
    """Where the facts of answers still are: maps of layers and tokens, of three models beside each other.

    What the attacks `logit_lens` and `uds` on a run left is read; the rest is measured, as these attacks do.

    Args:
        target: a run, its directory, a model by name, a model, or models: `run`, and `before` and `retain_only`.
        answer: of the forget set, by its id or by its number from 1, or several; by default those that the run's
            attacks left maps of, else the first.
        reference: a retain-only model, or a run that left one; without one there is no UDS.
        before: the model before; by default the one that the run began with.
        task: whose forget set it is; by default the run's own.
        style: how prompts are written, as in `models.load`.

    Raises:
        UserError: no such answer, model or task; or neither attack can read the model, as its layers are not found.
    """
    if isinstance(target, Mapping):
        if wrong := [name for name in target if name not in MODELS]:
            raise unknown("model", str(wrong[0]), list(MODELS))
        if "run" not in target:
            raise UserError("name the model to look into: models={'run': ...}")
        before, reference = target.get("before", before), target.get("retain_only", reference)
        target = target["run"]
    alone = isinstance(answer, str | int | Integral)
    named: list[Any] | None = None if answer is None else [answer] if alone else list(answer)  # type: ignore[arg-type]
    run = run_at(target)
    if run is not None and before is None and task is None and not any((style or {}).values()):
        stored = _stored(run.path, named, reference)
        if stored:
            return stored
    from workbench.runs.attacking import models_of, task_of

    loaded = task_of(target, task)
    samples = [_sample(loaded, each) for each in named] if named else loaded.forget[:1]
    return _measured(models_of(target, reference, before, style or {}), loaded, samples)


def _stored(run: Path, named: list[Answer] | None, reference: Any) -> list[Where]:
    """The maps of these answers that a run's attacks left; none where one is not there or is of another reference."""
    maps = {each.sample_id: each for each in maps_of(run) if "run" in each.models}
    if not maps:
        return []
    if reference is not None:
        from workbench.runs.loading import loaded_model

        known = read_results(run / FOLDER)["made_from"]["models"].get("retain_only")
        if known != loaded_model(reference).fingerprint():
            return []
        if not all(each.drops and "retain_only" in each.lenses for each in maps.values()):
            return []
    if named is None:
        return list(maps.values())
    ids = [each if each in maps else _sample(RunDirectory(run).read_config().task.load(), each).id for each in named]
    return [maps[name] for name in ids] if set(ids) <= set(maps) else []


def _sample(task: Task, name: Answer) -> Sample:
    """An answer of the forget set by its id or, where no id is that, by its number from 1."""
    by_id = {sample.id: sample for sample in task.forget}
    if str(name) in by_id:
        return by_id[str(name)]
    if not (str(name).isdecimal() and 1 <= int(name) <= len(task.forget)):
        count = len(task.forget)
        raise UserError(
            f"no answer '{name}' in the forget set of {task.name}; give its id, or its number, 1 to {count}"
        )
    return task.forget[int(name) - 1]


def _measured(models: dict[str, LanguageModel], task: Task, samples: list[Sample]) -> list[Where]:
    import pandas as pd

    from workbench.evals.attacks import Target, attack_model
    from workbench.runs.attacking import ABSENT

    task = replace(task, sets=task.sets | {"forget": samples})
    reasons: dict[str, dict[str, Any]] = {name: {} for name in SOURCES}
    reasons["logit_lens"] = {name: missing(ABSENT[name]) for name in MODELS if name not in models}
    tables = []
    for name, lm in models.items():
        target = Target(lm, task, models.get("before"), models.get("retain_only"))
        for attack in SOURCES if name == "run" else SOURCES[:1]:  # the run's UDS has what the others' would have
            outcome = attack_model(attack, target)
            if is_missing(outcome):
                reasons[attack][name] = outcome
            else:
                tables.append(outcome.rows.assign(attack=attack, model=name))
    if not any((table["model"] == "run").any() for table in tables):
        raise UserError(f"{models['run'].name} has no layers to read: {reasons['logit_lens']['run']['reason']}")
    return stored_maps(pd.concat(tables, ignore_index=True), reasons)
