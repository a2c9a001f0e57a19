"""Attacks on models: chosen by name, what each would cost, one carried out, and the numbers beside each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from workbench.errors import Missing, NotAvailable, UserError, is_missing, missing, one_line, unknown
from workbench.evals.attacks.spec import MODELS, Outcome, Target, WrongOption, lacking, recovery
from workbench.evals.spec import trust_values

T = TypeVar("T")
Options = dict[str, dict[str, Any]]  # attack -> its keyword options
NOT_YET = "not attacked yet"
WEAK = 0.5  # what an attack alone gets of the model before the run, below which it shows little by itself


def chosen_attacks(names: str | Sequence[str], options: Options | None = None) -> list[str]:
    """The attacks of a list such as "leak_at_k,int4", or "all", in the registry's order; UserError for unknown ones."""
    names = names.split(",") if isinstance(names, str) else list(names)
    names = [name.strip() for name in names if name.strip()]
    chosen = list(recovery) if names == ["all"] else [recovery[name].name for name in names]
    if not chosen:
        raise UserError(f"no attack is named; known: all, {', '.join(recovery)}")
    for name, values in (options or {}).items():
        for key, value in values.items():
            default = recovery[name].options.get(key, inspect.Parameter.empty)
            if default is inspect.Parameter.empty:
                raise unknown(f"option of {name}", key, list(recovery[name].options))
            if isinstance(default, int | float) != isinstance(value, int | float):
                raise UserError(f"{name}.{key} must be {'a number' if isinstance(default, int | float) else 'text'}")
            if isinstance(default, int) and value != int(value):
                raise UserError(f"{name}.{key} must be a whole number, not {value}")
    return [name for name in recovery if name in chosen]


def estimate(name: str, target: Target, options: dict[str, Any]) -> float | Missing:
    """FLOPs that an attack would take on one model, from shapes alone; or why it cannot be carried out."""
    return _tried(name, target, lambda: recovery[name].cost(target, **options))


def _tried(name: str, target: Target, work: Callable[[], T]) -> T | Missing:
    """What an attack's work gives, or why it cannot be carried out; UserError for an option's value that cannot be."""
    try:
        if reason := lacking(recovery[name], target):
            raise NotAvailable(reason)
        return work()
    except WrongOption:
        raise
    except (NotAvailable, UserError) as error:
        return missing(one_line(error))


def attack_model(name: str, target: Target, options: dict[str, Any] | None = None) -> Outcome | Missing:
    """Carry out an attack on one model, which is unchanged; UserError for an option's value that cannot be."""
    training = target.lm.module.training
    target.lm.module.eval()
    try:
        return _tried(name, target, lambda: recovery[name].function(target, **(options or {})))
    finally:
        target.lm.module.train(training)


def summarise(name: str, results: dict[str, dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    """An attack's results on the models beside each other.

    `results` has, of each of `MODELS` that was attacked, `value` (or a missing value's `reason`), `parts`, and more.

    Returns:
        `before`, `run`, `retain_only` and `comes_back`, each a number or a missing value; and what else is known.
        `comes_back` is (run - retain_only) / (before - retain_only): 0 where the run is as the retain-only model, 1
        where it is as before; it can be outside.
    """
    spec = recovery[name]
    values = {model: results.get(model, missing(NOT_YET)) for model in MODELS}
    numbers = {model: entry if is_missing(entry) else entry["value"] for model, entry in values.items()}
    there = {model: entry for model, entry in values.items() if not is_missing(entry)}
    more = {key: {model: entry[key] for model, entry in there.items()} for key in ("parts", "answers", "seconds")}
    compared = spec.compare(more["parts"]) if spec.compare else {}
    return {
        **{model: missing(entry["reason"]) if is_missing(entry) else entry for model, entry in numbers.items()},
        "comes_back": comes_back(numbers),
        **compared,
        "better": spec.better,
        "unit": spec.unit,
        "trust": trust_values(name),
        **weakness(more["parts"]),
        "options": spec.options | options,
        **more,
    }


def weakness(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """`weak`, where the attack alone gets little of what the model before the run knows: it can show nothing by itself.

    The plain answer counts beside an attack, so its value can look like a success that is the plain answer's alone.
    """
    alone = parts.get("before", {}).get("alone")
    if alone is None or alone >= WEAK:
        return {}
    return {"weak": f"weak here: alone it gets {alone:.2f} from the model before the run"}


def comes_back(values: dict[str, Any]) -> float | Missing:
    """How far a run's value is on the way from the retain-only model's to the one before."""
    for model in MODELS:
        if is_missing(values[model]):
            return missing(f"{model}: {values[model]['reason']}")
    width = values["before"] - values["retain_only"]
    if not width:
        return missing("the attack does not separate the model before the run from the retain-only model")
    return float((values["run"] - values["retain_only"]) / width) + 0.0
