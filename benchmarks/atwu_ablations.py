"""ATWU's scorer, one option changed at a time: how well it finds the facts of biographies, over training.

    .venv/bin/python benchmarks/atwu_ablations.py [--seeds 0,1,2] [--set lr=1e-4]

The model's part is the authors' (batches of 8 + 8, rate 1e-5, 5 epochs; `--set` changes it). Per variation: mean
AUROC / average precision over the seeds at a sixth of the run, half-way and at the end, and the share of the run's
seconds that went into the scorer. Labels serve for measuring alone. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from workbench.cli.console import table_line
from workbench.evals import alignment
from workbench.models import load
from workbench.runs import settings_from
from workbench.scorers import PRESETS
from workbench.tasks import TaskSpec
from workbench.unlearning import Settings, both_parts, unlearn

JOINT = {"every": 1, "optimizer": "adam", "lr": 1e-5, "decay": "none", "weight_decay": 0.0}
VARIATIONS: dict[str, dict[str, Any]] = {
    "ours (the default)": {},
    **{f"authors' {name}": preset for name, preset in PRESETS.items()},
    "authors', objective A": PRESETS["published"] | {"loss": "A"},
    "authors', l by its mean": PRESETS["published"] | {"unit": "mean"},
    "authors', no entropy term": PRESETS["published"] | {"lam_ent": 0.0},
    "authors', no budget": PRESETS["published"] | {"lam_pop": 0.0},
    "authors', no L2": PRESETS["published"] | {"lam_l2": 0.0},
    "authors', bias outside the L2 term": PRESETS["published"] | {"l2_bias": False},
    "authors', scorer first": PRESETS["published"] | {"at": "first"},
    "authors', N = 1": PRESETS["published"] | {"every": 1},
    "authors', N = 5": PRESETS["published"] | {"every": 5},
    "authors', N = 1, Adam at the model's rate": PRESETS["published"] | JOINT,
    "authors', frozen after 30 steps": PRESETS["published"] | {"pretrain": 30, "every": 0},
    "authors', no saturation": PRESETS["published"] | {"saturation": "none"},
    "authors', saturation by p": PRESETS["published"] | {"saturation": "probability"},
    "ours, objective B": {"loss": "B"},
    "ours, l in nats": {"unit": "nats"},
    "ours, with entropy term": {"lam_ent": 1.0},
    "ours, no budget": {"lam_pop": 0.0},
    "ours, state at the token": {"hidden": "token"},
    "ours, raw states": {"inputs": "raw"},
    "ours, states of length 1": {"inputs": "unit"},
    "ours, SGD .05": {"optimizer": "sgd", "lr": 0.05},
    "ours, N = 5": {"every": 5},
    "ours, N = 10": {"every": 10},
    "ours, frozen after 30 steps": {"pretrain": 30, "every": 0},
    "ours, MLP of 64 units": {"units": 64},
    "ours, softmax": {"output": "softmax"},
}


def measure(lm: Any, task: Any, settings: Settings) -> dict[str, Any]:
    """AUROC and average precision by step, and the scorer's share of the time."""
    run = unlearn(lm, task, "atwu", "atwu", settings=settings)
    row: dict[str, Any] = {"share": run.ledger.phases["scorer"].seconds / run.ledger.total.seconds}
    scores = run.scores[run.scores["scorer"] == "atwu"]
    for step, part in scores.groupby("step"):
        values = alignment(part)["atwu"]
        row[str(step)] = {key: v if isinstance(v, float) else None for key, v in values.items()}
    return row


def main() -> None:
    """Run every variation with every seed; a line a run, then the table, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--only", default="", help="variations whose name has this in it")
    options.add_argument("--set", action="append", default=[], metavar="K=V")
    args = options.parse_args()
    task, lm = TaskSpec("biographies").load(), load("bio-full")
    rows, table = [], [["", "step 30", "step 90", "step 180", "scorer's share of the time"]]
    for name, changed in VARIATIONS.items():
        if args.only not in name:
            continue
        mine = []
        for seed in map(int, args.seeds.split(",")):
            settings = settings_from(
                [*args.set, f"seed={seed}"], {}, steps=180, batch_size=8, lr=1e-5, warmup=0, record_every=30,
                checkpoint_every=10**6,
            )  # fmt: skip
            settings = settings.replace(options=both_parts(changed))
            mine.append(measure(lm, task, settings) | {"variation": name, "seed": seed})
            print(json.dumps(mine[-1]), file=sys.stderr, flush=True)
        rows += mine
        cells = []
        for step in ("30", "90", "180"):
            known = [row[step] for row in mine if row[step]["auroc"] is not None]
            means = [np.mean([k[key] for k in known]) if known else float("nan") for key in ("auroc", "ap")]
            cells.append(f"{means[0]:.2f} / {means[1]:.2f}")
        table.append([name, *cells, f"{100 * np.mean([row['share'] for row in mine]):.1f} %"])
    table_line(table)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
