"""The leaderboard's columns "after attack": how much of what was forgotten comes back, at a like level of forgetting.

Every value is `comes_back`: 0 where a run is as the model that never saw the forget set, 1 where it is as the model
before. `greedy` is no attack: it is the level of forgetting that the others are compared at.
"""

from __future__ import annotations

import time
from statistics import mean
from typing import Any

import numpy as np

Row = dict[str, Any]
LEVEL = "greedy"
ENDS = ("before", "retain_only")


def attacked(lm: Any, ends: dict[str, Any], task: Any, args: Any) -> dict[str, Any]:
    """What each attack gets out of a model: `value`, `parts`, `answers` and `seconds`, or a missing value."""
    from workbench.errors import is_missing
    from workbench.evals.attacks import Target, attack_model, chosen_attacks

    target = Target(lm, task, ends["before"], ends["retain_only"], args.attack_limit)
    out: dict[str, Any] = {}
    for name in dict.fromkeys([LEVEL, *chosen_attacks(args.attacks, args.options)]):
        since = time.perf_counter()
        outcome = attack_model(name, target, args.options.get(name, {}))
        if not is_missing(outcome):
            seconds = time.perf_counter() - since
            outcome = {"value": outcome.value, "parts": outcome.parts, "answers": len(outcome.rows), "seconds": seconds}
        out[name] = outcome
    return out


def comes_back(row: Row, ends: dict[str, Row]) -> dict[str, float]:
    """By attack, how far a run is on the way from the retain-only model to the one before; nan where not known."""
    from workbench.errors import is_missing
    from workbench.evals.attacks import summarise

    out = {}
    for name, entry in row["attacks"].items():
        results = {"run": entry} | {model: ends[model]["attacks"][name] for model in ENDS}
        value = summarise(name, results, {})["comes_back"]
        out[name] = float("nan") if is_missing(value) else value
    return out


def add_columns(cells: list[Row], rows: list[Row], ends: dict[str, Row]) -> None:
    """Give each cell `after`: by attack the mean over its seeds, the lowest and the highest."""
    for cell in cells:
        cell["after"] = after(of_cell(rows, cell), ends)


def after(rows: list[Row], ends: dict[str, Row]) -> dict[str, dict[str, float]]:
    """What comes back of some runs, by attack: mean, lowest and highest; without attacks that were not available."""
    runs = [comes_back(r, ends) for r in rows if "attacks" in r]
    return {
        name: {"mean": mean(values), "low": min(values), "high": max(values)}
        for name in (runs[0] if runs else {})
        if not np.isnan(values := [run[name] for run in runs]).any()
    }


def of_cell(rows: list[Row], cell: Row) -> list[Row]:
    """The runs of a cell that did not fail."""
    same = ("objective", "weights", "lr", "gamma")
    return [r for r in rows if "attacks" in r and all(r[key] == cell[key] for key in same)]


def beyond_level(rows: list[Row], ends: dict[str, Row]) -> dict[str, dict[str, dict[str, float]]]:
    """By attack and weights: what comes back beyond what runs that forgot as much show, mean and range over seeds.

    A line gives what comes back at a run's level (`greedy`), of one slope for all runs and a height for each objective;
    what a run has above it is its residual. A seed's value is the mean residual over the objectives.
    """
    runs = [(r, comes_back(r, ends)) for r in rows if "attacks" in r]
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name in runs[0][1]:
        points = [(r, back[LEVEL], back[name]) for r, back in runs if not np.isnan([back[LEVEL], back[name]]).any()]
        if name == LEVEL or len(points) < 3:
            continue
        objectives = np.array([r["objective"] for r, *_ in points])
        level, values = (_centred(np.array([point[n] for point in points]), objectives) for n in (1, 2))
        left = values - level * (level @ values) / (level @ level) if level.any() else values
        by: dict[str, dict[int, list[float]]] = {}
        for (r, *_), residual in zip(points, left, strict=True):
            by.setdefault(r["weights"], {}).setdefault(r["seed"], []).append(float(residual))
        out[name] = {}
        for weights, seeds in by.items():
            means = [mean(values) for values in seeds.values()]
            out[name][weights] = {"mean": mean(means), "low": min(means), "high": max(means)}
    return out


