"""The leaderboard's page and figure: a row a pair of objective and weights, and who leads beyond the seeds' noise."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from many_runs import hardware, placeless

COLUMNS = ("forget", "retain", "neighbours", "generic", "retain_nll", "forgetting", "utility", "score", "seconds")


def cells(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, lowest and highest over the seeds, a row a pair of objective and weights, the best score first."""
    out = []
    for key, group in itertools.groupby(rows, key=lambda r: (r["objective"], r["weights"], r["lr"], r["gamma"])):
        runs = list(group)
        cell: dict[str, Any] = dict(zip(("objective", "weights", "lr", "gamma"), key, strict=True))
        fine = [r for r in runs if "failed" not in r]
        cell |= {"seeds": len(fine), "failed": next((r["failed"] for r in runs if "failed" in r), None)}
        for name in COLUMNS:
            values = [r[name] for r in fine]
            cell[name] = {"mean": mean(values), "low": min(values), "high": max(values)} if values else None
        out.append(cell)
    return sorted(out, key=lambda c: -c["score"]["mean"] if c["score"] else 1.0)


def spread(value: dict[str, float] | None) -> str:
    """A mean with its range over the seeds."""
    return f"{value['mean']:.2f} ({value['low']:.2f}-{value['high']:.2f})" if value else "not available"


def meets(cell: dict[str, Any], before: dict[str, float]) -> bool:
    """Whether at most 15 % of the facts are left at a cost of at most 5 % of the retain facts, in the mean."""
    return bool(cell["forget"]) and cell["forget"]["mean"] <= 0.15 and before["retain"] - cell["retain"]["mean"] <= 0.05


def verdict(cells: list[dict[str, Any]]) -> str:
    """Who leads, which is nobody in particular where the seeds' ranges meet."""
    best = next(c for c in cells if c["score"])
    near = [c for c in cells if c["score"] and c["score"]["high"] >= best["score"]["low"]]
    named = ", ".join(f"{c['objective']} + {c['weights']}" for c in near)
    if len(near) == 1:
        return f"{named} leads: its worst seed is above every other pair's best."
    return f"No single winner: the seeds' ranges of {len(near)} pairs meet the best one's ({named})."


def against_uniform(cells: list[dict[str, Any]]) -> list[str]:
    """Per objective, what each weighting does to the score, where the seeds' ranges are apart."""
    lines = []
    by = {(c["objective"], c["weights"]): c["score"] for c in cells}
    for name in dict.fromkeys(c["objective"] for c in cells):
        base = by.get((name, "uniform"))
        changes = []
        for (objective, weights), score in by.items():
            if objective == name and weights != "uniform" and score and base:
                apart = score["low"] > base["high"] or score["high"] < base["low"]
                sign = "better" if score["mean"] > base["mean"] else "worse"
                changes.append(
                    f"{weights} {sign} by {abs(score['mean'] - base['mean']):.3f}"
                    if apart
                    else f"{weights} within the noise"
                )
        if changes:
            lines.append(f"- `{name}`: " + ", ".join(sorted(changes)))
    return lines


INTRODUCTION = """\
`{command}`, {date}, {minutes:.0f} minutes on {hardware}; {versions}.

Each pair of objective and weights: {tuning}, {steps} steps of {batch} + {batch} answers, chosen by `score` without any
label, then run with seeds {seeds}: mean (lowest-highest). At most {limit} answers probed a set.

- **forget, retain, neighbours**: fact accuracy, the share of greedy answers that hold the labelled value, 0 to 1
  (ROUGE-L recall where nobody labelled one). **generic**: tokens of the forget answers outside the labels that are
  still the first choice. Neighbours share values with the people to forget and are in no training batch.
- **forgetting**: truth ratio of the forget set, mean min(R, 1/R). **utility**: harmonic mean over retain and neighbours
  of probability, ROUGE-L recall and truth ratio, as far as they were at least .25 before: {known}.
  **score**: harmonic mean of both. All 0 to 1.
- **≤ .15 at ≤ .05**: in the mean at most 15 % of the forget facts left, and at most 5 points of retain accuracy lost.
- `spans` are the labels themselves: an oracle, not a method.

Before: {before}."""
HEAD = (
    "objective | weights | x gamma | forget ↓ | retain ↑ | neighbours ↑ | generic ↑ | retain NLL ↓ | forgetting ↑ | "
    "utility ↑ | score ↑ | s a run ↓ | ≤ .15 at ≤ .05"
)


