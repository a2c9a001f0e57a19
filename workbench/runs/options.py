"""Options as text: `key=value` pairs become settings and keyword arguments, checked against what is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workbench.errors import UserError, check_known, unknown
from workbench.objectives import objective
from workbench.scorers import scorer
from workbench.unlearning import Settings, current_name

Options = dict[str, dict[str, Any]]
OWN = {name: value for name, value in vars(Settings()).items() if name != "options"}  # the settings and their defaults
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def settings_for(pairs: list[str], objectives: list[str], weights: list[str], *, others_too: bool = False) -> Settings:
    """Settings from `key=value` pairs, on top of those of the (first) objective's authors.

    A pair is for a setting or an option of any of the objectives or weights (scorers by name, or files). With
    `others_too` the pairs are also meant for other runs of a sweep: what these objectives and weights do not take is
    left out, instead of refused.
    """
    scorers = []
    for each in weights:
        if each.endswith((".parquet", ".safetensors")):
            continue
        if each not in scorer and Path(each).exists():
            raise UserError(f"--weights takes a scorer's name, FILE.parquet or FILE.safetensors, not {each}")
        scorers.append(each)
    parts: Options = {"objective": {}, "weights": {}}
    for name in objectives:
        parts["objective"] |= objective[name].options
    for name in scorers:
        parts["weights"] |= scorer[name].options
    presets = {key: value for name in scorers for key, value in presets_of(name).items()}
    if others_too:
        pairs = [pair for pair in pairs if _takers(pair.partition("=")[0], parts, presets)]
    return settings_from(pairs, parts, presets=presets, **objective[objectives[0]].settings)


def settings_from(pairs: list[str], parts: Options, presets: Options | None = None, **defaults: Any) -> Settings:
    """Settings from `key=value` pairs; a key may also be an option of the run's `objective` or `weights`.

    If a setting and an option share a name, the name alone means the setting; `weights.lr=0.01` means the option.
    `parts` has the options that "objective" and "weights" take, with their defaults, and `presets` the named options of
    the weights, for `preset=NAME`. `defaults` are settings that differ from the class's own.
    """
    known, chosen = {"settings": OWN, **parts}, {"settings": dict(defaults)}
    for key, text in split_pairs(pairs):
        takers = _takers(key, parts, presets)
        if not takers:
            raise unknown("setting", key, [*sorted(OWN), *(name for options in parts.values() for name in options)])
        for part, name in takers:
            values = preset(text, presets or {}) if name == "preset" else {name: value_of(key, text, known[part][name])}
            chosen.setdefault(part, {}).update(values)
    return Settings(**chosen.pop("settings"), options=chosen)


def _takers(key: str, parts: Options, presets: Options | None) -> list[tuple[str, str]]:
    """What a key means, as (part, option): a setting, a preset, or an option of each part that has it."""
    if key == "preset" and presets:
        return [("weights", key)]
    if (name := current_name(key)) in OWN:
        return [("settings", name)]
    part, dot, option = key.partition(".")
    if dot:
        return [(part, option)] if option in parts.get(part, {}) else []
    return [(part, key) for part, options in parts.items() if key in options]


def value_of(key: str, text: str, default: Any) -> Any:
    """The text as a value of the default's type."""
    kind = type(default)
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError:
        raise UserError(f"{key}: '{text}' is not {KINDS.get(kind, kind.__name__)}") from None


def split_pairs(pairs: list[str]) -> list[tuple[str, str]]:
    """(key, value) of each pair, presets first, so that the other pairs override them wherever they stand."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes key=value, not '{pair}'")
    parted = [pair.partition("=") for pair in pairs]
    return sorted(((key, text) for key, _, text in parted), key=lambda each: each[0] != "preset")


def scorer_options(pairs: list[str], names: list[str]) -> Options:
    """Options by scorer from `key=value` pairs; each goes to every scorer that takes it."""
    options: Options = {name: {} for name in names}
    known = {name: scorer[name].options for name in names}
    for key, text in split_pairs(pairs):
        takers = [name for name in names if key in known[name] or (key == "preset" and presets_of(name))]
        if not takers:
            raise unknown("scorer option", key, sorted({k for name in names for k in known[name]}))
        for name in takers:
            values = preset(text, presets_of(name)) if key == "preset" else {key: value_of(key, text, known[name][key])}
            options[name].update(values)
    return options


def presets_of(name: str) -> Options:
    """A scorer's named presets."""
    return scorer[name].presets


def preset(name: str, presets: Options) -> dict[str, Any]:
    """The options of one of a scorer's presets."""
    check_known("preset", name, presets)
    return presets[name]
