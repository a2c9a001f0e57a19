"""A run made wrong on purpose: one setting spoils it, the others that differ are harmless."""

from __future__ import annotations

from typing import Any

from workbench.runs import Config

FAULTS = {
    "alpha": (lambda value: 0.0, "nothing holds what is to be kept: the weight of the retain loss is 0"),
    "lr": (lambda value: value / 1000, "the steps are a thousand times too small: nothing moves, nothing is forgotten"),
}


def faulty(config: Config, seed: int = 0) -> Config:
    """The configuration with one fault, chosen by the seed, and with other settings that change but do no harm."""
    name = list(FAULTS)[seed % len(FAULTS)]
    changed: dict[str, Any] = {name: FAULTS[name][0](getattr(config.settings, name))}
    harmless = {"seed": config.settings.seed + 1, "record_every": 2 * config.settings.record_every}
    return config.replace(settings=config.settings.replace(**changed, **harmless))


def differences(one: Config, other: Config) -> set[str]:
    """The settings, and fields of the configuration, in which two runs differ."""
    first, second = (each.model_dump() | each.settings.model_dump() for each in (one, other))
    return {name for name in first if first[name] != second[name] and name != "settings"}
