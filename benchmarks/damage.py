"""Do learned weights matter? Runs on biographies that stop at the same level of forgetting, and their damage.

    .venv/bin/python benchmarks/damage.py [--weights uniform,random,specificity,...] [--seeds 0,1,2] [--level 0.10]
                                          [--unrehearsed N]

Each run goes on until greedy fact accuracy on the forget set is at most `--level`, checked every few steps. Then, per
weights, mean and range over the seeds: steps, the rise of the NLL on the generic tokens of the forget answers (outside
the labelled spans) and the share of them that is no longer the first choice, fact accuracy on neighbours and retain,
and held-out perplexity. `closed` is the part of the gap in generic damage (NLL) between uniform and span weights that
a weighting closes. `--unrehearsed N` takes the first N rows out of the retain set, so that a run never sees them, and
adds the fact accuracy on them. `NAME:k=v` sets an option of a scorer. Labels serve for measuring, and as the oracle
`spans`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from workbench.cli.console import table_line
from workbench.evals import probe
from workbench.models import load
from workbench.objectives import objective as registered
from workbench.runs import scorer_options, settings_from
from workbench.tasks import TaskSpec
from workbench.unlearning import unlearn

WEIGHTS = "uniform,random,surprisal,atwu,amortised,specificity:power=1,specificity,specificity_ref,spans"
COLUMNS = ("steps", "reached", "forget", "generic_nll", "generic_lost", "neighbours", "retain", "unrehearsed",
           "general_perplexity")  # fmt: skip


def accuracy_on(lm: Any, task: Any, rows: list[Any], limit: int) -> float:
    """Greedy fact accuracy on some rows of the task."""
    only = replace(task, sets={"forget": rows, "retain": task.retain[:1]})  # a task has both
    return probe(lm, only, limit=limit).metrics["forget"]["fact_accuracy"]


def measure(lm: Any, task: Any, apart: list[Any], limit: int) -> dict[str, float]:
    """The figures of one model; `apart` are the unrehearsed rows."""
    probed = probe(lm, task, limit=limit)
    tokens = probed.tokens[probed.tokens["probe_set"] == "forget"]
    generic = tokens[~tokens["span"].astype(bool) & (tokens["end"] > tokens["start"])]
    accuracy = {name: probed.metrics[name]["fact_accuracy"] for name in ("forget", "retain", "neighbours")}
    figures = {
        "generic_nll": float(-generic["logp"].mean()),
        "generic_lost": float((generic["rank"] != 0).mean()),
        "general_perplexity": probed.metrics["general"]["perplexity"],
    }
    return accuracy | figures | ({"unrehearsed": accuracy_on(lm, task, apart, limit)} if apart else {})


def until(lm: Any, task: Any, apart: list[Any], named: str, args: argparse.Namespace, seed: int,
          reference: Any) -> dict[str, Any]:  # fmt: skip
    """One run that stops at the level, and its figures."""
    weights, _, pairs = named.partition(":")
    options = scorer_options(pairs.split(":") if pairs else [], [weights])[weights]
    settings = settings_from(
        [*args.set, f"seed={seed}"],
        {"objective": registered[args.objective].options},
        steps=args.steps,
        record_every=10**6,
        checkpoint_every=10**6,
        alpha=2.0,
    )
    settings = settings.replace(options=settings.options | {"weights": options})
    changed = lm.frozen_copy()
    level = [1.0]

    def ask(event: dict[str, Any]) -> None:
        if event["step"] % args.every == 0:
            level[0] = accuracy_on(changed, task, task.forget, args.limit)

    started = time.perf_counter()
    run = unlearn(changed, task, args.objective, weights, settings=settings, reference=reference, in_place=True,
                  on_step=ask, stop=lambda: level[0] <= args.level)  # fmt: skip
    phases = run.ledger.as_dict()["phases"]
    seconds = {name: phase["seconds"] for name, phase in phases.items()}
    row = {"weights": named, "seed": seed, "steps": len(run.events), "reached": level[0] <= args.level}
    return (
        row | measure(changed, task, apart, args.limit) | {"seconds": time.perf_counter() - started, "phases": seconds}
    )


def main() -> None:
    """Run every weighting with every seed; a line a run, then the table, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--objective", default="wga")
    options.add_argument("--weights", default=WEIGHTS)
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--level", type=float, default=0.10)
    options.add_argument("--steps", type=int, default=240, help="the most a run may take")
    options.add_argument("--every", type=int, default=4, help="steps between two looks at the level")
    options.add_argument("--limit", type=int, default=96, help="answers probed a set")
    options.add_argument("--unrehearsed", type=int, default=0, help="take so many rows out of the retain set")
    options.add_argument("--set", action="append", default=[], metavar="K=V")
    args = options.parse_args()
    task, lm, reference = TaskSpec("biographies").load(), load("bio-full"), load("bio-retain")
    apart, task.sets["retain"] = task.retain[: args.unrehearsed], task.retain[args.unrehearsed :]
    before = measure(lm, task, apart, args.limit)
    rows = []
    for named in args.weights.split(","):
        for seed in map(int, args.seeds.split(",")):
            row = until(lm, task, apart, named, args, seed, reference)
            row["generic_nll"] -= before["generic_nll"]
            row["reached"] = float(row["reached"])
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    groups = pd.DataFrame(rows).groupby("weights", sort=False)
    columns = [name for name in COLUMNS if name in rows[0]]
    mean, low, high = (getattr(groups[columns], name)() for name in ("mean", "min", "max"))
    damage = mean["generic_nll"]
    closed = {}
    if {"uniform", "spans"} <= set(damage.index):
        gap = damage["uniform"] - damage["spans"]
        closed = {name: float((damage["uniform"] - value) / gap) for name, value in damage.items()}
    table_line(
        [["weights", *columns, "closed"]]
        + [
            [
                name,
                *(f"{mean.loc[name, c]:.2f} ({low.loc[name, c]:.2f}-{high.loc[name, c]:.2f})" for c in columns),
                f"{closed[name]:.2f}" if closed else "",
            ]
            for name in mean.index
        ]
    )
    print(json.dumps({"before": before, "closed": closed, "rows": rows, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
