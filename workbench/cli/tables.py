"""Metrics as people read them: the direction and range beside each name, the set, and why a value is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbench.cli.console import number, say, table_line
from workbench.errors import is_missing
from workbench.evals import TRUST_SHORT, MetricSpec, metric, summary, trust_in_short
from workbench.view.html import ARROWS

FOR_METRICS = "arrows: better, for text to be kept; reversed on the forget set, except for truth_ratio and fluency"
FOR_SUMMARIES = "arrows: the better direction after unlearning"


def label(entry: MetricSpec) -> str:
    """A metric's name, its direction and its range."""
    low, high = entry.range
    reach = f"{low} to {high}" if high is not None else f"from {low}"
    arrow = ARROWS[entry.better].replace("\N{NBSP}", " ")
    return f"{entry.name} {arrow} ({', '.join(filter(None, (reach, entry.unit)))})"


def metric_table(phases: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print per-set metrics, a column a phase ("before", "after"), and why some have no value."""
    first = next(iter(phases.values()))
    rows = [["set", "metric", *phases, "trust"]]
    for name, values in first.items():
        for key in values:
            cells = [number(sets[name].get(key)) if name in sets else "" for sets in phases.values()]
            rows.append([name, label(metric[key]) if key in metric else key, *cells, trust_in_short(key)])
    table_line(rows)
    say(FOR_METRICS)
    say(TRUST_SHORT)
    reasons({f"{name} {key}": value for name, values in first.items() for key, value in values.items()})


def summary_table(values: dict[str, Any], parts: dict[str, dict[str, Any]]) -> None:
    """Print a suite's summaries with their sets and parts, and why some have no value."""
    rows = [["summary", "set", "value", "trust"]]
    rows += [
        [label(summary[name]), summary[name].split, number(value), trust_in_short(name)]
        for name, value in values.items()
    ]
    table_line(rows)
    say(FOR_SUMMARIES)
    say(TRUST_SHORT)
    for name, inputs in parts.items():
        shown = {key: part for key, part in inputs.items() if part is None or isinstance(part, int | float)}
        if shown:
            words = (f"{key} {part if isinstance(part, int) else number(part)}" for key, part in shown.items())
            say(f"parts of {name}: {', '.join(words)}")
    reasons(values)


def reasons(values: dict[str, Any]) -> None:
    """Print why values are missing, a line a reason."""
    names_of: dict[str, list[str]] = {}
    for name, value in values.items():
        if is_missing(value):
            names_of.setdefault(value["reason"], []).append(name)
    for reason, names in names_of.items():
        say(f"not available: {', '.join(names)}: {reason}")


def curve_table(curve: pd.DataFrame) -> None:
    """Print how forget metrics come back while a model relearns."""
    named = [key for key in curve.columns[2:] if curve[key].notna().any()]
    rows = [["relearning step", "forget rows", *named]]
    for record in curve.to_dict("records"):
        values = [number(record[key]) for key in named]
        rows.append([str(record["step"]), str(record["rows"]), *values])
    table_line(rows)
    say("rest: the forget rows that were not trained on; all: the whole forget set")


def general_table(results: dict[str, dict[str, Any]]) -> None:
    """Print the results of the evaluation harness."""
    rows = [["general task", "metric", "value"]]
    for name, values in results.items():
        rows += [[name, key, number(value)] for key, value in values.items() if isinstance(value, int | float)]
    table_line(rows)
