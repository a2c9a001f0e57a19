r"""Deletion requests one at a time, or all at once? What comes back, what erodes, and what it costs.

    .venv/bin/python benchmarks/sequence.py --lr 3e-4 --workers 2      (well under 60 minutes on 2 cores)
    .venv/bin/python benchmarks/sequence.py --lr 3e-4 --report         (the table of what is done, no work)
    .venv/bin/python benchmarks/sequence.py --lr 3e-4 --objectives wga,simnpo --weights uniform \
        --ways "one at a time,rehearsed"
    .venv/bin/python benchmarks/sequence.py --lr 3e-4 --objectives wga,atwu --weights atwu \
        --ways "one at a time,carried"

16 people of the biographies are forgotten in 8 requests of 2, in an order that each seed shuffles, and by one run. Each
run ends at the same level of forgetting, so that what differs is the price. Forget weights are those that
`docs/findings/leaderboard.json` chose for the objective and token weights.

The steps are those of `workbench sequence`, but the model stays in memory and only what the table shows is measured:
greedy answers of the rows that say when a run ends, and after each request those of its own people, of the next
request's and of the sets to keep. Each way of each seed is a file in `--runs`; killed, it does again what has none.

`--ways` are those of `sequence_table.WAYS`. A rehearsing request ends when its own people are forgotten.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from sequence_table import BOTH, WAYS, cells_of, options_table, table

from workbench.errors import UserError

PEOPLE = 16
AT_ONCE = BOTH[1]
KEPT = ("retain", "neighbours")
TRAINING = ("scoring", "reference", "forget", "retain", "backward", "scorer", "optimizer")
Job = dict[str, Any]


def settings_of(job: Job, steps: int) -> Any:
    """The settings of a run: those that the leaderboard chose for its objective and weights."""
    from workbench.objectives import objective
    from workbench.unlearning import Settings

    same = ("objective", "weights")
    cells = json.loads(Path(job["args"]["chosen"]).read_text())["cells"]
    cell = next((c for c in cells if all(c[key] == job[key] for key in same)), {"lr": 1e-3, "gamma": 1.0})
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


@functools.cache
def original(model: str) -> Any:
    """The model before any request."""
    from workbench.models import load

    return load(model, device="cpu")


def accuracy(lm: Any, samples: list[Any]) -> float:
    """Fact accuracy of the greedy answers, generated as a probe does."""
    from workbench.evals.generation import greedy
    from workbench.evals.metrics import contains
    from workbench.models import encode

    longest = max(len(encode(lm, s).answer_positions) for s in samples) + 4
    texts = greedy(lm, samples, 64, longest)
    return mean(all(contains(text, v) for v in s.values) for s, text in zip(samples, texts, strict=True))


def probability(lm: Any, samples: list[Any]) -> float:
    """The metric of that name: the mean of exp(mean log p) over the answers."""
    from workbench.evals import token_table

    return float(np.exp(token_table(lm, samples).groupby("sample_id")["logp"].mean()).mean())


def forget(lm: Any, task: Any, job: Job, steps: int, earlier: Sequence[Any], scorer: Path) -> tuple[Any, bool]:
    """Forget a task in place, until few enough of the answers that are looked at are right; and whether it came so.

    Args:
        lm: the model.
        task: the request's.
        job: says whether `earlier` is rehearsed and the scorer carried on.
        steps: the most.
        earlier: the requests before.
        scorer: where the scorer that is carried on is, and is left.
    """
    from workbench.evals.probes import probed_samples
    from workbench.scorers import save_scorer
    from workbench.tasks import rehearsing
    from workbench.unlearning import unlearn

    args, latest = job["args"], [1.0]
    watched = probed_samples(task.forget, args["limit"])
    if job["way"] == "rehearsed" and earlier:
        task = rehearsing(task, earlier)

    def stepped(event: dict[str, Any]) -> None:
        if event["step"] % args["probe_every"] == 0 or event["step"] == steps:
            latest[0] = accuracy(lm, watched)

    def reached() -> bool:
        return latest[0] <= args["level"]

    run = unlearn(
        lm, task, job["objective"], job["weights"], settings=settings_of(job, steps), in_place=True,
        on_step=stepped, reached=reached, scorer=scorer if scorer.exists() else None,
    )  # fmt: skip
    if job["way"] == "carried":
        save_scorer(run.scorer, scorer)
    return run, reached()


def one(job: Job) -> dict[str, Any]:
    """One way of one seed of one objective and weights: its figures, which are written too."""
    from workbench.files import write_json
    from workbench.tasks import TaskSpec

    since, args = time.process_time(), job["args"]
    in_order = job["way"] != AT_ONCE
    tasks = [TaskSpec(name).load() for name in order(job["seed"], args["size"])]
    runs = tasks if in_order else [TaskSpec("biographies").load()]
    lm = original(args["model"]).frozen_copy()
    with tempfile.TemporaryDirectory() as folder:
        matrix, known, ended = followed(lm, tasks, runs, job, Path(folder) / "scorer.safetensors")
    row: dict[str, Any] = {key: job[key] for key in ("objective", "weights", "seed", "way")}
    row |= numbers(matrix, known, len(tasks), in_order)
    flops = sum(part.flops for run, _ in ended for name, part in run.ledger.phases.items() if name in TRAINING)
    row |= {"reached": mean(good for _, good in ended), "steps": sum(run.steps for run, _ in ended)}
    row |= {"gflops": flops / 1e9, "matrix": [[None if v != v else v for v in state] for state in matrix.tolist()]}
    row |= {"settings": settings_in(args), "cpu_seconds": time.process_time() - since}
    write_json(file_of(job), row)
    return row


def followed(
    lm: Any, tasks: Sequence[Any], runs: Sequence[Any], job: Job, scorer: Path
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Forget what each run asks for, in order, and measure.

    Returns:
        (runs + 1, sets) fact accuracies, and mean probabilities of the requests' own sets, NaN where nothing was
        measured; and for each run what it left and whether it reached the level.
    """
    from workbench.tasks import spread

    kept = [spread(tasks[0].sets[name], job["args"]["answers"]) for name in KEPT]
    sets = [*(task.forget for task in tasks), *kept]
    count, steps = len(tasks), job["args"]["steps" if len(runs) > 1 else "steps_at_once"]
    matrix = np.full((len(runs) + 1, len(sets)), np.nan)
    known, ended = matrix.copy(), []
    for after in range(len(runs) + 1):
        if after:
            ended.append(forget(lm, runs[after - 1], job, steps, runs[: after - 1], scorer))
        every = after in (0, len(runs))
        for j, samples in enumerate(sets):
            if every or j >= count or j in (after - 1, after):  # its own people, and those of the next request
                matrix[after, j] = accuracy(lm, samples)
            if j < count and (every or j == after - 1):
                known[after, j] = probability(lm, samples)
    return matrix, known, ended


