"""Levels that metrics are to reach, as people write them: forget.fact_accuracy<=0.2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import UserError

FORM = re.compile(r"\s*(\w+)\.(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class Level:
    """A metric of a probe set that is to be at most (`below`) or at least `level`."""

    probe_set: str
    metric: str
    below: bool
    level: float

    def __str__(self) -> str:
        return f"{self.probe_set}.{self.metric}{'<=' if self.below else '>='}{self.level:g}"

    def check(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise where a probing has no such metric."""
        value = metrics.get(self.probe_set, {}).get(self.metric)
        if value is None:
            known = f"sets: {', '.join(metrics)}; metrics: {', '.join(next(iter(metrics.values())))}"
            raise UserError(f"{self}: the {self.probe_set} set has no {self.metric} ({known})")
        if isinstance(value, dict):
            raise UserError(f"{self}: not available: {value['reason']}")

    def holds(self, metrics: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether a probing found it so; what is not available does not hold."""
        value = metrics.get(self.probe_set, {}).get(self.metric)
        if value is None or isinstance(value, dict):
            return False
        return bool(value <= self.level if self.below else value >= self.level)


def level(text: str, option: str) -> Level:
    """The level that SET.METRIC<=X or SET.METRIC>=X names, given under `option`.

    Raises:
        UserError: it names none.
    """
    found = FORM.fullmatch(text)
    try:
        value = float(found[4]) if found else None
    except ValueError:
        value = None
    if found is None or value is None:
        raise UserError(f"{option} takes SET.METRIC<=LEVEL or >=, such as forget.fact_accuracy<=0.2, not '{text}'")
    return Level(found[1], found[2], found[3] == "<=", value)


def levels(text: str, option: str) -> list[Level]:
    """Levels with commas between them, all of which are to hold at once; of nothing none."""
    return [level(part, option) for part in text.split(",")] if text.strip() else []


def met(wanted: Sequence[Level], metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a probing found all of the levels; where none is wanted none is met."""
    return bool(wanted) and all(each.holds(metrics) for each in wanted)
