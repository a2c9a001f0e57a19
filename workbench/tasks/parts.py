"""Parts of a task that are requests of their own: some of its people, authors or files; and tasks put together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from workbench.errors import UserError
from workbench.tasks.samples import Sample, Task

ABOUT_FORGET = ("aliases", "two_hop")  # sets that ask about the forget rows in other ways
ASKED = ("forget", *ABOUT_FORGET)
NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def numbered(task: str, kind: str, text: str, count: int, first: int = 0) -> list[int]:
    """The numbers that a part of a task names, such as `person:0,3-5`; there are `count` of them from `first` on.

    Raises:
        UserError: it is no such part, or names one twice or one that is not there.
    """
    head, colon, numbers = text.partition(":")
    last = first + count - 1
    if head != kind or not colon or not NUMBERS.fullmatch(numbers) or len(numbers) > 1000:
        raise UserError(
            f"task '{task}' has no part '{text}'; write {task}/{kind}:N or {kind}:N,M-P, N from {first} to {last}"
        )
    chosen: list[int] = []
    for part in numbers.split(","):
        low, _, high = part.partition("-")
        ends = int(low), int(high or low)
        if not first <= ends[0] <= ends[1] <= last:
            raise UserError(f"task '{task}' has {kind}:{first} to {kind}:{last}, not {part}")
        chosen += range(ends[0], ends[1] + 1)
    if len(set(chosen)) < len(chosen):
        raise UserError(f"task '{task}': a {kind} stands twice in '{text}'")
    return chosen


def joined(tasks: Sequence[Task], name: str) -> Task:
    """One task of several: each set has the samples of all, once each; ids that two share get the task's number.

    Raises:
        UserError: a forget row of one task is in the retain set of another, or in two forget sets.
    """
    _check_apart(tasks)
    if len(tasks) == 1:
        return replace(tasks[0], name=name)
    names = list(dict.fromkeys(each for task in tasks for each in task.sets))
    sets: dict[str, list[Sample]] = {}
    for each in names:
        by_id: dict[str, Sample] = {}
        for n, task in enumerate(tasks, 1):
            for sample in task.sets.get(each, []):
                if by_id.get(sample.id) != sample:
                    own = sample.id if sample.id not in by_id else f"{sample.id}-of-{n}"
                    by_id[own] = replace(sample, id=own)
        sets[each] = list(by_id.values())
    return Task(name, sets)


def rehearsing(task: Task, earlier: Sequence[Task]) -> Task:
    """A task that forgets the forget rows of earlier ones again; what it keeps and probes besides is its own.

    Raises:
        UserError: as `joined`.
    """
    asked = [Task(each.name, {name: each.sets[name] for name in ASKED if name in each.sets}) for each in earlier]
    return joined([task, *asked], task.name)


def _check_apart(tasks: Sequence[Task]) -> None:
    """Raise where a row is to be forgotten by two tasks, or forgotten by one and kept by another."""
    asked: dict[tuple[str, str], int] = {}
    for n, task in enumerate(tasks, 1):
        for sample in task.forget:
            first = asked.setdefault(sample.key, n)
            if first != n:
                raise UserError(
                    f"request {n} ({task.name}) asks again for what request {first} asks for: '{sample.id}'"
                )
    for n, task in enumerate(tasks, 1):
        for sample in task.sets.get("retain", []):
            if sample.key in asked:
                raise UserError(
                    f"row '{sample.id}' of the retain set of request {n} ({task.name}) is what request "
                    f"{asked[sample.key]} asks to forget; take it out: what is practised on is not forgotten"
                )
