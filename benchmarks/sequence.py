"""Deletion requests one at a time, or all at once? What comes back, what erodes, and what it costs.

    .venv/bin/python benchmarks/sequence.py --workers 2      (60 minutes on 2 cores)
    .venv/bin/python benchmarks/sequence.py --report         (the table of what is done, no work)

16 people of the biographies are forgotten in 8 requests of 2, in an order that each seed shuffles, and by one run. Each
run ends at the same level of forgetting, so that what differs is the price. Forget weights are those that
`docs/findings/leaderboard.json` chose for the objective and token weights. Killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from statistics import mean
from typing import Any

PEOPLE = 16
COLUMNS = {  # what the table shows: by name, what it is
    "forget": "fact accuracy of all 16 people at the end",
    "retain": "of people to keep",
    "neighbours": "of people who share values with those to forget, in no training batch",
    "reversal": "what comes back of a request until the last one",
    "erosion": "what is lost of retain and neighbours",
    "spill_over": "what a request's people change before they are asked",
    "steps": "training steps",
    "gflops": "of training, probes left out",
}
TRAINING = ("scoring", "reference", "forget", "retain", "backward", "scorer", "optimizer")


def settings_of(job: dict[str, Any], steps: int, chosen: list[dict[str, Any]]) -> Any:
    """The settings of a run: those that the leaderboard chose for its objective and weights."""
    from workbench.objectives import objective
    from workbench.unlearning import Settings

    same = ("objective", "weights")
    cell = next((c for c in chosen if all(c[key] == job[key] for key in same)), {"lr": 1e-3, "gamma": 1.0})
    settings = Settings(**objective[job["objective"]].settings)
    settings = settings.replace(
        steps=steps, batch_size=16, warmup=2, lr=cell["lr"], gamma=settings.gamma * cell["gamma"]
    )
    settings = settings.replace(lr=job["args"]["lr"] or settings.lr)
    return settings.replace(seed=job["seed"], record_every=10**6, checkpoint_every=10**6)


def order(seed: int, size: int) -> list[str]:
    """The requests of a seed, in its order."""
    people = random.Random(seed).sample(range(PEOPLE), PEOPLE)
    return [f"biographies/person:{','.join(map(str, sorted(people[n : n + size])))}" for n in range(0, PEOPLE, size)]


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One seed of one objective and weights: the sequence and the run that forgets all at once."""
    import workbench as wb
    from workbench.runs import is_run
    from workbench.runs.execution import resume

    since = time.process_time()
    args, folder = job["args"], Path(job["args"]["runs"]) / f"{job['objective']}-{job['weights']}-{job['seed']}"
    chosen = json.loads(Path(args["chosen"]).read_text())["cells"]
    common = {"stop_at": f"forget.fact_accuracy<={args['level']}", "probe_every": args["probe_every"]}
    common |= {"probe_limit": args["limit"], "device": "cpu"}
    requests = order(job["seed"], args["size"])
    named = {"model": args["model"], "objective": job["objective"], "weights": job["weights"]}
    sequence = wb.sequence(
        requests, settings=settings_of(job, args["steps"], chosen), seeds=[job["seed"]], out=folder / "sequence",
        **named, **common,
    )  # fmt: skip
    at_once = folder / "at-once"
    config = wb.Config(
        task=wb.TaskSpec("biographies"), settings=settings_of(job, args["steps_at_once"], chosen), **named, **common
    )
    if not is_run(at_once):
        wb.start(config, at_once)
    elif not (at_once / "run.json").exists():
        resume(at_once)
    return row_of(job, sequence, wb.RunDirectory(at_once)) | {"cpu_seconds": time.process_time() - since}


def row_of(job: dict[str, Any], sequence: Any, at_once: Any) -> dict[str, Any]:
    """The figures of both ways."""
    retention = sequence.retention("fact_accuracy")
    last, count = retention.mean()[-1], len(retention.requests)
    numbers = retention.numbers()
    runs = [sequence.run(n) for n in range(1, count + 1)]
    kept = dict(zip(retention.kept, map(float, last[count:]), strict=True))
    each = {"forget": float(last[:count].mean()), "retain": kept["retain"], "neighbours": kept["neighbours"]}
    each |= {name: numbers[name]["value"] for name in ("reversal", "erosion", "spill_over")} | spent(runs)
    metrics = at_once.json("metrics.json")
    after, before = (
        {s: metrics[p][s]["fact_accuracy"] for s in ("forget", "retain", "neighbours")} for p in ("after", "before")
    )
    lost = mean(before[s] - after[s] for s in ("retain", "neighbours"))
    whole = after | {"erosion": lost} | spent([at_once])
    own = {key: job[key] for key in ("objective", "weights", "seed")}
    return own | {"sequence": each, "at_once": whole, "matrix": retention.values[0].tolist()}