def numbers(matrix: np.ndarray, known: np.ndarray, requests: int, in_order: bool) -> dict[str, float]:
    """The figures of a way; those of the order only where there is one."""
    from workbench.evals.sequence import reversal, spill_over

    last = matrix[-1]
    row = {"forget": float(last[:requests].mean())} | dict(zip(KEPT, map(float, last[requests:]), strict=True))
    row["erosion"] = float((matrix[0] - last)[requests:].mean())
    if in_order:
        parts: dict[str, tuple[Callable[..., dict[int, float]], np.ndarray]]
        parts = {"reversal": (reversal, matrix), "probability_back": (reversal, known)}
        parts["spill_over"] = (spill_over, matrix)
        row |= {name: float(np.mean(list(how(values, requests).values()))) for name, (how, values) in parts.items()}
    return row


def settings_in(args: dict[str, Any]) -> dict[str, Any]:
    """The options that the figures depend on."""
    names = ("model", "size", "steps", "steps_at_once", "level", "probe_every", "limit", "answers", "lr")
    return {name: args[name] for name in names}


def file_of(job: Job) -> Path:
    """Where the figures of a job are."""
    way = job["way"].replace(" ", "-")
    return Path(job["args"]["runs"]) / f"{job['objective']}-{job['weights']}-{job['seed']}-{way}.json"


