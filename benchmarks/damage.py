"""Do learned weights matter? Runs that stop at the same level of forgetting, and their damage.

    .venv/bin/python benchmarks/damage.py [--weights uniform,random,specificity,...] [--seeds 0,1,2] [--level 0.10]
                                          [--unrehearsed N]
    .venv/bin/python benchmarks/damage.py --by tokens --task tofu/forget01 --data-dir DIR --spans FILE
            --retain-rows 160 --unrehearsed 80 --model PLANTED --retain-only DIR --level 0.50 --every 2 --steps 24
            --set alpha=1 --set lr=2e-4 --set batch_size=8 --set retain_batch=16 --set train=layers:15-29

Each run goes on until the facts of the forget set are known no better than `--level`, checked every few steps. By
`greedy` that is the share of greedy answers that hold them; by `tokens` the share of the labelled tokens that are
the model's first choice after the true words before them. Then, per weights, mean and range
over the seeds: steps, the rise of the NLL on the generic tokens of the forget answers (outside the labelled spans) and
the share of them that is no longer the first choice, and what is left of the other sets: fact accuracy, and held-out
perplexity; by `tokens` extraction strength, and the rise of the generic NLL is also given `at_level`, on the line
between the last two checks, since runs overshoot by different steps. `closed` is the part of the gap in generic damage
between uniform and span weights that a weighting closes. `--unrehearsed N` takes the first N rows out of the retain
set, so that a run never sees them, and adds the figure on them. `NAME:k=v` sets an option of a scorer. Labels serve for
measuring, and as the oracle `spans`. `tflop` is what the run computed but for records of its scores, with the scores
before it: those that all seeds share are computed once, counted by torch's FlopCounterMode, and stand in each row. Rows
have the FLOPs of each phase, and of a live scorer how well it finds the labelled tokens at the end. They are kept
(`--rows`): the same command goes on where it was cut off. `closed` is of the seeds that reached the level, and empty
where one of a weighting's seeds did not.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import torch
from many_runs import Rows, task_options
from torch.utils.flop_counter import FlopCounterMode

from workbench.cli.console import table_line
from workbench.evals import Answer, alignment, metric, probe, token_table
from workbench.models import load
from workbench.objectives import objective as registered
from workbench.runs import scorer_options, settings_from
from workbench.runs.scheduler import Workers
from workbench.scorers import apply_scorer, scorer
from workbench.tasks import Sample, TaskSpec, spread
from workbench.unlearning import score_task, unlearn

WEIGHTS = "uniform,random,surprisal,atwu,amortised,specificity:power=1,specificity,specificity_ref,spans"
COLUMNS = ("steps", "tflop", "reached", "forget", "generic_nll", "at_level", "generic_lost", "neighbours", "retain",
           "unrehearsed", "general_perplexity")  # fmt: skip
_loaded: dict[str, Any] = {}


def prepare(args: argparse.Namespace) -> None:
    """Load what every run of a worker needs."""
    torch.set_num_threads(args.threads)
    spec = TaskSpec(args.task, data_dir=args.data_dir, spans=args.spans, retain_rows=args.retain_rows)
    task, lm = spec.load(), load(args.model)
    apart, task.sets["retain"] = task.retain[: args.unrehearsed], task.retain[args.unrehearsed :]
    never = load(args.retain_only, **lm.like())
    _loaded.update(args=args, task=task, lm=lm, never=never, apart=apart, tables={}, scoring={})
    _loaded["start"] = check(lm, 0)
    if _loaded["start"]["forget"] <= args.level:
        raise SystemExit(f"the model is at the level before any run: {_loaded['start']['forget']:.2f}; see --level")


def accuracy_on(lm: Any, rows: list[Sample]) -> float:
    """Greedy fact accuracy on some rows of the task."""
    task = _loaded["task"]
    only = replace(task, sets={"forget": rows, "retain": task.retain[:1]})  # a task has both
    return float(probe(lm, only, limit=_loaded["args"].limit).metrics["forget"]["fact_accuracy"])


def forget_tokens(lm: Any) -> dict[str, float]:
    """`of_tokens` of the probed forget answers."""
    return of_tokens(token_table(lm, spread(_loaded["task"].forget, _loaded["args"].limit)))


def of_tokens(tokens: pd.DataFrame) -> dict[str, float]:
    """Of a table's labelled tokens and of the others: their NLL, and which are the model's first choice."""
    tokens = tokens[tokens["end"] > tokens["start"]]
    facts = tokens["span"].astype(bool)
    generic = tokens[~facts]
    return {
        "forget": float((tokens[facts]["rank"] == 0).mean()),
        "fact_nll": float(-tokens[facts]["logp"].mean()),
        "generic_nll": float(-generic["logp"].mean()),
        "generic_lost": float((generic["rank"] != 0).mean()),
    }


def strength(lm: Any, rows: list[Sample]) -> float:
    """Mean extraction strength of some rows, at most `--limit`."""
    tokens, each = token_table(lm, spread(rows, _loaded["args"].limit)), []
    for _, own in tokens.groupby("sample_id"):
        answer = Answer(own["logp"].to_numpy(), own["rank"].to_numpy(), "", None, None, None, ())
        each.append(metric["extraction_strength"].function(answer))
    return mean(each)


def measure(lm: Any, last: dict[str, float] | None = None) -> dict[str, float]:
    """The figures of one model; `last` is what a check has just seen of it."""
    args, task, apart = (_loaded[name] for name in ("args", "task", "apart"))
    if args.by == "tokens":
        kept = {"retain": task.retain} | ({"unrehearsed": apart} if apart else {})
        return (last or forget_tokens(lm)) | {name: strength(lm, rows) for name, rows in kept.items()}
    probed = probe(lm, task, limit=args.limit)
    generic = of_tokens(probed.tokens[probed.tokens["probe_set"] == "forget"])
    accuracy = {name: probed.metrics[name]["fact_accuracy"] for name in ("forget", "retain", "neighbours")}
    figures = generic | accuracy | {"general_perplexity": probed.metrics["general"]["perplexity"]}
    return figures | ({"unrehearsed": accuracy_on(lm, apart)} if apart else {})


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One run that stops at the level, and its figures; or those of a model without a run."""
    if "model" in job:
        return job | measure(_loaded[job["model"]])
    args, task, seed = _loaded["args"], _loaded["task"], job["seed"]
    weights, _, pairs = job["weights"].partition(":")
    options = scorer_options(pairs.split(":") if pairs else [], [weights])[weights]
    settings = settings_from(
        [*args.set, f"seed={seed}"],
        {"objective": registered[args.objective].options},
        steps=args.steps,
        record_every=10**6,
        record_samples=1,
        checkpoint_every=10**6,
        alpha=2.0,
    )
    settings = settings.replace(options=settings.options | {"weights": options})
    changed = _loaded["lm"].frozen_copy()
    checks = [_loaded["start"]]

    def look(event: dict[str, Any]) -> None:
        if event["step"] % args.every == 0 or event["step"] == args.steps:
            checks.append(check(changed, event["step"]))

    run = unlearn(changed, task, args.objective, fixed(job["weights"], weights, options), settings=settings,
                  reference=_loaded["never"], in_place=True, on_step=look,
                  stop=lambda: checks[-1]["forget"] <= args.level)  # fmt: skip
    row = job | measure(changed, checks[-1])
    row |= {"steps": run.steps, "reached": float(checks[-1]["forget"] <= args.level), "checks": checks}
    flops = {name: phase.flops for name, phase in run.ledger.phases.items()}
    flops["scoring"] = flops.get("scoring", 0.0) + _loaded["scoring"].get(job["weights"], 0.0)
    row |= {"flops": flops, "tflop": sum(f for name, f in flops.items() if name != "recording") / 1e12}
    if run.scorer is not None:
        found = alignment(apply_scorer(run.scorer, changed, task.forget))[weights]
        row["found"] = {name: found[name] for name in ("auroc", "auroc_per_sample", "ap")}
    return row


