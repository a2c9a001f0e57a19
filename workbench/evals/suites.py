"""Suites: the summaries that a benchmark reports, each with its parts, or the reason why it has no value."""

from __future__ import annotations

from typing import Any

from workbench.errors import Missing, NotAvailable, check_known, missing
from workbench.evals.mia import attack
from workbench.evals.probes import Probed, probe
from workbench.evals.spec import convention_options
from workbench.evals.summaries import Evaluation, Parts, summary
from workbench.models import LanguageModel
from workbench.progress import Progress, silent
from workbench.tasks import Task

SUITES: dict[str, tuple[str, ...]] = {
    "basic": (),
    "tofu": ("model_utility", "forget_quality", "privleak", *attack),
    "muse": ("verbmem", "knowmem", "retain_knowmem", "privleak", *attack, "perplexity"),
    "rwku": ("fill_blank", "qa", "adversarial", "neighbours", "fluency", *attack, "perplexity"),
}


def suite_names(suite: str) -> tuple[str, ...]:
    """The summaries of a suite; `basic` has none, only the metrics of `probe`."""
    check_known("suite", suite, SUITES)
    return SUITES[suite]


def run_suite(
    lm: LanguageModel,
    task: Task,
    suite: str,
    reference: LanguageModel | dict[str, Any] | None = None,
    *,
    probed: Probed | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    convention: str = "ours",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Probe a model as a benchmark does.

    Args:
        lm: the model; unchanged.
        task: the task.
        suite: a name of `SUITES`.
        reference: what the model is compared with: a retain-only model, or the results of an earlier suite.
        probed: what `probe` returned for this model with these options, if that was done already.
        limit: at most so many samples a set.
        batch_size: samples a forward pass.
        convention: "ours" or "open-unlearning"; see `probe`.
        progress: as of `probe`.

    Returns:
        `suite`; `summary`, by name a number or `{"value": None, "reason": why}`; `parts`, by name what it was made of.

    Raises:
        UserError: no such suite or convention.
    """
    names = suite_names(suite)
    convention_options(convention)
    if probed is None:
        probed = probe(lm, task, limit=limit, batch_size=batch_size, convention=convention, progress=progress)
    model, earlier = (None, reference) if isinstance(reference, dict) else (reference, None)
    attacks = tuple(name for name in attack if name in names)
    evaluation = Evaluation(lm, task, probed, model, earlier, limit, batch_size, convention, attacks)
    values: dict[str, float | Missing] = {}
    parts: dict[str, Parts] = {name: {} for name in names}
    for name in names:
        try:
            values[name] = summary[name].function(evaluation, parts[name])
        except NotAvailable as error:
            values[name] = missing(str(error))
    return {"suite": suite, "summary": values, "parts": parts}
