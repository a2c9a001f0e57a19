"""Probes: every metric of what a model answers, one row an answer, for each probe set of a task."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from workbench.cost import Ledger
from workbench.errors import NOT_FINITE, Missing, NotAvailable, missing
from workbench.evals.answers import answers_of
from workbench.evals.generation import continuation
from workbench.evals.metrics import metric
from workbench.evals.spec import Answer, aggregate, convention_options
from workbench.models import LanguageModel
from workbench.progress import Progress, silent
from workbench.tasks import PROBE_SETS, Sample, Task, spread


def probe_sets(task: Task) -> list[str]:
    """The sets of a task that are probed, in order."""
    return [name for name in PROBE_SETS if task.sets.get(name)]


def probed_samples(samples: list[Sample], limit: int | None, convention: str = "ours") -> list[Sample]:
    """The samples of a set that are probed: at most `limit`, evenly spread.

    Where only some have wrong answers (400 of TOFU's retain rows), a limit chooses among these if they are enough, so
    that no metric is lost; by open-unlearning's convention only these are probed.
    """
    choices = [s for s in samples if s.wrong_answers]
    alone = convention == "open-unlearning" and choices
    return spread(choices if alone or (limit is not None and len(choices) >= limit) else samples, limit)


@dataclass
class Probed:
    """Results of one probing: probe rows, token rows, and for each probe set and metric one value or a reason."""

    rows: pd.DataFrame
    tokens: pd.DataFrame
    metrics: dict[str, dict[str, float | Missing]]


def probe(
    lm: LanguageModel,
    task: Task,
    *,
    run: str = "",
    step: int = 0,
    phase: str = "before",
    limit: int | None = None,
    batch_size: int = 64,
    ledger: Ledger | None = None,
    convention: str = "ours",
    progress: Progress = silent,
) -> Probed:
    """Probe every set of a task.

    Args:
        lm: the model.
        task: its `forget`, `retain`, `neighbours` and `general` sets and a benchmark's own, where it has them.
        run: the run's name, for the tables.
        step: of the run.
        phase: "before" or "after".
        limit: at most so many samples a set, spread evenly over it; see `probed_samples`.
        batch_size: samples a forward pass.
        ledger: where the costs are counted.
        convention: "ours", or "open-unlearning" for that framework's values where they differ (the metrics' `differs`).
        progress: called with "probe forget" and so on, answers done and their number.

    Raises:
        UserError: no such convention.
    """
    convention_options(convention)
    ledger = ledger or Ledger()
    rows, tokens, metrics = [], [], {}
    for name in probe_sets(task):
        samples = probed_samples(task.sets[name], limit, convention)
        how = continuation(task, name, convention)
        with ledger.phase("probes") as cost:
            answers, token_rows = answers_of(
                lm, samples, how, batch_size=batch_size, cost=cost, progress=progress, what=f"probe {name}"
            )
        with ledger.phase("probes", calls=0):
            table, metrics[name] = measure(answers, name, convention)
        identity = {"run": run, "step": step, "phase": phase, "probe_set": name}
        texts = {
            "sample_id": [s.id for s in samples],
            "prompt": [s.question for s in samples],
            "answer": [s.answer for s in samples],
            "generation": [a.generation for a in answers],
        }
        rows.append(pd.DataFrame({**identity, **texts, **table}, index=range(len(samples))))
        tokens.append(token_rows.assign(run=run, phase=phase, probe_set=name))
    return Probed(pd.concat(rows, ignore_index=True), pd.concat(tokens, ignore_index=True), metrics)


def measure(
    answers: list[Answer], name: str, convention: str = "ours"
) -> tuple[dict[str, list[float]], dict[str, float | Missing]]:
    """Every metric of every answer of a set (NaN where it has none), and the set's values or reasons."""
    table: dict[str, list[float]] = {}
    of_set: dict[str, float | Missing] = {}
    lengths = [len(a.logp) for a in answers]
    broken = sum(a.broken for a in answers)
    for metric_name in metric:
        reasons, values = [], []
        options = convention_options(convention, metric_name)
        for answer in answers:
            try:
                answer.check()
                values.append(metric[metric_name].function(answer, **options))
            except NotAvailable as error:
                reasons.append(str(error))
                values.append(float("nan"))
        table[metric_name] = values
        of_set[metric_name] = aggregate(metric_name, values, lengths, name, "; ".join(dict.fromkeys(reasons)))
        if broken:  # a mean over the rest would be of other answers than it says
            of_set[metric_name] = missing(f"{NOT_FINITE} for {broken} of {len(answers)} answers")
    return table, of_set
