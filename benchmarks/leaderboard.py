"""Every objective with several token weights, each tuned by the same small budget: who forgets at what price?

    make leaderboard          (biographies; writes docs/findings/leaderboard.md, .json and .svg)
    make leaderboard-real     (TOFU forget01 on SmolLM2-135M, planted first; writes docs/findings/leaderboard-real.*)
    make leaderboard-attacks  (settings as the first chose them, each run attacked; docs/findings/leaderboard-attacks.*)

Fair tuning: each pair of objective and weights gets the same grid (learning rate x weight of the forget loss, as a
multiple of what its authors set), the same number of steps, and the same choice: the highest harmonic mean of
*forgetting* (truth ratio on the forget set, 1 where wrong answers are as likely) and *utility* (harmonic mean over
retain and neighbours of probability, ROUGE-L recall and truth ratio, as far as they were at least .25 before: a small
model knows next to nothing of TOFU's real authors, and a part near 0 would decide by its noise). No span label
enters it. The tuning run's seed is not one of those reported. Labels serve for `fact_accuracy`, which is shown, and as
the oracle weights `spans`.

`--chosen` takes the settings of an earlier record and tunes nothing; `--attacks` attacks every run that is shown (see
`after_attack`).

Rows are kept beside the result (`--rows`), so that a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import after_attack
from leaderboard_page import cells, draw, facts, page
from many_runs import Rows, placeless, task_options

from workbench.cli.attack import attack_options
from workbench.runs.scheduler import Workers

TUNING_SEED = 1000
UTILITY = ("probability", "rouge_l_recall", "truth_ratio")
KNOWN = 0.25  # what a part of the utility must have been before the runs
_loaded: dict[str, Any] = {}


def prepare(args: argparse.Namespace, tables: dict[str, str], known: list[str] | None = None) -> None:
    """Load task and model in a worker; `known` are the parts of the utility, chosen by the first call of `figures`."""
    import torch

    from workbench.models import load
    from workbench.scorers import read_scores
    from workbench.tasks import TaskSpec

    torch.set_num_threads(args.threads)
    task = TaskSpec(args.task, data_dir=args.data_dir, spans=args.spans, retain_rows=args.retain_rows).load()
    weights = {name: read_scores(Path(path)) for name, path in tables.items()}
    _loaded.update(task=task, lm=load(args.model), weights=weights, args=args)
    if args.attacks:
        _loaded["ends"] = {"before": _loaded["lm"], "retain_only": load(args.reference)}
    if known is not None:
        _loaded["known"] = known


def figures(lm: Any, limit: int) -> dict[str, float]:
    """What a model knows: facts (or ROUGE-L where nobody labelled them), forgetting and utility."""
    from workbench.evals import probe

    probed = probe(lm, _loaded["task"], limit=limit)
    metrics = {
        name: {k: (float("nan") if isinstance(v, dict) else v) for k, v in values.items()}
        for name, values in probed.metrics.items()
    }
    tokens = probed.tokens[probed.tokens["probe_set"] == "forget"]
    generic = tokens[~tokens["span"].fillna(False).astype(bool) & (tokens["end"] > tokens["start"])]
    parts = {f"{name}.{metric}": metrics[name][metric] for name in ("retain", "neighbours") for metric in UTILITY}
    known = _loaded.setdefault("known", [name for name, value in parts.items() if value >= KNOWN])
    kept = [parts[name] for name in known]
    forgetting = metrics["forget"]["truth_ratio"]
    utility = harmonic_mean([max(value, 0.0) for value in kept])
    return {name: answered(metrics[name]) for name in ("forget", "retain", "neighbours")} | {
        "generic": float((generic["rank"] == 0).mean()),
        "retain_nll": -float(probed.tokens[probed.tokens["probe_set"] == "retain"]["logp"].mean()),
        "forgetting": forgetting,
        "utility": utility,
        "score": harmonic_mean([max(forgetting, 0.0), utility]),
        "parts": parts,
    }


def answered(metrics: dict[str, float]) -> float:
    """Fact accuracy, or ROUGE-L recall where nobody labelled a fact."""
    facts_right = metrics["fact_accuracy"]
    return facts_right if facts_right == facts_right else metrics["rouge_l_recall"]


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One run, and its figures; or one of the two models that the attacks compare it with."""
    from workbench.errors import UserError
    from workbench.objectives import objective
    from workbench.unlearning import Settings, unlearn

    args = _loaded["args"]
    if "attacked" in job:
        return job | attacked(_loaded["ends"][job["attacked"]])
    authors = objective[job["objective"]].settings
    settings = Settings(steps=args.steps, batch_size=args.batch_size, record_every=10**6, checkpoint_every=10**6)
    settings = settings.replace(**{k: v for k, v in authors.items() if k != "lr"}, lr=job["lr"], seed=job["seed"])
    settings = settings.replace(gamma=settings.gamma * job["gamma"], train=args.train)
    weights = _loaded["weights"].get(job["weights"], job["weights"])
    started = time.perf_counter()
    try:
        run = unlearn(_loaded["lm"], _loaded["task"], job["objective"], weights, settings=settings)
    except UserError as error:
        return job | {"failed": str(error), "score": 0.0}
    seconds = time.perf_counter() - started
    flops = run.ledger.total.flops
    limit = args.limit if job["seed"] != TUNING_SEED else args.tuning_limit
    more = attacked(run.lm) if args.attacks and job["seed"] != TUNING_SEED else {}
    return job | figures(run.lm, limit) | {"seconds": seconds, "flops": flops} | more