def introduction(args: argparse.Namespace, before: dict[str, float], known: list[str], took: float) -> str:
    """How the numbers came about and what they are."""
    return INTRODUCTION.format(
        command=" ".join(["benchmarks/leaderboard.py", *map(placeless, sys.argv[1:])]),
        date=time.strftime("%Y-%m-%d"),
        minutes=took / 60,
        hardware=hardware(),
        versions=", ".join(f"{k} {v}" for k, v in facts().items()),
        tuning=f"the setting that {placeless(args.chosen)} has" if args.chosen else tuning(args),
        steps=args.steps,
        batch=args.batch_size,
        seeds=args.seeds,
        limit=args.limit,
        known=", ".join(known),
        before=", ".join(f"{k.replace('_', ' ')} {before[k]:.2f}" for k in COLUMNS if k in before),
    )


def tuning(args: argparse.Namespace) -> str:
    """Among which settings the best was chosen."""
    settings = len(args.lrs.split(",")) * len(args.gammas.split(","))
    tried = f"lr {args.lrs} x forget weight\n{args.gammas} times the authors'"
    return f"{settings} settings tried with a seed of their own ({tried})"


def page(
    args: argparse.Namespace, cells: list[dict[str, Any]], before: dict[str, float], known: list[str], took: float
) -> str:
    """The Markdown page."""
    lines = [f"| {HEAD} |", "|---" * len(HEAD.split("|")) + "|"]
    for c in cells:
        first = [
            f"`{c['objective']}`",
            c["weights"],
            (f"lr {c['lr']:g}, " if "," in args.lrs else "") + f"{c['gamma']:g}",
        ]
        columns = [*first, *(spread(c[n]) for n in COLUMNS), "yes" if meets(c, before) else "no"]
        lines.append("| " + " | ".join(columns) + " |")
    failed = [f"- {c['objective']} + {c['weights']}: {c['failed']}" for c in cells if c["failed"]]
    parts = [f"# Leaderboard: {args.task} on {args.name}", introduction(args, before, known, took), "\n".join(lines)]
    parts += [f"![Forget against retain]({Path(args.out).name}.svg)", verdict(cells)]
    parts += ["Against uniform weights, in `score`:", "\n".join(against_uniform(cells))]
    parts += ["Failed:", "\n".join(failed)] if failed else []
    return "\n\n".join(parts) + "\n"


def facts() -> dict[str, str]:
    """Versions that the numbers depend on."""
    from workbench.runs import versions

    every = versions()
    return {name: every[name] for name in ("torch", "transformers", "python")} | {"commit": every["commit"][:10]}


def draw(cells: list[dict[str, Any]], before: dict[str, float], out: Path) -> None:
    """The trade-off: facts left of the forget set against facts lost of the retain set, with the seeds' ranges."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "leaderboard"
    weights = list(dict.fromkeys(c["weights"] for c in cells))
    names = sorted({c["objective"] for c in cells})
    figure, axes = plt.subplots(1, len(weights), figsize=(3.6 * len(weights), 4.2), sharex=True, sharey=True)
    marks = "osD^v<>PX*hd8pH"
    for axis, weight in zip(axes if len(weights) > 1 else [axes], weights, strict=True):
        for c in (c for c in cells if c["weights"] == weight and c["forget"]):
            x, y = c["retain"], c["forget"]
            axis.errorbar(
                x["mean"], y["mean"], fmt=marks[names.index(c["objective"]) % len(marks)], ms=6, lw=1,
                xerr=[[x["mean"] - x["low"]], [x["high"] - x["mean"]]],
                yerr=[[y["mean"] - y["low"]], [y["high"] - y["mean"]]],
                color=plt.cm.tab20(names.index(c["objective"]) / 20), label=c["objective"],
            )  # fmt: skip
        axis.axhline(0.15, color="grey", lw=0.7, ls=":")
        axis.axvline(before["retain"] - 0.05, color="grey", lw=0.7, ls=":")
        axis.set(title=weight, xlabel="retain, right answers")
    first = axes[0] if len(weights) > 1 else axes
    first.set_ylabel("forget, right answers")
    handles = {h.get_label(): h for axis in figure.axes for h in axis.containers}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=8, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(out, metadata={"Date": None})
