"""What a number means: the arrow and range beside its name, and the lines of its definition."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from workbench.evals import MetricSpec, trust_in_short
from workbench.registry import Registry

ARROWS = {"higher": "↑", "lower": "↓", "see split": "↑", "near 0": "→\N{NBSP}0", "near 0.5": "→\N{NBSP}0.5"}
REFERENCE = "open-unlearning"  # the framework that `differs` compares with
Definition = Mapping[str, str]
Definitions = Mapping[str, Definition]


def definitions(*registries: Registry[MetricSpec]) -> dict[str, dict[str, str]]:
    """What the numbers mean, by name: direction, range, unit, split, formula, source, and how open-unlearning differs.

    The registries are by default the metrics, then the suites' summaries; a name in several has the first definition.
    """
    from workbench.evals import metric, summary  # imported here: they load torch, which no page needs

    entries: dict[str, dict[str, str]] = {}
    for registry in registries or (metric, summary):
        for name in registry:
            entries.setdefault(name, _definition(registry[name]))
    return entries


def _definition(entry: MetricSpec) -> dict[str, str]:
    first = (inspect.getdoc(entry.function) or "").split("\n\n")[0]
    return {
        "direction": entry.better,
        "range": range_text(*entry.range),
        "unit": entry.unit,
        "split": entry.split,
        "description": first.split("\n")[0],
        "formula": " ".join(first.split()),
        "aggregate": (inspect.getdoc(entry.aggregate) or "").split("\n")[0] if entry.aggregate else "",
        "source": entry.provenance,
        "differs": entry.differs,
        "trust": entry.trust,
        "trust_in_short": trust_in_short(entry.name),
    }


def stated(formula: str, range: str, source: str = "ours", direction: str = "higher") -> dict[str, str]:
    """The definition of a number that is in no registry."""
    return {"direction": direction, "range": range, "formula": formula, "source": source}


def range_text(low: float | None, high: float | None) -> str:
    """A range in words; None is an open end."""
    ends = [None if end is None else f"{end:g}".replace("-", "−") for end in (low, high)]  # noqa: RUF001
    if ends[1] is None:
        return "any number" if ends[0] is None else f"{ends[0]} and up"
    return f"up to {ends[1]}" if ends[0] is None else f"{ends[0]} to {ends[1]}"


def arrow(definition: Definition) -> str:
    """The sign of the better direction after a space that does not break; empty where none is known."""
    sign = ARROWS.get(definition.get("direction", ""), "")
    return f"\N{NBSP}{sign}" if sign else ""


def reach(definition: Definition) -> str:
    """The range and the unit: "0 and up, bits"."""
    return ", ".join(filter(None, (definition.get("range"), definition.get("unit"))))


def lines(definition: Definition) -> list[str]:
    """A definition in words, a line each; what is not known has no line."""
    aggregate = definition.get("aggregate", "").rstrip(".")
    source, _, sureness = definition.get("source", "").partition("; ")
    facts = [
        ("", definition.get("formula") or definition.get("description")),
        ("over a set: ", aggregate[:1].lower() + aggregate[1:]),
        ("range: ", definition.get("range")),
        ("unit: ", definition.get("unit")),
        ("sets: ", definition.get("split")),
        ("source: ", f"{source} ({sureness})" if sureness else source),
        (f"differs from {REFERENCE}: ", definition.get("differs")),
        ("as a measure of forgetting: ", definition.get("trust")),
    ]
    return [f"{start}{fact}" for start, fact in facts if fact]