def check(lm: Any, step: int) -> dict[str, float]:
    """What a run's look at the level sees: how much of the facts is known, as "forget"."""
    if _loaded["args"].by == "tokens":
        return {"step": step} | forget_tokens(lm)
    return {"step": step, "forget": accuracy_on(lm, _loaded["task"].forget)}


def fixed(named: str, weights: str, options: dict[str, Any]) -> Any:
    """The scores of a scorer that reads the whole task, computed once for all seeds; of others the name."""
    if scorer[weights].kind != "task":
        return weights
    if named not in _loaded["tables"]:
        lm, task, never = (_loaded[name] for name in ("lm", "task", "never"))
        with FlopCounterMode(display=False) as counter:
            _loaded["tables"][named] = score_task(lm, task, [weights], reference=never, options={weights: options})
        _loaded["scoring"][named] = float(counter.get_total_flops())
    return _loaded["tables"][named]


def at_level(row: dict[str, Any], level: float) -> float:
    """The generic NLL where a run crosses the level, on the line between its last two checks; NaN if it did not."""
    if not row["reached"]:
        return float("nan")
    before, after = row["checks"][-2:]
    way = (before["forget"] - level) / (before["forget"] - after["forget"])
    return float(before["generic_nll"] + way * (after["generic_nll"] - before["generic_nll"]))


