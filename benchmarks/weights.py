"""Which tokens to push on: the same short run on biographies under several objectives and token weights.

    .venv/bin/python benchmarks/weights.py [--objectives atwu,wga] [--weights uniform,surprisal,...] [--set k=v ...]

Per objective and weights, mean and range over the seeds: greedy fact accuracy by set, the share of the forget answers'
generic tokens (outside the labelled spans) that are still the model's first choice, and held-out perplexity.
The labels serve for measuring alone, and as the oracle weights `spans`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from typing import Any

import pandas as pd

from workbench.cli.console import table_line
from workbench.evals import probe
from workbench.models import load
from workbench.objectives import objective as registered
from workbench.runs import settings_from
from workbench.tasks import TaskSpec
from workbench.unlearning import unlearn

COLUMNS = ("forget", "retain", "neighbours", "generic", "general_perplexity", "seconds")


def measure(lm: Any, task: Any, limit: int) -> dict[str, float]:
    """The figures of one model."""
    probed = probe(lm, task, limit=limit)
    tokens = probed.tokens[probed.tokens["probe_set"] == "forget"]
    generic = tokens[~tokens["span"].astype(bool) & (tokens["end"] > tokens["start"])]
    accuracy = {name: probed.metrics[name]["fact_accuracy"] for name in ("forget", "retain", "neighbours")}
    perplexity = probed.metrics["general"]["perplexity"]
    return accuracy | {"generic": float((generic["rank"] == 0).mean()), "general_perplexity": perplexity}


def main() -> None:
    """Run the grid; a line a run, then the table, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--objectives", default="atwu,wga")
    options.add_argument("--weights", default="uniform,random,surprisal,entropy,gap,atwu,spans")
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--limit", type=int, default=96, help="answers probed a set")
    options.add_argument("--set", action="append", default=[], metavar="K=V")
    args = options.parse_args()
    task, model, reference = TaskSpec("biographies").load(), load("bio-full"), load("bio-retain")
    rows = []
    grid = itertools.product(args.objectives.split(","), args.weights.split(","), map(int, args.seeds.split(",")))
    for objective, weights, seed in grid:
        started = time.perf_counter()
        parts = {"objective": registered[objective].options}
        settings = settings_from([*args.set, f"seed={seed}"], parts, record_every=10**6)
        run = unlearn(model, task, objective, weights, settings=settings, reference=reference)
        took = time.perf_counter() - started
        figures = measure(run.lm, task, args.limit) | {"seconds": took}
        rows.append({"objective": objective, "weights": weights, "seed": seed} | figures)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    groups = pd.DataFrame(rows).groupby(["objective", "weights"], sort=False)
    mean, low, high = (getattr(groups[list(COLUMNS)], name)() for name in ("mean", "min", "max"))
    table_line(
        [["objective", "weights", *COLUMNS]]
        + [
            [*key, *(f"{mean.loc[key, c]:.2f} ({low.loc[key, c]:.2f}-{high.loc[key, c]:.2f})" for c in COLUMNS)]
            for key in mean.index
        ]
    )
    before = measure(model, task, args.limit)
    print(json.dumps({"before": before, "settings": args.set, "rows": rows}))


if __name__ == "__main__":
    main()
