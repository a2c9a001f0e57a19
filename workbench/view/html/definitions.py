"""What a number means, said where it stands: arrow and range beside its name, the formula on hover and in a list."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

from workbench.evals import MetricSpec
from workbench.registry import Registry
from workbench.view.html.layout import label
from workbench.view.html.markup import plain

ARROWS = {"higher": "↑", "lower": "↓", "see split": "↑", "near 0": "→\N{NBSP}0", "near 0.5": "→\N{NBSP}0.5"}
REFERENCE = "open-unlearning"  # the framework that `differs` compares with
Definition = Mapping[str, str]
Definitions = Mapping[str, Definition]


def definitions(*registries: Registry[MetricSpec]) -> dict[str, dict[str, str]]:
    """What the numbers mean, by name: direction, range, unit, split, formula, source, and how open-unlearning differs.

    Of the registries given, by default the metrics and then the suites' summaries; an earlier one keeps its names.
    """
    from workbench.evals import (
        metric,  # here: they load torch, which no page needs
        summary,
    )

    found: dict[str, dict[str, str]] = {}
    for registry in registries or (metric, summary):
        for name in registry:
            found.setdefault(name, _definition(registry[name]))
    return found


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
    }


def range_text(low: float | None, high: float | None) -> str:
    """A range in words; None is an open end."""
    ends = [None if end is None else f"{end:g}".replace("-", "−") for end in (low, high)]  # noqa: RUF001
    if ends[1] is None:
        return "any number" if ends[0] is None else f"{ends[0]} and up"
    return f"up to {ends[1]}" if ends[0] is None else f"{ends[0]} to {ends[1]}"


def arrow(definition: Definition) -> str:
    """The sign of the better direction, never on a line of its own; empty where none is known."""
    sign = ARROWS.get(definition.get("direction", ""), "")
    return f"\N{NBSP}{sign}" if sign else ""


def reach(definition: Definition) -> str:
    """The range and the unit: "0 and up, bits"."""
    return plain(", ".join(filter(None, (definition.get("range"), definition.get("unit")))))


def lines(definition: Definition) -> list[str]:
    """A definition in words, a line each, not yet escaped; what is not known has no line."""
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
    ]
    return [f"{told}{fact}" for told, fact in facts if fact]


def heading(name: str, definition: Definition, *, shown: str | None = None, ranged: bool = True) -> str:
    """A metric's name, arrow and range; the definition shows on hover, and below the name with the keyboard's focus.

    Args:
        name: of the metric.
        definition: its facts; without any the name stands alone.
        shown: ready HTML in place of the name.
        ranged: with the range, small.
    """
    text = f"{label(name) if shown is None else shown}{arrow(definition)}"
    told = "&#10;".join(map(plain, lines(definition)))
    if told:
        text = f'<span class="wb-def" tabindex="0" title="{told}">{text}</span>'
    small = reach(definition) if ranged else ""
    return text + (f" <small>{small}</small>" if small else "")


def definitions_list(names: Iterable[str], definitions: Definitions, shown: Mapping[str, str] | None = None) -> str:
    """What `heading` says on hover, as text for every name that is defined; it folds, and is printed unfolded.

    `shown` has ready HTML in place of names.
    """
    items = []
    for name in names:
        known = definitions.get(name, {})
        if told := lines(known):
            formula, rest = plain(told[0]), " · ".join(map(plain, told[1:]))
            said = f"{formula}<small>{rest}</small>" if rest else formula
            text = (shown or {}).get(name) or label(name)
            items.append(f"<div><dt>{text}{arrow(known)}</dt><dd>{said}</dd></div>")
    if not items:
        return ""
    return f'<details class="wb-defs"><summary>Definitions</summary><dl>{"".join(items)}</dl></details>'
