"""What each lever alone does to the cost of forgetting; skipping on and off; cost against the size of the forget set.

    python benchmarks/levers.py [--task biographies] [--seeds 0,1,2]

Three tables and docs/findings/skipped.svg, by the goal and with the runs of compute_to_forget.py:

1. *Levers*: one setting (`BASE`), and the same with one thing changed; cost until the goal.
2. *Skipping*: the same setting to its last step, with saturation skipping at several thresholds: metrics at the end,
   and the share of forget tokens that left the batch, over the steps.
3. *Size*: one pass over 1/8 to all of the forget set, with importance: FLOPs and seconds against tokens.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import compute_to_forget as runs
from compute_page import SETS, describe
from many_runs import Rows

from workbench.runs.scheduler import Workers

BASE = {
    "objective": "wga", "weights": "surprisal", "kind": "token-weighted", "lr": 2e-3, "gamma": 0.3, "batch_size": 16,
    "retain_batch": 64, "retain_every": 2, "train": "half", "skip": 0.0,
}  # fmt: skip
LEVERS: dict[str, dict[str, Any]] = {
    "base": {},
    "full-sample weights": {"weights": "uniform"},
    "weights by specificity": {"weights": "specificity"},
    "learned weights (atwu)": {"weights": "atwu"},
    "learned weights, every 10th step": {"weights": "atwu", "options": {"every": 10}},
    "oracle weights": {"weights": "spans"},
    "steps twice as large": {"lr": 4e-3},
    "steps half as large": {"lr": 1e-3},
    "pressure that does not fade (grad_diff)": {"objective": "grad_diff"},
    "pressure that fades sooner (atwu)": {"objective": "atwu"},
    "half the pressure": {"gamma": 0.15},
    "skipping": {"skip": 0.1},
    "forget batches twice as large": {"batch_size": 32},
    "retain batches half as large": {"retain_batch": 32},
    "retain batches in every step": {"retain_every": 1},
    "all layers": {"train": "all"},
    "LoRA": {"train": "lora"},
}
THRESHOLDS = (0.0, 0.03, 0.1, 0.3)


def size(job: dict[str, Any]) -> dict[str, Any]:
    """One pass over a share of the forget set."""
    from workbench.unlearning import Settings, epochs, unlearn

    task, lm = runs._loaded["task"], runs._loaded["lm"]
    few = task.forget[: round(len(task.forget) * job["share"])]
    part = replace(task, sets=task.sets | {"forget": few})
    settings = Settings(steps=epochs(1, len(few), 16), batch_size=16, record_every=10**6, record_samples=1)
    run = unlearn(lm, part, job["objective"], job["weights"], settings=settings)
    phases = {name: p for name, p in run.ledger.phases.items() if name not in ("recording", "checkpoint")}
    forget = run.ledger.phases["forget"]
    importance = [phases[name] for name in ("scoring", "scorer") if name in phases]
    return job | {
        "samples": len(few),
        "tokens": forget.tokens,
        "flops": sum(p.flops for p in phases.values()),
        "seconds": sum(p.seconds for p in phases.values()),
        "importance_flops": sum(p.flops for p in importance),
    }


def slope(rows: list[dict[str, Any]], name: str) -> float:
    """The exponent of a power law through cost against tokens, by least squares in logarithms."""
    x, y = ([math.log(r[k]) for r in rows] for k in ("tokens", name))
    mx, my = mean(x), mean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """Share of the forget tokens skipped, over the steps: mean and range of the seeds."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "skipped"
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for threshold in THRESHOLDS[1:]:
        curves = [r["skipped"] for r in rows if r["skip"] == threshold]
        steps = range(1, min(map(len, curves)) + 1)
        columns = list(zip(*curves, strict=False))
        axis.fill_between(steps, [min(c) for c in columns], [max(c) for c in columns], alpha=0.2)
        axis.plot(steps, [mean(c) for c in columns], label=f"skip = {threshold:g}")
    axis.set(xlabel="step", ylabel="forget tokens skipped", ylim=(0, 1))
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def table(head: str, rows: list[list[str]]) -> str:
    """A Markdown table."""
    names = head.split("|")
    return "\n".join([f"| {head} |", "|---" * len(names) + "|", *("| " + " | ".join(r) + " |" for r in rows)])


def spread(values: list[float], digits: int = 2) -> str:
    """Mean (lowest-highest)."""
    return f"{mean(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Run everything; prints the tables; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs.goal_options(options)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--plot", default="docs/findings/skipped.svg")
    options.add_argument("--rows", default="levers.jsonl", help="finished rows; delete the file to begin anew")
    args = options.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    rows = Rows(Path(args.rows), runs.one, describe, runs.goal(args))
    with Workers(args.workers, runs.prepare, args) as workers:
        levers = {n: rows.run(workers, [BASE | change | {"seed": s} for s in seeds]) for n, change in LEVERS.items()}
        to_the_end = [BASE | {"skip": t, "seed": s, "to_the_end": True} for t in THRESHOLDS for s in seeds]
        skips = rows.run(workers, to_the_end)
        kinds = [("wga", "surprisal"), ("wga", "specificity"), ("atwu", "atwu")]
        sizes = []
        for objective, weights in kinds:
            jobs = [{"objective": objective, "weights": weights, "share": 2.0**-k} for k in (3, 2, 1, 0)]
            sizes.append(sorted((row for _, row in workers.run(size, jobs)), key=lambda row: row["samples"]))
    lines = []
    for name, tried in levers.items():
        checked = [r["check_flops"] / r["flops"] for r in tried]
        fine = [r for r in tried if r["reached"]]
        cost = [spread([r[k] / scale for r in fine], digits) if fine else "never"
                for k, scale, digits in (("flops", 1e9, 0), ("seconds", 1, 1), ("step", 1, 0))]  # fmt: skip
        lines.append(
            [name, f"{len(fine)} of {len(tried)}", *cost, spread([r["miss"] for r in tried]), f"{mean(checked):.0%}"]
        )
    print(
        table(
            "lever | goal reached | GFLOP | seconds | steps | missed by, at the best check | checks, of the cost", lines
        ),
        end="\n\n",
    )
    lines = []
    for threshold in THRESHOLDS:
        tried = [r for r in skips if r["skip"] == threshold]
        ends = [spread([r[name] for r in tried]) for name in SETS]
        skipped = spread([mean(r["skipped"]) if r["skipped"] else 0.0 for r in tried])
        lines.append([f"{threshold:g}", *ends, skipped, spread([r["flops"] / 1e9 for r in tried], 0)])
    print(table(f"skip | {' | '.join(SETS)} | tokens skipped | GFLOP", lines), end="\n\n")
    draw(skips, Path(args.plot))
    lines = [
        [f"{r['objective']} + {r['weights']}", str(r["samples"]), str(r["tokens"]), f"{r['flops'] / 1e9:.1f}",
         f"{r['seconds']:.2f}", f"{r['flops'] / r['tokens'] / 1e6:.1f}", f"{r['importance_flops'] / r['flops']:.0%}"]
        for tried in sizes for r in tried
    ]  # fmt: skip
    head = "method | forget answers | forget tokens | GFLOP | seconds | MFLOP a token | of it importance"
    print(table(head, lines), end="\n\n")
    exponents = {
        f"{tried[0]['objective']} + {tried[0]['weights']}": {k: slope(tried, k) for k in ("flops", "seconds")}
        for tried in sizes
    }
    print(json.dumps({"exponents": exponents, "plot": args.plot}))


if __name__ == "__main__":
    main()
