"""Where a run is stopped before its last step: on request, or at levels that metrics reach (early stopping)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError

STOP = "stop"  # a file of this name in its directory stops a run after its step
FORM = re.compile(r"\s*(\w+)\.(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


class Stopped(Exception):
    """A run was stopped; its directory can be resumed."""

    resumable = True

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step = path, step

    @property
    def hint(self) -> str:
        """How to go on."""
        return f"resume it with: workbench runs resume {self.path}"


@dataclass(frozen=True)
class Level:
    """A metric of a probe set is at most (`below`) or at least `level`, written as forget.fact_accuracy<=0.2."""

    probe_set: str
    metric: str
    below: bool
    level: float

    def __str__(self) -> str:
        return f"{self.probe_set}.{self.metric}{'<=' if self.below else '>='}{self.level:g}"

    def check(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise if a probe has no such metric."""
        value = metrics.get(self.probe_set, {}).get(self.metric)
        if value is None:
            known = f"sets: {', '.join(metrics)}; metrics: {', '.join(next(iter(metrics.values())))}"
            raise UserError(f"{self}: the {self.probe_set} set has no {self.metric} ({known})")
        if isinstance(value, dict):
            raise UserError(f"{self}: not available: {value['reason']}")

    def reached(self, metrics: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether a probe's metric is there; a metric that is not available never is."""
        value = metrics.get(self.probe_set, {}).get(self.metric)
        if value is None or isinstance(value, dict):
            return False
        return bool(value <= self.level if self.below else value >= self.level)


def level(text: str, option: str) -> Level:
    """The level that SET.METRIC<=X or SET.METRIC>=X names; a UserError, for a text that is none, names `option`."""
    if match := FORM.fullmatch(text):
        with contextlib.suppress(ValueError):  # of characters that make no number
            return Level(match[1], match[2], match[3] == "<=", float(match[4]))
    raise UserError(f"{option} takes SET.METRIC<=LEVEL or >=, such as forget.fact_accuracy<=0.2, not '{text}'")


def levels(text: str) -> list[Level]:
    """The levels of `stop_at`, separated by commas; no text means none."""
    return [level(part, "stop_at") for part in text.split(",")] if text.strip() else []


def all_reached(wanted: Sequence[Level], metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a probe reaches all levels at once; without levels it never does."""
    return bool(wanted) and all(each.reached(metrics) for each in wanted)
