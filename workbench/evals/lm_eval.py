"""General abilities: tasks of EleutherAI's evaluation harness (lm-eval, an optional extra) on a loaded model."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.models import LanguageModel


def check_tasks(tasks: list[str]) -> None:
    """Raise a UserError where the harness is not installed, or does not know a task."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("general tasks need lm-eval; pip install 'unlearning-workbench[general]'")
    files = [name for name in tasks if name.endswith((".yaml", ".yml"))]
    for name in files:
        if not Path(name).is_file():
            raise UserError(f"{name}: no such file; give the YAML file of an lm-eval task")
    known = set(_manager().all_tasks) if len(files) < len(tasks) else set()
    for name in tasks:
        if name not in files and name not in known:
            raise UserError(f"lm-eval has no task '{name}'; see `lm-eval ls tasks`")


@functools.cache
def _manager() -> Any:
    """The harness's list of tasks; reading it takes seconds."""
    return importlib.import_module("lm_eval.tasks").TaskManager()


def general(lm: LanguageModel, tasks: list[str], *, limit: int | None = None) -> dict[str, Any]:
    """Metrics of harness tasks, by task: what `simple_evaluate` returns under "results". The model is unchanged.

    A task is named, or the path of its YAML file is given; of each at most `limit` documents are taken.

    Raises:
        UserError: the harness is not installed, or knows no such task.
    """
    check_tasks(tasks)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    wrapper = importlib.import_module("lm_eval.models.huggingface").HFLM
    wrapped = wrapper(pretrained=lm.module, tokenizer=lm.tokenizer, batch_size=16)
    evaluate = importlib.import_module("lm_eval").simple_evaluate
    results = evaluate(model=wrapped, tasks=list(tasks), limit=limit, task_manager=_manager())["results"]
    return {name: _plain(values) for name, values in results.items()}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers and texts among the values, which can be written as JSON."""
    numbers = {key: v.item() if hasattr(v, "item") else v for key, v in values.items()}
    return {key: v for key, v in numbers.items() if isinstance(v, int | float | str) and v == v}
