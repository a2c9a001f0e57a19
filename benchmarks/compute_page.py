"""The page of `compute_to_forget`: what each method's seeds cost, ratios between methods, and what comes back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import after_attack
from many_runs import placeless

SETTINGS = ("lr", "gamma", "batch_size", "retain_batch", "retain_every", "train", "skip")
SETS = ("forget", "paraphrases", "retain", "neighbours")
KINDS = ("full sample", "token-weighted")
HEAD = (
    "method | weights | kind | setting | goal reached | GFLOP ↓ | with all spent ↓ | seconds ↓ | steps"
    " | importance, of FLOPs | of seconds"
)
MEASURES = ("flops", "seconds", "step", "importance_flops", "importance_seconds")
AT_THE_GOAL = """\
## At the goal

All seeds, each at its first check at the goal or, where it missed it, at the check that was nearest: the sets' {what}.
"""
ATTACKED = """\
Then `comes_back` of each attack: 0 as in the model that never saw the forget set, 1 as before the run; below 0 it gives
fewer facts than that. `greedy` is the plain answer. {limit} answers per attack; options: {options}."""


def sets_of(unrehearsed: int) -> tuple[str, ...]:
    """The sets that are measured."""
    return (*SETS, "unrehearsed") if unrehearsed else SETS


def kind_of(weights: str, sparse: dict[str, Any] | None = None) -> str:
    """Whether weights make a run full-sample, token-weighted, an oracle, or a control that weighs tokens by chance."""
    kind = {"uniform": "full sample", "spans": "oracle"}.get(weights, "token-weighted")
    return "control" if kind == "token-weighted" and (sparse or {}).get("share_by") == "random" else kind


def describe(row: dict[str, Any]) -> str:
    """A row in a line."""
    if "attacked" in row:
        return f"attacked: {row['attacked']}"
    name = f"{row['objective']} {row['weights']}{' sparse' if row.get('sparse') else ''} seed {row['seed']}"
    if "failed" in row:
        return f"{name}: {row['failed']}"
    got = " ".join(f"{n[:6]} {row[n]:.2f}" for n in (*SETS, "unrehearsed") if n in row)
    how = f"goal at step {row['step']}" if row["reached"] else f"missed by {row['miss']:.3f}"
    return f"{name}: {how}, {got}, {row['flops'] / 1e9:.0f} GFLOP, {row['seconds']:.1f} s"


def ranged(values: list[float]) -> dict[str, float] | None:
    """Mean, lowest and highest; None of no values."""
    return {"mean": mean(values), "low": min(values), "high": max(values)} if values else None


def cell(rows: list[dict[str, Any]], sets: tuple[str, ...] = SETS, by: str = "strength") -> dict[str, Any]:
    """A method's seeds: how many reached the goal, and what it cost those, mean and range.

    `at` are the sets' figures at the best check of every seed.
    """
    fine = [r for r in rows if r["reached"]]
    first = rows[0]
    out: dict[str, Any] = {k: first[k] for k in ("objective", "weights", "kind", *SETTINGS)}
    out |= {"steps": first.get("steps"), "sparse": first.get("sparse")}
    out |= {"seeds": len(rows), "reached": len(fine), "missed_by": mean(r["miss"] for r in rows)}
    ends = [r if r["reached"] else r["checks"][-1] for r in rows if r.get("checks")]
    out["skip"] = first["skip"] if first.get("skipped") else 0.0  # it cannot serve every method
    out["spent"] = {by: mean(e[by] for e in ends) if ends else float("inf") for by in ("flops", "seconds")}
    out |= {name: ranged([r[name] for r in fine]) for name in MEASURES}
    suffix = " probability" if by == "probability" else ""
    out["at"] = {name: ranged([r[name + suffix] for r in rows if name in r]) for name in sets}
    return out


def ratio(cells: list[dict[str, Any]], by: str, kinds: tuple[str, str] = KINDS) -> dict[str, Any]:
    """Mean cost of the cheapest method of one kind over that of the cheapest of another.

    Compared are methods that reached the goal with most seeds. A run that did not reach it counts with all that it
    spent, on both sides: what reaching it would have cost there is not known.
    """
    sides = []
    for kind in kinds:
        candidates = [c for c in cells if c["kind"] == kind and 2 * c["reached"] > c["seeds"]]
        if not candidates:
            return {"value": None, "reason": f"no {kind} method reached the goal with most seeds"}
        sides.append(min(candidates, key=lambda c: c["spent"][by]))
    full, weighted = sides
    between = [
        f"{c['objective']} + {c['weights']}{', sparse' if c['sparse'] else ''} "
        f"({c['reached']} of {c['seeds']} reached it)"
        for c in sides
    ]
    return {"value": full["spent"][by] / weighted["spent"][by], "between": between}


def ratios(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Full-sample methods over token-weighted ones, and of the latter those with plain steps over those with sparse."""
    steps = [c | {"kind": "sparse" if c["sparse"] else "plain"} for c in cells if c["kind"] == "token-weighted"]
    out = {f"ratio_full_sample_{by}": ratio(cells, by) for by in ("flops", "seconds")}
    return out | {f"ratio_plain_{by}": ratio(steps, by, ("plain", "sparse")) for by in ("flops", "seconds")}


