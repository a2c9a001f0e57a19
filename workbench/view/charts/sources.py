"""What charts take: what the package returns, one by itself, several in a list, or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import pandas as pd

from workbench.errors import UserError
from workbench.runs import attacks_of
from workbench.view.html import Scores, as_metrics, as_scores
from workbench.view.run_source import RunSource, run_directory, run_of

Agreement: TypeAlias = Mapping[str, Any] | Scores


def by_name(sources: Any, read: Callable[[Any], Any]) -> dict[str, Any]:
    """Name -> what `read` makes of each of `sources`: a mapping of them, a list, or one alone.

    Runs in a list have their directories' names, or their paths where two are called the same.
    """
    if isinstance(sources, Mapping):
        return {str(name): read(source) for name, source in sources.items()}
    each = list(sources) if isinstance(sources, list | tuple) else [sources]
    runs = [run_of(source) for source in each]
    names = [f"run {place + 1}" if run is None else run.name for place, run in enumerate(runs)]
    names = [n if names.count(n) == 1 else str(run.path) if run else n for n, run in zip(names, runs, strict=True)]
    return {name: read(source) for name, source in zip(names, each, strict=True)}


def metrics_by_name(runs: Any) -> dict[str, list[Mapping[str, Any]]]:
    """Name -> the metrics of a run's seeds; of one run also as `metrics.json` has them, or as `probe` returned them."""
    if isinstance(runs, Mapping) and {"before", "after"} <= set(runs):
        return {"run": [runs]}
    if isinstance(runs, list | tuple):
        with suppress(UserError):  # a list of runs
            return {"run": [as_metrics(runs)]}
    return by_name(runs, _seeds)


def _seeds(source: Any) -> list[Mapping[str, Any]]:
    """The metrics of one run, or of several seeds of it."""
    try:
        return [as_metrics(source)]
    except UserError:
        if not isinstance(source, list | tuple):
            raise
    return [as_metrics(seed) for seed in source]


def as_curve(curve: pd.DataFrame | RunSource) -> pd.DataFrame:
    """Metrics over a run: `RunDirectory.curve()`, or the run; UserError where it is neither."""
    return curve if isinstance(curve, pd.DataFrame) else run_directory(curve).curve()


def as_attacks(attacks: Mapping[str, Any] | RunSource) -> Mapping[str, Any]:
    """Attack -> its values: as such, what `wb.attack` returns, or those of a run; UserError where there are none."""
    if isinstance(attacks, Mapping):
        return attacks["attacks"] if {"attacks", "made_from"} <= set(attacks) else attacks
    run = run_directory(attacks)
    if not (values := attacks_of(run.path)):
        raise UserError(f"{run.path} has not been attacked yet: wb.attack, or `workbench attack {run.path}`")
    return values


def as_agreement(agreement: Agreement) -> Mapping[str, Any]:
    """How far scorers agree: what `evals.agreement` gives, or of a score table, its file or a run."""
    from workbench.evals import agreement as measured

    return agreement if isinstance(agreement, Mapping) else measured(as_scores(agreement))


def as_disagreement(table: Scores) -> pd.DataFrame:
    """Samples by how far scorers disagree: what `evals.disagreement` gives, or of a score table, its file or a run."""
    from workbench.evals import disagreement

    if isinstance(table, pd.DataFrame) and "disagreement" in table:
        return table
    return disagreement(as_scores(table))
