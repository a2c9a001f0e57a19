"""Several runs side by side: what each was, cost and came to. A damaged run is named as such, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.errors import UserError, unknown
from workbench.runs import RunDirectory, attacks_of
from workbench.tasks import spread
from workbench.view.html import value_of
from workbench.view.run_source import RunSource, run_directory

MEASURES = ("fact_accuracy", "probability", "exact_memorization", "rouge_l_recall")  # of the plot, the first there is
SET_ORDER = ("forget", "retain", "neighbours", "general")
HIDDEN = ("versions", "data_sha256", "model_sha256", "commit", "format")  # of a configuration: of the machine and files


@dataclass(frozen=True)
class ComparedRun:
    """A run among others.

    Attributes:
        letter: its short name in the tables and the plot: A, B, ...
        name: of its directory.
        problems: what cannot be read of it, a line each; none where all can.
    """

    letter: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    attacks: dict[str, Any] = field(default_factory=dict)
    probes: pd.DataFrame | None = None
    finished: bool = False
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """In a word: finished, not finished, or damaged."""
        return "damaged" if self.problems else "finished" if self.finished else "not finished"

    def value(self, phase: str, probe_set: str, metric: str) -> tuple[float | None, str]:
        """A metric, or None and the reason why there is none."""
        sets = self.metrics.get(phase, {})
        if metric not in sets.get(probe_set, {}):
            return None, f"no {metric} of the {probe_set} set {phase} the run"
        return value_of(sets[probe_set][metric])

    @property
    def settings(self) -> dict[str, Any]:
        """Every entry of the configuration by its dotted name."""
        return dict(_flat({name: value for name, value in self.config.items() if name not in HIDDEN}))


def _flat(values: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{start}{name}.")
        else:
            yield f"{start}{name}", value


def read_runs(sources: Sequence[RunSource]) -> list[ComparedRun]:
    """Runs to compare, in this order; UserError for fewer than two, one twice, or something that is no run."""
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise UserError("runs to compare are a list of two or more: CompareRuns([first, second])")
    directories = [run_directory(source) for source in sources]
    places = [run.path.resolve() for run in directories]
    if len(set(places)) < len(places):
        raise UserError(f"a run is named twice: {next(p for p in places if places.count(p) > 1)}")
    if len(places) < 2:
        raise UserError(f"a comparison needs two runs or more, not {len(places)}")
    names = [place.name for place in places]
    shown = [n if names.count(n) == 1 else f"{p.parent.name}/{n}" for n, p in zip(names, places, strict=True)]
    return [_read(run, _letter(i), name) for i, (run, name) in enumerate(zip(directories, shown, strict=True))]


def _letter(place: int) -> str:
    return chr(ord("A") + place % 26) + (str(place // 26) if place > 25 else "")


def _read(run: RunDirectory, letter: str, name: str) -> ComparedRun:
    """A run with what of it can be read."""
    problems: list[str] = []

    def part(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except UserError as error:
            problems.append(str(error))
            return None

    parts: dict[str, Any] = {
        "config": part(lambda: run.config) or {},
        "metrics": part(lambda: run.json("metrics.json")) or {},
        "cost": part(lambda: run.json("cost.json")) or {},
        "attacks": part(lambda: attacks_of(run.path)) or {},
        "probes": part(lambda: run.table("probes.parquet")),
        "finished": part(lambda: run.finished) or False,
    }
    return ComparedRun(letter, name, **parts, problems=tuple(dict.fromkeys(problems)))


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Entries of the configuration that are not the same in all runs that can be read: name -> a value a run."""
    known = [run for run in runs if run.config]
    names = dict.fromkeys(name for run in known for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if len({repr(run.settings.get(name)) for run in known}) > 1}


def measured(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """Every (set, metric) that a run has after its end, sets in the order of the report."""
    pairs = dict.fromkeys(
        (s, m) for run in runs for s, values in run.metrics.get("after", {}).items() for m in values
    )  # fmt: skip
    order = {name: place for place, name in enumerate(SET_ORDER)}
    return sorted(pairs, key=lambda pair: order.get(pair[0], len(order)))


def plotted_metric(runs: Sequence[ComparedRun], metric: str | None = None) -> str | None:
    """The metric of the trade-off plot: of the forget and the retain set, by most runs; None where no run has any.

    Raises:
        UserError: a `metric` that no run has of both sets.
    """
    pairs = set(measured(runs))
    both = [m for _, m in dict.fromkeys(pairs) if {("forget", m), ("retain", m)} <= pairs]
    if metric is not None and metric not in both:
        raise unknown("metric", metric, sorted(set(both)))
    counts = {m: sum(None not in _ends(run, m) for run in runs) for m in [*MEASURES, *sorted(set(both))] if m in both}
    return metric or max(counts, key=lambda m: counts[m], default=None)


def _ends(run: ComparedRun, metric: str) -> tuple[float | None, float | None]:
    return run.value("after", "forget", metric)[0], run.value("after", "retain", metric)[0]


@dataclass(frozen=True)
class SharedAnswer:
    """A question that all runs with answers were asked, and what the model said before and after each."""

    probe_set: str
    sample_id: Any
    question: str
    reference: str
    before: dict[str, str | None]
    after: dict[str, str | None]

    @property
    def shared_before(self) -> str | None:
        """The answer before, where it is the same for all runs."""
        texts = {text for text in self.before.values() if text is not None}
        return texts.pop() if len(texts) == 1 else None


def shared_answers(runs: Sequence[ComparedRun], max_samples: int = 8) -> tuple[list[SharedAnswer], int]:
    """At most `max_samples` answers of each set that all readable runs have, and how many there are."""
    tables = {run.letter: _by_answer(run.probes) for run in runs if run.probes is not None and len(run.probes)}
    if not tables:
        return [], 0
    first = next(iter(tables.values()))
    common = [key for key in first if all(key in table for table in tables.values())]
    out = []
    for probe_set in dict.fromkeys(key[0] for key in common):
        for key in spread([k for k in common if k[0] == probe_set], max_samples):
            phases = {letter: table[key] for letter, table in tables.items()}
            row = next(iter(phases[next(iter(phases))].values()))
            texts = [{letter: _said(rows.get(p)) for letter, rows in phases.items()} for p in ("before", "after")]
            question = row["prompt"] if isinstance(row["prompt"], str) else ""
            out.append(SharedAnswer(*key, question, str(row["answer"]), *texts))
    return out, len(common)


def _by_answer(probes: pd.DataFrame) -> dict[tuple[str, Any], dict[str, dict[str, Any]]]:
    """Rows of a probe table: (set, id) -> phase -> row."""
    out: dict[tuple[str, Any], dict[str, dict[str, Any]]] = {}
    for row in probes.to_dict("records"):
        out.setdefault((str(row["probe_set"]), row["sample_id"]), {})[str(row["phase"])] = row
    return out


def _said(row: Mapping[str, Any] | None) -> str | None:
    text = None if row is None else row.get("generation")
    return text if isinstance(text, str) else None
