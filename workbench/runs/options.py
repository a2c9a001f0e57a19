"""Options as text: `key=value` pairs become settings and keyword arguments, checked against what is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import UserError, unknown
from workbench.objectives import objective
from workbench.scorers import scorer
from workbench.unlearning import Settings, current_name


def settings_for(pairs: list[str], objectives: list[str], weights: list[str], *, others_too: bool = False) -> Settings:
    """Settings out of `key=value` pairs, on top of what the (first) objective's authors set.

    Args:
        pairs: key=value, each for a setting or an option of any of the objectives or weights.
        objectives: by name.
        weights: scorers by name, or files.
        others_too: leave out what none of them takes (it is meant for others of a sweep) instead of refusing it.
    """
    named = []
    for each in weights:
        a_file = each.endswith((".parquet", ".safetensors"))
        if each not in scorer and Path(each).exists() and not a_file:
            raise UserError(f"--weights takes a scorer's name, FILE.parquet or FILE.safetensors, not {each}")
        named += [] if a_file else [each]
    parts: dict[str, dict[str, Any]] = {"objective": {}, "weights": {}}
    for name in objectives:
        parts["objective"] |= objective[name].options
    for name in named:
        parts["weights"] |= scorer[name].options
    presets = {key: value for name in named for key, value in presets_of(name).items()}
    if others_too:
        pairs = [pair for pair in pairs if takes(pair.split("=")[0], parts, bool(presets))]
    return settings_from(pairs, parts, presets=presets, **objective[objectives[0]].settings)


def takes(key: str, parts: dict[str, dict[str, Any]], presets: bool) -> bool:
    """Whether a key of `--set` is a setting of every run, or an option of these parts."""
    part, _, option = key.partition(".")
    own = set(Settings.model_fields)
    return current_name(key) in own or option in parts.get(part, {}) or any(key in p for p in parts.values()) or (
        key == "preset" and presets
    )  # fmt: skip


def settings_from(
    pairs: list[str],
    parts: dict[str, dict[str, Any]],
    presets: dict[str, dict[str, Any]] | None = None,
    **defaults: Any,
) -> Settings:
    """Settings out of `key=value` pairs; a key may also be an option of the run's `objective` or `weights`.

    Where a setting and an option share a name, the setting is meant; `weights.lr=0.01` means the option.

    Args:
        pairs: what `--set` was given.
        parts: "objective" and "weights" -> the options that these take, with their defaults.
        presets: named options of the weights, for `preset=NAME`.
        defaults: settings that differ from the class's own.
    """
    own = set(Settings.model_fields) - {"options"}
    values: dict[str, Any] = dict(defaults)
    options: dict[str, dict[str, Any]] = {}
    for name, text in split_pairs(pairs):
        key = current_name(name)
        if key == "preset" and presets:
            options.setdefault("weights", {}).update(preset(text, presets))
            continue
        part, dot, option = key.partition(".")
        if dot and option in parts.get(part, {}):
            options.setdefault(part, {})[option] = _value(key, text, parts[part][option])
            continue
        takers = [part for part, known in parts.items() if key in known]
        if key in own:
            values[key] = _value(key, text, getattr(Settings(), key))
        elif takers:
            for part in takers:
                options.setdefault(part, {})[key] = _value(key, text, parts[part][key])
        else:
            raise unknown("setting", key, [*sorted(own), *(k for known in parts.values() for k in known)])
    return Settings(**values, options=options)


def _value(key: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{key}: '{text}' is not true or false")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(type(default), type(default).__name__)
        raise UserError(f"{key}: '{text}' is not {kind}") from None


def split_pairs(pairs: list[str]) -> list[tuple[str, str]]:
    """(key, value) of each pair, presets in front, so that what is given beside a preset counts wherever it stands."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes key=value, not '{pair}'")
    found = [(key, text) for key, _, text in (pair.partition("=") for pair in pairs)]
    return sorted(found, key=lambda each: each[0] != "preset")


def scorer_options(pairs: list[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """Options by scorer out of `key=value` pairs; each goes to every scorer that takes it."""
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    known = {name: scorer[name].options for name in names}
    for key, text in split_pairs(pairs):
        takers = [name for name in names if key in known[name] or (key == "preset" and presets_of(name))]
        if not takers:
            raise unknown("scorer option", key, sorted({k for name in names for k in known[name]}))
        for name in takers:
            options[name].update(
                preset(text, presets_of(name)) if key == "preset" else {key: _value(key, text, known[name][key])}
            )
    return options


def presets_of(name: str) -> dict[str, dict[str, Any]]:
    """A scorer's named presets."""
    return scorer[name].presets


def preset(which: str, presets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The options of one of a scorer's presets."""
    if which not in presets:
        raise unknown("preset", which, list(presets))
    return presets[which]