def done(job: Job) -> dict[str, Any] | None:
    """The figures of a job, if they are there.

    Raises:
        UserError: they are of other options.
    """
    if not file_of(job).exists():
        return None
    row: dict[str, Any] = json.loads(file_of(job).read_text())
    if row["settings"] != settings_in(job["args"]):
        raise UserError(f"{file_of(job)} is of other options; choose another --runs")
    return row


def main() -> None:
    """Do what is missing, then print the table and one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--objectives", default="wga,npo,simnpo,rmu,atwu")
    options.add_argument("--weights", default="uniform,specificity,spans,atwu")
    options.add_argument("--seeds", default="0,1,2", help="each has an order of its own")
    options.add_argument("--ways", default=",".join(BOTH), help="of " + ", ".join(WAYS))
    options.add_argument("--model", default="bio-full")
    options.add_argument("--size", type=int, default=2, help="people a request")
    options.add_argument("--steps", type=int, default=60, help="most steps of a request")
    options.add_argument("--steps-at-once", type=int, default=200, help="most steps of all at once")
    options.add_argument("--level", type=float, default=0.1, help="fact accuracy at which a run ends")
    options.add_argument("--probe-every", type=int, default=6)
    options.add_argument("--limit", type=int, default=32, help="answers that are looked at during a run")
    options.add_argument("--answers", type=int, default=64, help="answers of retain and of neighbours")
    options.add_argument("--lr", type=float, help="of all runs; default: as chosen")
    options.add_argument("--chosen", default="docs/findings/leaderboard.json")
    options.add_argument("--runs", default="runs/benchmark-sequence")
    options.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options.add_argument("--report", action="store_true", help="only what is done")
    args = options.parse_args()
    import torch

    from workbench.runs.scheduler import WorkerDied, Workers
    from workbench.unlearning import is_live

    chosen = [getattr(args, name).split(",") for name in ("weights", "seeds", "objectives", "ways")]
    jobs = [
        {"objective": o, "weights": w, "seed": int(s), "way": way, "args": vars(args)}
        for w, s, o, way in itertools.product(*chosen)
    ]
    if wrong := set(chosen[3]) - set(WAYS):
        options.error(f"no way '{wrong.pop()}'; known: {', '.join(WAYS)}")
    if "carried" in chosen[3] and not all(map(is_live, chosen[0])):
        options.error("only scorers that learn during a run, such as atwu, are carried on")
    missing = [] if args.report else [job for job in jobs if done(job) is None]
    with Workers(args.workers, torch.set_num_threads, 1) as pool:
        for n, (job, row) in enumerate(pool.run(one, missing), 1):
            name = f"{n} of {len(missing)}: {job['objective']}, {job['weights']}, seed {job['seed']}, {job['way']}"
            about = row if isinstance(row, WorkerDied) else {k: v for k, v in row.items() if k != "matrix"}
            print(name, about, flush=True)
    rows = [row for job in jobs if (row := done(job))]
    rows.sort(key=lambda r: [chosen[2].index(r["objective"]), chosen[0].index(r["weights"]), WAYS.index(r["way"])])
    cells = cells_of(rows)
    print(table(cells))
    print(options_table(cells))
    print(json.dumps({"cells": cells, "rows": rows, "cpu_seconds": sum(r["cpu_seconds"] for r in rows)}))


if __name__ == "__main__":
    main()
