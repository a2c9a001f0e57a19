"""Exercises of notebook 00: reading what a run did, and what it cost."""

from __future__ import annotations

from typing import Any

from workbench.view.course.answers import as_number, as_numbers, close
from workbench.view.course.exercises import Wrong, exercise


def still_told(rows: Any) -> int:
    """How many forget answers of a probe table hold their fact."""
    forget = rows[rows["probe_set"] == "forget"]
    return int((forget["fact_accuracy"] == 1).sum())


@exercise("00.1", title="How many facts are still told?", difficulty=1, importance=4, minutes=3)
def facts_left(answer: Any, *, before: Any, after: Any) -> str:
    """The numbers of forget answers that hold their fact before and after the run."""
    first, last = as_numbers(answer, "answers with the fact before", "answers with the fact after")
    truth = still_told(before.rows), still_told(after.rows)
    every = sum((part.rows["fact_accuracy"] == 1).sum() for part in (before, after))
    if (first, last) == truth:
        return f"of {truth[0]} facts told before, {truth[1]} are told after the run"
    if first + last == every:
        raise Wrong("this counts the answers of all sets; only the set `forget` is to be forgotten")
    if (last, first) == truth:
        raise Wrong("these are the right numbers in the wrong order: before comes first")
    if 0 <= first <= 1 and 0 <= last <= 1 and (first, last) != (int(first), int(last)):
        raise Wrong("these are shares; count the answers")
    part = "before" if first != truth[0] else "after"
    size = int((before.rows["probe_set"] == "forget").sum())
    raise Wrong(
        f"the number {part} the run is not right: of the {size} forget answers, count those whose `fact_accuracy` is 1"
    )


@exercise("00.2", title="What did the backward passes cost?", difficulty=2, importance=2, minutes=4)
def backward_share(answer: Any, *, run: Any) -> str:
    """The share of a run's floating-point operations that went into `backward`."""
    phases = run.ledger.as_dict()["phases"]
    shares = {}
    for unit in ("flops", "seconds"):
        total = sum(phase.get(unit, 0) for phase in phases.values())
        shares[unit] = {name: phase.get(unit, 0) / total for name, phase in phases.items()}
    value, truth = as_number(answer, "the share"), shares["flops"]["backward"]
    if close(value, truth):
        return f"{truth:.0%} of the operations, and {shares['seconds']['backward']:.0%} of the seconds"
    if value > 1:
        raise Wrong("a share is between 0 and 1: divide by the sum over all phases")
    if close(value, shares["seconds"]["backward"]):
        raise Wrong("this is the share of the seconds; operations are in the column `flops`")
    if name := next((name for name, share in shares["flops"].items() if close(value, share)), None):
        raise Wrong(f"this is the share of the phase `{name}`")
    raise Wrong(f"this is too {'much' if value > truth else 'little'}: divide by the sum over all phases")
