"""The settings of `compute_to_forget`: drawn, refined from the best, with sparse steps, or of an earlier page."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
from pathlib import Path
from typing import Any

from compute_page import KINDS, SETTINGS, describe, kind_of
from many_runs import Rows

from workbench.runs.scheduler import Workers

TUNING_SEED = 1000
SPACE: dict[str, list[Any]] = {
    "lr": [1e-3, 2e-3],
    "gamma": [0.03, 0.1, 0.3],
    "batch_size": [16, 32],
    "retain_batch": [32, 64],
    "retain_every": [1, 2],
    "train": ["all", "half"],
    "skip": [0.0, 0.1],
}
# Sparse steps, tried on a method's best setting; `by_chance` of them is the control of the same size.
SPARSE: list[dict[str, Any]] = [
    {"share": 0.2, "retain_share": 0.3},
    {"share": 0.2, "retain_share": 0.3, "retain_by": "random", "reuse": 4, "drift": 0.05},
    {"share": 0.2, "retain_share": 0.3, "names": False},
    {"share": 0.2, "retain_share": 0.3, "names": False, "retain_by": "random"},
    {"share": 0.2, "retain_share": 0.3, "retain_by": "random"},
    {"share": 0.2},
]


def draws(budget: int) -> list[dict[str, Any]]:
    """The settings that every method is tried with."""
    draw, settings = random.Random(0), []
    budget = min(budget, math.prod(len(values) for values in SPACE.values()))
    while len(settings) < budget:
        setting = {name: draw.choice(values) for name, values in SPACE.items()}
        if setting not in settings:
            settings.append(setting)
    return settings


def best_of(rows: list[dict[str, Any]], methods: list[list[str]]) -> list[dict[str, Any]]:
    """The best row of each method."""
    return [min((r for r in rows if [r["objective"], r["weights"]] == method), key=rank) for method in methods]


def how_tuning_went(rows: list[dict[str, Any]], best: dict[str, Any]) -> str:
    """A line on a method's settings."""
    mine = [r for r in rows if (r["objective"], r["weights"]) == (best["objective"], best["weights"])]
    return f"- {describe(best)}; {sum(r['reached'] for r in mine)} of {len(mine)} settings reached the goal"


def refined(best: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """The second round of settings, from the best of the first."""
    longer = {name: best[name] for name in (*SETTINGS, "objective", "weights", "kind", "seed")} | {"steps": 2 * steps}
    changes: list[dict[str, Any]] = [
        {}, {"retain_batch": 64, "retain_every": 1}, {"gamma": 2 * best["gamma"]}, {"gamma": best["gamma"] / 2},
        {"gamma": best["gamma"] / 2, "skip": 0.1},
    ]  # fmt: skip
    return [longer | change for change in changes]


def sparser(best: dict[str, Any]) -> list[dict[str, Any]]:
    """The third round: the best setting with sparse steps, by scores or, without token weights, by chance."""
    same = {k: best[k] for k in (*SETTINGS, "objective", "weights", "kind", "seed", "steps") if k in best}
    chance = {"share_by": "random", "retain_by": "random"} if best["kind"] == "full sample" else {}
    if chance:
        same["skip"] = 0.0
    if best["weights"] == "atwu":  # a scorer that learns along reads all forget tokens
        chance = {"share": 1.0}
    tried: list[dict[str, Any]] = []
    for each in SPARSE:
        if (sparse := each | chance) not in tried and sparse != {"share": 1.0}:
            tried.append(sparse)
    return [same | {"sparse": sparse} for sparse in tried]


def started(path: str, methods: list[list[str]]) -> list[dict[str, Any]]:
    """The settings of an earlier record's methods, as tuning's rows with plain steps."""
    cells = [c for c in json.loads(Path(path).read_text())["cells"] if [c["objective"], c["weights"]] in methods]
    names = (*SETTINGS, "objective", "weights", "kind")
    rows = [{k: c[k] for k in names} | ({"steps": c["steps"]} if c["steps"] else {}) for c in cells]
    return [row | {"seed": TUNING_SEED} for row, c in zip(rows, cells, strict=True) if not c.get("sparse")]


def contender(words: str, picked: list[dict[str, Any]]) -> dict[str, Any]:
    """A method's setting with changes: of `METHOD:NAME=VALUE,...`, in the space of settings or of sparse steps."""
    method, _, pairs = words.partition(":")
    same = [row for row in picked if [row["objective"], row["weights"]] == method.split("+") and not row.get("sparse")]
    if not same:
        raise SystemExit(f"--also {words}: --methods has no {method}")
    row, sparse = dict(same[0]), {}
    for pair in pairs.split(","):
        name, _, value = pair.partition("=")
        read = {"true": True, "false": False}.get(value.lower(), value)
        with contextlib.suppress(ValueError, TypeError):
            read = json.loads(value.lower())
        (row if name in (*SETTINGS, "steps") else sparse)[name] = read
    return row | {"sparse": sparse, "kind": kind_of(row["weights"], sparse)}


def rank(row: dict[str, Any]) -> tuple[bool, float]:
    """The cheapest row that reached the goal comes first; where none did, the one that came nearest."""
    return not row["reached"], row["flops"] if row["reached"] else row["miss"]


def tuned(args: argparse.Namespace, rows: Rows, workers: Workers) -> tuple[list[dict[str, Any]], list[str]]:
    """Each method's best setting, with plain and with sparse steps, and how tuning went."""
    methods = [method.split("+") for method in args.methods.split(",")]
    if args.start and not args.third:
        return started(args.start, methods), []
    jobs = [d | {"objective": o, "weights": w, "kind": kind_of(w), "seed": TUNING_SEED}
            for o, w in methods for d in draws(args.budget)]  # fmt: skip
    tried = rows.run(workers, started(args.start, methods) if args.start else jobs)
    if not args.start:
        first = best_of(tried, methods)
        tried += rows.run(workers, [job for row in first for job in refined(row, args.steps)[: args.second]])
    plain = best_of(tried, methods)
    sparse = rows.run(workers, [job for row in plain for job in sparser(row)[: args.third]])
    picked = plain + (best_of(sparse, methods) if sparse else [])
    tuning = [how_tuning_went(sparse if row.get("sparse") else tried, row) for row in picked]
    few: list[dict[str, Any]] = []
    for kind in (*KINDS, "oracle"):
        for steps in (False, True):
            mine = (row for row in picked if row["kind"] == kind and bool(row.get("sparse")) == steps)
            few += sorted(mine, key=rank)[: args.best]
    return few, tuning
