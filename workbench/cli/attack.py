"""The command that attacks what a run left: is it forgotten, or only not said?"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import Progress, number, say, table_line
from workbench.cli.options import PromptOptions, command, count, option, settings
from workbench.cli.probe import ProbedTask
from workbench.errors import UserError, is_missing
from workbench.runs import uninterrupted


@command
def attack(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL")],
    task: ProbedTask,
    style: PromptOptions,
    reference: Annotated[str | None, option("RUN_OR_MODEL", "a retain-only model, the floor")] = None,
    before: Annotated[
        str | None, option("RUN_OR_MODEL", "the ceiling; default: the model the run started from")
    ] = None,
    attacks: Annotated[str, option("A,...", "names of attacks, or all")] = "all",
    limit: Annotated[int | None, count("attack at most N answers")] = None,
    seed: Annotated[int, option("N", "random seed")] = 0,
    set_: Annotated[list[str] | None, settings("options of attacks, such as leak_at_k.tries=50")] = None,
    out: Annotated[Path | None, option("DIR", "where results are kept; default: RUN/attacks")] = None,
) -> dict[str, Any]:
    """Attack the model of a run: does what it forgot come back? Continues if it was stopped."""
    options = attack_options(set_ or [])
    with uninterrupted():
        from workbench import runs
    spec = task.spec()
    named = spec.name or spec.forget or spec.retain
    result = runs.attack(
        model, spec if named else None, reference=reference, before=before, attacks=attacks, options=options,
        limit=limit, seed=seed, out=out, progress=Progress(), say=costs, style=asdict(style),
    )  # fmt: skip
    show(result["attacks"])
    return {key: value for key, value in result.items() if key != "answers"}


def attack_options(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """Options by attack, from ATTACK.OPTION=VALUE."""
    options: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        name, dot, field = key.strip().partition(".")
        if not (equals and dot and name and field):
            raise UserError(f"--set takes ATTACK.OPTION=VALUE such as leak_at_k.tries=50, not '{pair}'")
        options.setdefault(name, {})[field] = value_of(text)
    return options


def value_of(text: str) -> Any:
    """A number where it is one, else text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def costs(flops: dict[str, Any]) -> None:
    """Print before anything runs what each attack will take on all models, and what cannot run."""
    for name, value in flops.items():
        line = f"not available: {value['reason']}" if is_missing(value) else f"about {value:.2g} FLOPs"
        say(f"{name}: {line}", error=True)


def show(attacks: dict[str, dict[str, Any]]) -> None:
    """Print the attacks, what comes back most first, and why values are missing."""
    from workbench.cli.tables import reasons
    from workbench.evals import TRUST_SHORT, trust_in_short

    columns = ("retain_only", "run", "before", "comes_back")
    rows = [["attack", *(name.replace("_", " ") for name in columns), "trust", ""]]
    for name, entry in by_strength(attacks):
        arrow = "higher: more deeply forgotten" if entry["better"] == "higher" else entry.get("weak", "")
        rows.append([name, *(number(entry[key]) for key in columns), trust_in_short(name), arrow])
    table_line(rows)
    say("comes back: 0 if the run is like the retain-only model, 1 if it is like the model before")
    say(TRUST_SHORT)
    reasons({f"{name} {key}": entry[key] for name, entry in attacks.items() for key in columns})


def by_strength(attacks: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The attacks, those after which most comes back last; what has no value first."""

    def strength(item: tuple[str, dict[str, Any]]) -> float:
        value = item[1]["run"]
        return -1.0 if is_missing(value) else 1 - value if item[1]["better"] == "higher" else value

    return sorted(attacks.items(), key=strength)