def spent(runs: list[Any]) -> dict[str, float]:
    """Steps and operations of training."""
    phases = [run.json("cost.json")["phases"] for run in runs]
    flops = sum(part["flops"] for each in phases for name, part in each.items() if name in TRAINING)
    return {"steps": sum(run.steps for run in runs), "gflops": flops / 1e9}


def done(job: dict[str, Any]) -> bool:
    """Whether both ways of a job are finished."""
    folder = Path(job["args"]["runs"]) / f"{job['objective']}-{job['weights']}-{job['seed']}"
    return (folder / "sequence" / "retention.json").exists() and (folder / "at-once" / "run.json").exists()


def cells_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and range over the seeds, a cell an objective, weights and way."""
    cells = []
    for objective, weights, way in dict.fromkeys(
        (r["objective"], r["weights"], way) for r in rows for way in ("sequence", "at_once")
    ):
        part = [r[way] for r in rows if (r["objective"], r["weights"]) == (objective, weights)]
        values = {name: [each[name] for each in part if name in each] for name in COLUMNS}
        spread = {n: {"mean": mean(v), "low": min(v), "high": max(v)} for n, v in values.items() if v}
        cells.append({"objective": objective, "weights": weights, "way": way, "seeds": len(part)} | spread)
    return cells


def table(cells: list[dict[str, Any]]) -> str:
    """The cells as a table of Markdown."""
    head = ["objective", "weights", "way", "seeds", *COLUMNS]
    lines = [f"| {' | '.join(name.replace('_', '-') for name in head)} |", "|" + "---|" * len(head)]
    for cell in cells:
        shown = [f"`{cell['objective']}`", cell["weights"], cell["way"].replace("_", " "), str(cell["seeds"])]
        for name in COLUMNS:
            digits = 0 if name in ("steps", "gflops") else 2
            value = cell.get(name)
            shown.append(
                ""
                if value is None
                else f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
            )
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is missing, then print the table and one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--objectives", default="wga,npo,simnpo,rmu,atwu")
    options.add_argument("--weights", default="uniform,atwu,specificity,spans")
    options.add_argument("--seeds", default="0,1,2", help="each has an order of its own")
    options.add_argument("--model", default="bio-full")
    options.add_argument("--size", type=int, default=2, help="people a request")
    options.add_argument("--steps", type=int, default=40, help="most steps of a request")
    options.add_argument("--steps-at-once", type=int, default=120, help="most steps of all at once")
    options.add_argument("--level", type=float, default=0.1, help="fact accuracy at which a run ends")
    options.add_argument("--probe-every", type=int, default=4)
    options.add_argument("--limit", type=int, default=16, help="answers probed a set")
    options.add_argument("--lr", type=float, help="of all runs; default: as chosen")
    options.add_argument("--chosen", default="docs/findings/leaderboard.json")
    options.add_argument("--runs", default="runs/benchmark-sequence")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--report", action="store_true", help="only what is done")
    args = options.parse_args()
    from workbench.runs.scheduler import WorkerDied, Workers

    since = time.perf_counter()
    jobs = [
        {"objective": o, "weights": w, "seed": int(s), "args": vars(args)}
        for s, o, w in itertools.product(args.seeds.split(","), args.objectives.split(","), args.weights.split(","))
    ]
    jobs = [job for job in jobs if done(job)] if args.report else jobs
    rows = []
    with Workers(args.workers) as pool:
        for job, row in pool.run(one, jobs):
            if isinstance(row, WorkerDied):
                print(f"{job['objective']} {job['weights']} seed {job['seed']}: {row}", flush=True)
            else:
                rows.append(row)
                print(json.dumps({key: value for key, value in row.items() if key != "matrix"}), flush=True)
    rows.sort(
        key=lambda r: [
            args.objectives.split(",").index(r["objective"]),
            args.weights.split(",").index(r["weights"]),
            r["seed"],
        ]
    )
    cells = cells_of(rows)
    print(table(cells))
    print(json.dumps({"cells": cells, "rows": rows, "seconds": time.perf_counter() - since, "settings": vars(args)}))


if __name__ == "__main__":
    main()
