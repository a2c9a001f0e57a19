"""Relearning: how fast a model that forgot comes back to the forget set when it is trained on part of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pandas as pd

from workbench.errors import UserError
from workbench.evals.probes import answers_of, measure
from workbench.models import LanguageModel
from workbench.tasks import Sample, Task, spread
from workbench.unlearning import Settings, finetune


def taught(task: Task, share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(the part of the forget set to train on, the rest), drawn at random; neither is empty."""
    count = round(share * len(task.forget))
    if not 0 < share < 1 or not 0 < count < len(task.forget):
        raise UserError(f"relearning share {share} leaves no part or no rest of {len(task.forget)} forget rows")
    chosen = set(random.Random(seed).sample(range(len(task.forget)), count))
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for index, sample in enumerate(task.forget):
        parts[index not in chosen].append(sample)
    return parts


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
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> pd.DataFrame:
    """Forget metrics while a copy of the model is fine-tuned on part of the forget set; `lm` is left alone.

    What comes back on the rest was hidden, not gone, as far as the rows are about other facts: where several rows tell
    one fact in other words (biographies), the part teaches some of the rest anew.

    Args:
        lm: the model.
        task: whose forget set is taught in part.
        steps: of fine-tuning, on the mean NLL of the answers.
        share: of the forget rows, to train on.
        every: steps between two measurements; step 0 and the last are always measured.
        seed: of the choice of rows and of their order.
        lr: largest learning rate; it decays linearly to a tenth over the steps.
        batch_size: rows a step.
        limit: measure at most so many rows of the rest and of all.
        convention: see `probe`.
        progress: called with "relearn", steps done and their number.

    Returns:
        `step`, `rows` ("rest": those not trained on, "all": the whole forget set) and a column a metric, NaN where it
        is not available.
    """
    if every < 1:
        raise UserError(f"every must be at least 1, not {every}")
    part, rest = taught(task, share, seed)
    settings = Settings(steps=steps, batch_size=batch_size, lr=lr, warmup=0, seed=seed)
    sets = {"rest": spread(rest, limit), "all": spread(task.forget, limit)}
    samples = list({s.id: s for s in (*sets["rest"], *sets["all"])}.values())
    student = lm.frozen_copy()
    records: list[dict[str, Any]] = []

    def note(step: int) -> None:
        answers, _ = answers_of(student, samples)
        by_id = {s.id: answer for s, answer in zip(samples, answers, strict=True)}
        for name, chosen in sets.items():
            _, found = measure([by_id[s.id] for s in chosen], "forget", convention)
            values = {key: float("nan") if isinstance(v, dict) else v for key, v in found.items()}
            records.append({"step": step, "rows": name, **values})

    def on_step(event: dict[str, Any]) -> None:
        progress("relearn", event["step"], steps)
        if event["step"] == steps or event["step"] % every == 0:
            note(event["step"])

    note(0)
    finetune(student, part, settings=settings, on_step=on_step)
    return pd.DataFrame(records)