def closed_of(damage: pd.Series) -> dict[str, float]:
    """The part of the gap between uniform and span weights that each weighting closes; none without both."""
    if not {"uniform", "spans"} <= set(damage.dropna().index):
        return {}
    return {name: float((damage["uniform"] - value) / (damage["uniform"] - damage["spans"]))
            for name, value in damage.items() if not math.isnan(value)}  # fmt: skip


def shown(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Print the table; returns what each weighting closes."""
    groups = pd.DataFrame(rows).groupby("weights", sort=False)
    columns = [name for name in COLUMNS if name in rows[0]]
    means, low, high = (getattr(groups[columns], name)() for name in ("mean", "min", "max"))
    column = "at_level" if "at_level" in columns else "generic_nll"
    closed = closed_of(means[column].where(low["reached"] == 1))
    table_line(
        [["weights", *columns, "closed"]]
        + [
            [
                name,
                *(f"{means.loc[name, c]:.2f} ({low.loc[name, c]:.2f}-{high.loc[name, c]:.2f})" for c in columns),
                f"{closed[name]:.2f}" if name in closed else "",
            ]
            for name in means.index
        ]
    )
    return closed


def describe(row: dict[str, Any]) -> str:
    """A row in one line."""
    return json.dumps({name: value for name, value in row.items() if name not in ("checks", "key")})


def main() -> None:
    """Run every weighting with every seed; a line a run, then the table, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    task_options(options)
    options.add_argument("--retain-only", default="bio-retain", help="a model that never saw the forget set")
    options.add_argument("--by", choices=["greedy", "tokens"], default="greedy", help="how forgetting is measured")
    options.add_argument("--objective", default="wga")
    options.add_argument("--weights", default=WEIGHTS)
    options.add_argument("--level", type=float, default=0.10)
    options.add_argument("--steps", type=int, default=240, help="the most a run may take")
    options.add_argument("--every", type=int, default=4, help="steps between two looks at the level")
    options.add_argument("--limit", type=int, default=96, help="answers probed a set")
    options.add_argument("--unrehearsed", type=int, default=0, help="take so many rows out of the retain set")
    options.add_argument("--set", action="append", default=[], metavar="K=V")
    options.add_argument("--rows", default="damage.jsonl", help="finished rows; delete the file to begin anew")
    args = options.parse_args()
    depends = {n: v for n, v in vars(args).items() if n not in ("weights", "seeds", "workers", "threads", "rows")}
    rows = Rows(Path(args.rows), one, describe, depends)
    jobs = [{"weights": w, "seed": seed} for seed in map(int, args.seeds.split(",")) for w in args.weights.split(",")]
    with Workers(args.workers, prepare, args) as workers:
        before, never, *made = rows.run(workers, [{"model": "lm"}, {"model": "never"}, *jobs])
    for row in made:
        row["generic_nll"] -= before["generic_nll"]
        if args.by == "tokens":
            row["at_level"] = at_level(row, args.level) - before["generic_nll"]
    made = [row for w in args.weights.split(",") for row in made if row["weights"] == w]
    closed = shown(made)
    print(json.dumps({"before": before, "never": never, "closed": closed, "rows": made, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