def answer(beyond: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Do weights leave more behind than full-sample pressure does, at a like level? A line for each of them."""
    lines = []
    for weights in dict.fromkeys(w for by in beyond.values() for w in by if w != "uniform"):
        words: dict[str, list[str]] = {"more": [], "less": []}
        for name, by in beyond.items():
            if {weights, "uniform"} <= set(by) and apart(by[weights], by["uniform"]):
                more = by[weights]["mean"] - by["uniform"]["mean"]
                words["more" if more > 0 else "less"].append(f"{name} by {abs(more):.2f}")
        told = "; ".join(f"{side} behind under {', '.join(names)}" for side, names in words.items() if names)
        lines.append(f"- {weights}: {told or 'all attacks within the noise'}")
    return lines


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values less the mean of their group."""
    return values - np.array([values[groups == group].mean() for group in groups])


def alike(cells: list[Row]) -> list[str]:
    """Per objective: each weighting against uniform where the two forgot alike, by the seeds' ranges."""
    by = {(c["objective"], c["weights"]): c.get("after") for c in cells}
    lines = []
    for (objective, weights), after in by.items():
        base = by.get((objective, "uniform"))
        if weights == "uniform" or LEVEL not in (after or {}) or LEVEL not in (base or {}):
            continue
        if apart(after[LEVEL], base[LEVEL]):
            levels = f"{after[LEVEL]['mean']:.2f} against {base[LEVEL]['mean']:.2f}"
            lines.append(f"- `{objective}` + {weights}: not at a similar level ({levels} left when asked plainly)")
            continue
        words = []
        for name in after:
            if name != LEVEL and name in base and apart(after[name], base[name]):
                more = after[name]["mean"] - base[name]["mean"]
                words.append(f"{name} {'more' if more > 0 else 'less'} by {abs(more):.2f}")
        lines.append(f"- `{objective}` + {weights}: {', '.join(words) or 'all attacks within the noise'}")
    return lines


def apart(a: dict[str, float], b: dict[str, float]) -> bool:
    """Whether the seeds' ranges do not meet."""
    return a["low"] > b["high"] or a["high"] < b["low"]


HEAD = """\
## After attack

`comes_back` of each attack, mean (lowest to highest) over the seeds: 0 as in the model that never saw the forget set
({reference}), 1 as before the run; a run that gives fewer facts than that is below 0. `{level}` is the
plain answer, the level of forgetting. At most {limit} answers per attack; options: {options}.
The attacks' own values: {ends}."""


def pages(args: Any, cells: list[Row], rows: list[Row], ends: dict[str, Row]) -> list[str]:
    """The parts of the page about attacks."""
    names = list(ends["before"]["attacks"])
    options = ", ".join(f"{n}.{k}={v}" for n, values in args.options.items() for k, v in values.items())
    told = "; ".join(
        f"{name} {value_of(ends, 'before', name)} before, {value_of(ends, 'retain_only', name)} retain-only"
        for name in names
    )
    table = ["| objective | weights | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for cell in cells:
        values = [spread(cell["after"].get(name)) for name in names]
        table.append(f"| `{cell['objective']}` | {cell['weights']} | " + " | ".join(values) + " |")
    beyond = beyond_level(rows, ends)
    weights = list(dict.fromkeys(c["weights"] for c in cells))
    second = ["| attack | " + " | ".join(weights) + " |", "|---" * (len(weights) + 1) + "|"]
    second += [
        "| " + " | ".join([name, *(spread(by.get(w), sign=True) for w in weights)]) + " |"
        for name, by in beyond.items()
    ]
    return [
        HEAD.format(
            reference=args.reference, level=LEVEL, limit=args.attack_limit, options=options or "none", ends=told
        ),
        "\n".join(table),
        "What comes back beyond what the level of forgetting explains: residuals of a regression on the level, with "
        "one slope and an intercept for each objective; mean over the objectives, lowest to highest over the seeds. "
        "Above 0: more is left behind.",
        "\n".join(second),
        "Compared with uniform weights by these residuals, where the seeds' ranges do not overlap:",
        "\n".join(answer(beyond)),
        "Compared with uniform weights of the same objective, where the seeds' ranges of the level overlap:",
        "\n".join(alike(cells)),
    ]


def value_of(ends: dict[str, Row], model: str, name: str) -> str:
    """An attack's own value on one of the two other models."""
    value = ends[model]["attacks"][name].get("value")
    return "not available" if value is None else f"{value:.2f}"


def spread(value: dict[str, float] | None, sign: bool = False) -> str:
    """A mean with its range over the seeds."""
    if not value:
        return "not available"
    form = "+.2f" if sign else ".2f"
    mean, low, high = (format(value[key], form) for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
