"""Relearning: how fast a model that forgot comes back to the forget set when it is trained on part of it."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd

from workbench.errors import UserError, check_least, is_missing
from workbench.evals.answers import answers_of
from workbench.evals.probes import measure
from workbench.models import LanguageModel
from workbench.progress import Progress, silent
from workbench.tasks import Sample, Task, spread
from workbench.unlearning import Settings, finetune


def taught(task: Task, share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(the part of the forget set to train on, the rest), drawn at random; UserError where one of them is empty."""
    count = round(share * len(task.forget))
    if not 0 < share < 1 or not 0 < count < len(task.forget):
        raise UserError(f"relearning share {share} leaves no part or no rest of {len(task.forget)} forget rows")
    drawn = set(random.Random(seed).sample(range(len(task.forget)), count))
    part = [sample for index, sample in enumerate(task.forget) if index in drawn]
    return part, [sample for index, sample in enumerate(task.forget) if index not in drawn]


def relearn(
    lm: LanguageModel,
    task: Task,
    *,
    steps: int = 20,
    share: float = 0.5,
    every: int = 5,
    seed: int = 0,
    lr: float = 1e-4,
    batch_size: int = 16,
    limit: int | None = None,
    convention: str = "ours",
    progress: Progress = silent,
) -> pd.DataFrame:
    """Forget metrics while a copy of the model is fine-tuned on part of the forget set; `lm` is left alone.

    What comes back on the rest was hidden, not gone, provided that the rest is about other facts: where several rows
    word one fact differently (biographies), the part teaches some of the rest anew.

    Args:
        lm: the model.
        task: a part of its forget set is trained on.
        steps: fine-tuning steps, on the mean NLL of the answers.
        share: share of the forget rows to train on.
        every: steps between two measurements; step 0 and the last are always measured.
        seed: seed of the choice of rows and of their order.
        lr: largest learning rate; it decays linearly to a tenth over the steps.
        batch_size: rows a step.
        limit: measure at most so many rows of the rest and of all.
        convention: see `probe`.
        progress: called with "relearn", steps done and their number.

    Returns:
        `step`, `rows` ("rest": those not trained on, "all": the whole forget set) and a column a metric, NaN where it
        is not available.
    """
    check_least(1, every=every)
    part, rest = taught(task, share, seed)
    settings = Settings(steps=steps, batch_size=batch_size, lr=lr, warmup=0, seed=seed)
    sets = {"rest": spread(rest, limit), "all": spread(task.forget, limit)}
    samples = list({s.id: s for s in (*sets["rest"], *sets["all"])}.values())
    student = lm.frozen_copy()
    records: list[dict[str, Any]] = []

    def record(step: int) -> None:
        answers, _ = answers_of(student, samples)
        by_id = {s.id: answer for s, answer in zip(samples, answers, strict=True)}
        for name, rows in sets.items():
            _, metrics = measure([by_id[s.id] for s in rows], "forget", convention)
            values = {key: float("nan") if is_missing(value) else value for key, value in metrics.items()}
            records.append({"step": step, "rows": name, **values})

    def on_step(event: dict[str, Any]) -> None:
        progress("relearn", event["step"], steps)
        if event["step"] == steps or event["step"] % every == 0:
            record(event["step"])

    record(0)
    finetune(student, part, settings=settings, on_step=on_step)
    return pd.DataFrame(records)