def spread(value: dict[str, float] | None, scale: float = 1.0, digits: int = 0) -> str:
    """A mean with its range over the seeds."""
    if value is None:
        return "never"
    low, middle, high = (f"{value[k] / scale:.{digits}f}" for k in ("low", "mean", "high"))
    return f"{middle} ({low}-{high})"


def setting_of(c: dict[str, Any]) -> str:
    """A cell's setting in words."""
    return (
        f"lr {c['lr']:g}, gamma {c['gamma']:g}, {c['batch_size']} + {c['retain_batch']}"
        f"{' every ' + str(c['retain_every']) if c['retain_every'] > 1 else ''}, {c['train']}"
        f"{', skip ' + format(c['skip'], 'g') if c['skip'] else ''}"
        f"{', ' + str(c['steps']) + ' steps' if c['steps'] else ''}{sparse_of(c)}"
    )


def sparse_of(c: dict[str, Any]) -> str:
    """The settings of a cell's sparse steps; nothing for plain ones."""
    return "".join(f", {k} {v}" for k, v in (c["sparse"] or {}).items())


def line(c: dict[str, Any]) -> str:
    """A row of the table."""
    shares = ["" if c[n] is None else f"{c[n]['mean']:.0%}" for n in ("importance_flops", "importance_seconds")]
    reached = f"{c['reached']} of {c['seeds']}"
    if c["reached"] < c["seeds"]:
        reached += f" (missed by {c['missed_by']:.3f})" if not c["reached"] else ""
    costs = [spread(c["flops"], 1e9), f"{c['spent']['flops'] / 1e9:.0f}", spread(c["seconds"], digits=1)]
    first = [c["objective"], c["weights"], c["kind"], setting_of(c), reached]
    return "| " + " | ".join([*first, *costs, spread(c["step"]), *shares]) + " |"


def at_the_goal(args: argparse.Namespace, cells: list[dict[str, Any]]) -> list[str]:
    """The second table: damage and attacks at the goal."""
    names, sets = list(cells[0].get("after", {})), list(cells[0]["at"])
    options = ", ".join(f"{n}.{k}={v}" for n, values in args.options.items() for k, v in values.items())
    head = ["method", "weights", "steps", *sets, *names]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for c in cells:
        kept = [spread(c["at"][name], digits=2) if c["at"][name] else "" for name in sets]
        back = [after_attack.spread(c["after"].get(name)) for name in names]
        steps = sparse_of(c).removeprefix(", ") or "plain"
        lines.append("| " + " | ".join([c["objective"], c["weights"], steps, *kept, *back]) + " |")
    text = AT_THE_GOAL.format(what="answer probability" if args.by == "probability" else "extraction strength")
    text += ATTACKED.format(limit=args.attack_limit, options=options or "none") if names else ""
    return [text.rstrip(), "\n".join(lines)]


def page(args: argparse.Namespace, record: dict[str, Any]) -> str:
    """The Markdown page."""
    by, what = (" probability", "answer probability") if args.by == "probability" else ("", "extraction strength")
    goal = ", ".join(f"{name} at most {record['never'][name + by] + 0.05:.2f}" for name in ("forget", "paraphrases"))
    before = ", ".join(f"{name} {value:.2f}" for name, value in record["before"].items())
    command = " ".join(map(placeless, sys.argv[1:]))
    told = [
        f"- {name}: " + (f"not available, {r['reason']}" if r["value"] is None else
                         f"{r['value']:.2f}, {' over '.join(r['between'])}")
        for name, r in record["ratios"].items()
    ]  # fmt: skip
    parts = [
        f"# Compute to forget: {Path(args.forget).stem if args.forget else args.task}",
        f"`benchmarks/compute_to_forget.py {command}`, on {record['hardware']}, {args.seed_workers or args.workers} "
        f"of the seeds' runs at a time, of {args.threads} thread(s).",
        f"Extraction strength (and answer probability) before: {before}. Goal: {what} of {goal}; "
        f"{' and '.join(record['kept_by'])} at least 95 % of before. Checked "
        f"every {args.every} steps of at most {args.steps} or {2 * args.steps}, {args.limit} answers a set. "
        f"{how_chosen(args)} Seeds {args.seeds}: mean (lowest-highest) over those that reached the goal; with all "
        "spent: mean over all seeds, those that missed it with all that they spent.",
        "\n".join([f"| {HEAD} |", "|---" * len(HEAD.split("|")) + "|", *map(line, record["cells"])]),
        "\n".join(told),
        *at_the_goal(args, record["cells"]),
    ]
    if record["tuning"]:
        parts += [f"The best setting of each method while tuning (the best {args.best} of a kind were run with the "
                  "seeds):", "\n".join(record["tuning"])]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def how_chosen(args: argparse.Namespace) -> str:
    """Where the settings are from."""
    if args.start and not args.third:
        return f"The settings are those of {Path(args.start).name}; nothing was tuned."
    given = f"The settings of {Path(args.start).name}" if args.start else f"{args.budget} + {args.second} settings"
    return f"{given} a method, the best also with {args.third} sparse ones, chosen by FLOPs with a seed of its own."