def attacked(lm: Any) -> dict[str, Any]:
    """What the attacks get out of a model."""
    return {"attacks": after_attack.attacked(lm, _loaded["ends"], _loaded["task"], _loaded["args"])}


def describe(row: dict[str, Any]) -> str:
    """A row in a line."""
    if "attacked" in row:
        return f"attacked: {row['attacked']}"
    result = row.get("failed") or f"score {row['score']:.3f} forget {row['forget']:.2f} retain {row['retain']:.2f}"
    setting = f"lr {row['lr']:g} x{row['gamma']:g} seed {row['seed']}"
    return f"{row['objective']} {row['weights']} {setting}: {result}"


def scored(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Score tables of the weights that are fixed before a run, computed once; live scorers learn in each run."""
    from workbench.scorers import TaskContext, score_fixed, score_samples, scorer

    tables = {}
    for name in args.weights.split(","):
        if scorer[name].kind == "live":
            continue
        task, lm = _loaded["task"], _loaded["lm"]
        fixed = scorer[name].kind == "batch"
        table = score_samples(lm, task.forget, [name]) if fixed else score_fixed(TaskContext(lm, task, None, 0), [name])
        path = folder / f"{name}.parquet"
        table.to_parquet(path, index=False)
        tables[name] = str(path)
    return tables


def run_all(args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, dict[str, Any]]]:
    """The rows of the runs that are shown, the figures before them, and the attacks on the two other models."""
    from workbench.objectives import objective

    folder = Path(args.out).parent
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / ".leaderboard"
    scratch.mkdir(exist_ok=True)
    prepare(args, {})
    before = figures(_loaded["lm"], args.limit)
    tables = scored(args, scratch)
    pairs = list(
        itertools.product(args.objectives.split(",") if args.objectives else objective, args.weights.split(","))
    )
    names = ["task", "data_dir", "spans", "retain_rows", "model", "steps", "batch_size", "train", "limit"]
    names += ["tuning_limit", *(["attacks", "set", "reference", "attack_limit"] if args.attacks else [])]
    rows = Rows(Path(args.rows or f"{args.out}.jsonl"), one, describe, {name: getattr(args, name) for name in names})
    with Workers(args.workers, prepare, args, tables, _loaded["known"]) as workers:
        best = chosen(args.chosen, pairs) if args.chosen else tuned(args, rows, workers, pairs)
        jobs = [{"attacked": model} for model in after_attack.ENDS if args.attacks]
        jobs += [{k: row[k] for k in ("objective", "weights", "lr", "gamma")} | {"seed": seed}
                 for seed in map(int, args.seeds.split(",")) for row in best]  # fmt: skip
        shown = rows.run(workers, jobs)
    ends = {row["attacked"]: row for row in shown if "attacked" in row}
    order = [(row["objective"], row["weights"]) for row in best]
    runs = [row for row in shown if "attacked" not in row]
    return sorted(runs, key=lambda r: order.index((r["objective"], r["weights"]))), before, ends


def tuned(args: argparse.Namespace, rows: Rows, workers: Workers, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The best setting of each pair, by runs with a seed of their own."""
    grid = list(itertools.product(map(float, args.lrs.split(",")), map(float, args.gammas.split(","))))
    jobs = [{"objective": o, "weights": w, "lr": lr, "gamma": g, "seed": TUNING_SEED}
            for (o, w), (lr, g) in itertools.product(pairs, grid)]  # fmt: skip
    tried = rows.run(workers, jobs)
    return [
        max((r for r in tried if (r["objective"], r["weights"]) == pair), key=lambda r: r["score"]) for pair in pairs
    ]


def chosen(record: str, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The setting of each pair in an earlier record."""
    by = {(cell["objective"], cell["weights"]): cell for cell in json.loads(Path(record).read_text())["cells"]}
    if lacking := [f"{o} + {w}" for o, w in pairs if (o, w) not in by]:
        raise SystemExit(f"{record} has no settings of {', '.join(lacking)}")
    return [by[pair] for pair in pairs]


def main() -> None:
    """Tune, run, write the page; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    task_options(options)
    options.add_argument("--name", help="the model's name on the page, where --model is a path")
    options.add_argument("--objectives", default="", help="all by default")
    options.add_argument("--weights", default="uniform,atwu,specificity,spans")
    options.add_argument("--lrs", default="1e-3")
    options.add_argument("--gammas", default="0.03,0.1,0.3,1,3,10")
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--train", default="all")
    options.add_argument("--limit", type=int, default=96, help="answers probed a set, of the runs that are shown")
    options.add_argument("--tuning-limit", type=int, default=48)
    options.add_argument("--out", default="docs/findings/leaderboard", help="of .md, .json and .svg")
    options.add_argument("--chosen", help="a record (.json) whose settings are taken, so that nothing is tuned")
    options.add_argument("--attacks", default="", help="by name, with commas between, or all; greedy is their level")
    options.add_argument("--set", action="append", default=[], help="an attack's option, as of `workbench attack`")
    options.add_argument("--reference", default="bio-retain", help="with --attacks: the retain-only model")
    options.add_argument("--attack-limit", type=int, default=24, help="answers attacked")
    options.add_argument("--rows", help="finished rows, by default OUT.jsonl; delete the file to begin anew")
    args = options.parse_args()
    args.name = args.name or args.model
    args.options = attack_options(args.set)
    started = time.perf_counter()
    shown, before, ends = run_all(args)
    table, took = cells(shown), time.perf_counter() - started
    if ends:
        after_attack.add_columns(table, shown, ends)
    text = page(args, table, before, _loaded["known"], took)
    if ends:
        text = "\n\n".join([text.rstrip(), *after_attack.pages(args, table, shown, ends)]) + "\n"
    Path(f"{args.out}.md").write_text(text)
    settings = {key: placeless(value) for key, value in vars(args).items()}
    record = {"before": before, "cells": table, "seconds": took, "settings": settings, "versions": facts()}
    record |= {"ends": ends, "beyond_level": after_attack.beyond_level(shown, ends)} if ends else {}
    Path(f"{args.out}.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(table, before, Path(f"{args.out}.svg"))
    print(json.dumps({"page": f"{args.out}.md", "seconds": took, "pairs": len(table), "best": table[0]}))


if __name__ == "__main__":
    main()
