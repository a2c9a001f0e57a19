"""What it costs to forget: FLOPs and seconds of full-sample and of token-weighted runs until the same goal is reached.

    python benchmarks/compute_to_forget.py --task biographies
    python benchmarks/compute_to_forget.py --task tofu/forget01 --data-dir DIR --model PLANTED --retain-only DIR

**Goal.** Extraction strength of the forget answers, and of their paraphrases, at most that of a model which never saw
them (`--retain-only`) plus .05; of retain and neighbours at least 95 % of what it was before the run. (A set of which
less than .25 could be extracted before is judged by its answers' probability: of TOFU's real authors a small model
recites nothing; `--unrehearsed N` puts N retain rows in their place, which the run then never sees;
`--keep retain` leaves them out of the goal.) Checked every `--every` steps on `--limit` answers a set; these checks
are the ruler and cost nothing, everything else in the run's ledger counts: scoring, references, scorer, steps.

**Tuning.** Every method gets `--budget` settings, drawn alike (one seed for all) from learning rate, weight of the
forget loss, batch sizes, how often a retain batch is computed, skipping (where it can serve), and the trained layers
(`half`: the upper half; the lower for rmu, which steers a state below the middle), and is run on them with a seed of
its own. The best is tried again, for every method in the same `--second` ways: twice the steps, and with these a
retain batch of 64 in every step, twice and half the forget weight, half of it with skipping. The best of these is
tried with `--third` sparse steps: by scores where the method weighs tokens, and with random tokens of the same share
where it does not (a choice of retain tokens by their loss is a score too). `--start RECORD` begins with the settings
of an earlier page's JSON in place of the first two rounds. Best is the cheapest in
FLOPs that reaches the goal, and where none does the one nearest to it; the best of each method is run with the
reported seeds, with plain and with sparse steps.
Full-sample methods are those with weights of 1 (what `wga` weighs by is within its loss). No span label enters, but in
rows marked `oracle`.

`ratio_full_sample_flops` is the mean cost of the best full-sample method over that of the best token-weighted one (an
oracle does not count), `ratio_full_sample_seconds` the same of the two that are best in seconds, `ratio_plain_flops`
that of the best token-weighted one with plain steps over that with sparse ones (see `ratio` for runs that did not reach
the goal: they count with all that they spent). Rows are kept (`--rows`): a run that was cut off goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from many_runs import Rows, hardware, placeless, task_options

from workbench.runs.scheduler import Workers

TUNING_SEED = 1000
FULL = ("grad_diff", "npo", "simnpo", "rmu", "wga")
WEIGHTED = ("wga+surprisal", "simnpo+surprisal", "npo+surprisal", "wga+specificity", "simnpo+specificity", "atwu+atwu")
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
    {"share": 0.2},
]
SETS = ("forget", "paraphrases", "retain", "neighbours")
KINDS = ("full sample", "token-weighted")
KNOWN = 0.25  # extraction strength before the run, from which on a set to keep is judged by it
_loaded: dict[str, Any] = {}


def goal_options(options: argparse.ArgumentParser) -> None:
    """The task, and how its goal is measured."""
    task_options(options)
    options.add_argument("--retain-only", default="bio-retain", help="a model that never saw the forget set")
    options.add_argument("--unrehearsed", type=int, default=0, help="the first so many retain rows are the neighbours")
    options.add_argument("--keep", default="retain,neighbours", help="the sets of which 95 %% must be left")
    options.add_argument("--every", type=int, default=2, help="steps between two checks")
    options.add_argument("--limit", type=int, default=36, help="answers checked, a set")


def goal(args: argparse.Namespace) -> dict[str, Any]:
    """The options on which a run's row depends."""
    names = ("task", "data_dir", "spans", "retain_rows", "model", "retain_only", "unrehearsed", "keep", "every")
    return {name: getattr(args, name) for name in (*names, "limit", "steps")}


def prepare(args: argparse.Namespace) -> None:
    """Load what every run of a worker needs, and measure where it starts and what it must reach."""
    import torch

    from workbench.models import load
    from workbench.tasks import TaskSpec, spread

    torch.set_num_threads(args.threads)
    task = TaskSpec(args.task, data_dir=args.data_dir, spans=args.spans, retain_rows=args.retain_rows).load()
    if args.unrehearsed:
        known, keep = task.retain[: args.unrehearsed], task.retain[args.unrehearsed :]
        task = replace(task, sets=task.sets | {"neighbours": known, "retain": keep})
    lm = load(args.model)
    sets = {name: spread(task.sets[name], args.limit) for name in ("forget", "retain", "neighbours")}
    sets["paraphrases"] = [
        replace(s, id=f"{s.id}-p", question=s.paraphrased_question or s.question,
                answer=s.paraphrased_answer or s.answer, spans=None)
        for s in sets["forget"]
    ]  # fmt: skip
    _loaded.update(args=args, task=task, lm=lm, sets=sets, keep=args.keep.split(","))
    _loaded["before"] = strengths(lm)
    _loaded["never"] = strengths(load(args.retain_only, **lm.like()), ("forget", "paraphrases"))


def strengths(lm: Any, names: tuple[str, ...] = SETS, cost: Any = None) -> dict[str, float]:
    """Mean extraction strength of each set, and its mean answer probability (of the mean token)."""
    import torch

    from workbench.evals import Answer, metric
    from workbench.models import batches, count_forward, encode, token_stats

    strength, means = metric["extraction_strength"].function, {}
    for name in names:
        values, chances = [], []
        encodings = [encode(lm, s) for s in _loaded["sets"][name]]
        for _, batch in batches(lm, encodings, 64):
            with torch.no_grad():
                stats = token_stats(lm, batch)
            if cost is not None:
                count_forward(cost, lm, batch)
            for ranks in stats.rank.cpu().split(stats.counts.tolist()):
                values.append(strength(Answer(ranks.float().numpy(), ranks.numpy(), "", None, None, None, ())))
            chances += stats.sample_mean(stats.logp).exp().tolist()
        means[name], means[f"{name} probability"] = mean(values), mean(chances)
    return means


def measure_of(name: str) -> str:
    """By what a set to keep is judged: a share of next to nothing would decide by its noise."""
    return name if _loaded["before"][name] >= KNOWN else f"{name} probability"


def miss(now: dict[str, float]) -> float:
    """By how much the goal is missed, at its worst point; at most 0 where it holds."""
    before, never = _loaded["before"], _loaded["never"]
    forget = [now[name] - never[name] - 0.05 for name in ("forget", "paraphrases")]
    measures = [measure_of(name) for name in _loaded["keep"]]
    return max(*forget, *(0.95 - now[measure] / before[measure] for measure in measures))


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One run until the goal, or to its last step: where it got to and what it cost."""
    from workbench.cost import Ledger, Phase
    from workbench.errors import UserError
    from workbench.objectives import objective
    from workbench.scorers import scorer
    from workbench.unlearning import Settings, needs_of, unlearn

    args, lm = _loaded["args"], _loaded["lm"]
    authors = objective[job["objective"]].settings
    layers = lm.module.config.num_hidden_layers
    half = (0, layers // 2 - 1) if job["objective"] == "rmu" else (layers // 2, layers - 1)
    train = f"layers:{half[0]}-{half[1]}" if job["train"] == "half" else job["train"]
    fixed = scorer[job["weights"]].kind != "live" and not needs_of(objective[job["objective"]]) & {"logits", "states"}
    picked = {k: job[k] for k in ("lr", "batch_size", "retain_batch", "retain_every", "skip", "seed")}
    steps = job.get("steps", args.steps)
    settings = Settings(steps=steps, warmup=1, record_every=10**6, record_samples=1, checkpoint_every=10**6)
    settings = settings.replace(**{k: v for k, v in authors.items() if k != "lr"}, **picked, train=train)
    options = {"weights": job.get("options", {})}
    settings = settings.replace(gamma=job["gamma"], options=options, **job.get("sparse", {}))
    settings = settings if fixed else settings.replace(skip=0.0)  # which skipping cannot serve
    ledger, ruler, checks = Ledger(), Phase(), []

    model = lm.frozen_copy()

    def stop() -> bool:
        if not ledger.phases.get("optimizer"):
            return False
        step = ledger.phases["optimizer"].calls
        if step % args.every:
            return False
        cost = spent(ledger)
        now = strengths(model, cost=ruler)
        checks.append({"step": step, **now, **cost, "check_flops": ruler.flops, "miss": miss(now)})
        return miss(now) <= 0 and not job.get("to_the_end")

    try:
        run = unlearn(model, _loaded["task"], job["objective"], job["weights"], settings=settings, in_place=True,
                      ledger=ledger, stop=stop)  # fmt: skip
        if run.finished and (not checks or checks[-1]["step"] < steps):
            stop()
        skipped = [round(e["skipped"], 3) for e in run.events if "skipped" in e]
    except UserError as error:
        return job | {"failed": str(error), "reached": False, "miss": 9.0}
    best = checks[-1] if job.get("to_the_end") else min(checks, key=lambda c: c["miss"])
    end = next((c for c in checks if c["miss"] <= 0 and not job.get("to_the_end")), best)
    importance = [ledger.phases[name] for name in ("scoring", "scorer") if name in ledger.phases]
    shares = {f"importance_{k}": sum(getattr(p, k) for p in importance) / end[k] for k in ("flops", "seconds")}
    return job | end | shares | {"reached": end["miss"] <= 0, "checks": checks, "skipped": skipped}


def spent(ledger: Any) -> dict[str, float]:
    """FLOPs and seconds of all phases but the recording of scores, which is for looking at."""
    phases = [p for name, p in ledger.now().items() if name != "recording"]
    return {name: sum(getattr(p, name) for p in phases) for name in ("flops", "seconds")}


def describe(row: dict[str, Any]) -> str:
    """A row in a line."""
    name = f"{row['objective']} {row['weights']}{' sparse' if row.get('sparse') else ''} seed {row['seed']}"
    if "failed" in row:
        return f"{name}: {row['failed']}"
    got = " ".join(f"{n[:6]} {row[n]:.2f}" for n in SETS)
    how = f"goal at step {row['step']}" if row["reached"] else f"missed by {row['miss']:.3f}"
    return f"{name}: {how}, {got}, {row['flops'] / 1e9:.0f} GFLOP, {row['seconds']:.1f} s"


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
    longer = {name: best[name] for name in (*SPACE, "objective", "weights", "kind", "seed")} | {"steps": 2 * steps}
    changes: list[dict[str, Any]] = [
        {}, {"retain_batch": 64, "retain_every": 1}, {"gamma": 2 * best["gamma"]}, {"gamma": best["gamma"] / 2},
        {"gamma": best["gamma"] / 2, "skip": 0.1},
    ]  # fmt: skip
    return [longer | change for change in changes]


def sparser(best: dict[str, Any]) -> list[dict[str, Any]]:
    """The third round: the best setting with sparse steps, by scores or, without token weights, by chance."""
    same = {k: best[k] for k in (*SPACE, "objective", "weights", "kind", "seed", "steps") if k in best}
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
    names = (*SPACE, "objective", "weights", "kind")
    rows = [{k: c[k] for k in names} | ({"steps": c["steps"]} if c["steps"] else {}) for c in cells]
    return [row | {"seed": TUNING_SEED} for row in rows if not row.get("sparse")]


def rank(row: dict[str, Any]) -> tuple[bool, float]:
    """The cheapest row that reached the goal comes first; where none did, the one that came nearest."""
    return not row["reached"], row["flops"] if row["reached"] else row["miss"]


HEAD = (
    "method | weights | kind | setting | goal reached | GFLOP ↓ | seconds ↓ | steps | importance, of FLOPs | of seconds"
    " | retain | neighbours"
)
MEASURES = ("flops", "seconds", "step", "importance_flops", "importance_seconds", "retain", "neighbours")


def cell(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A method's seeds: how many reached the goal, and what it cost those, mean and range."""
    fine = [r for r in rows if r["reached"]]
    first = rows[0]
    out: dict[str, Any] = {k: first[k] for k in ("objective", "weights", "kind", *SPACE)}
    out |= {"steps": first.get("steps"), "sparse": first.get("sparse")}
    out |= {"seeds": len(rows), "reached": len(fine), "missed_by": mean(r["miss"] for r in rows)}
    ends = [r if r["reached"] else r["checks"][-1] for r in rows if r.get("checks")]
    out["skip"] = first["skip"] if first.get("skipped") else 0.0  # it cannot serve every method
    out["spent"] = {by: mean(e[by] for e in ends) if ends else float("inf") for by in ("flops", "seconds")}
    for name in MEASURES:
        values = [r[name] for r in fine]
        out[name] = {"mean": mean(values), "low": min(values), "high": max(values)} if values else None
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
    between = [f"{c['objective']} + {c['weights']} ({c['reached']} of {c['seeds']} reached it)" for c in sides]
    return {"value": full["spent"][by] / weighted["spent"][by], "between": between}


def by_steps(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The token-weighted methods, told apart by their steps."""
    return [c | {"kind": "sparse" if c["sparse"] else "plain"} for c in cells if c["kind"] == "token-weighted"]


def spread(value: dict[str, float] | None, scale: float = 1.0, digits: int = 0) -> str:
    """A mean with its range over the seeds."""
    if value is None:
        return "never"
    low, middle, high = (f"{value[k] / scale:.{digits}f}" for k in ("low", "mean", "high"))
    return f"{middle} ({low}-{high})"


def line(c: dict[str, Any]) -> str:
    """A row of the table."""
    setting = (
        f"lr {c['lr']:g}, gamma {c['gamma']:g}, {c['batch_size']} + {c['retain_batch']}"
        f"{' every ' + str(c['retain_every']) if c['retain_every'] > 1 else ''}, {c['train']}"
        f"{', skip ' + format(c['skip'], 'g') if c['skip'] else ''}"
        f"{', ' + str(c['steps']) + ' steps' if c['steps'] else ''}"
        f"{''.join(f', {k} {v}' for k, v in (c['sparse'] or {}).items())}"
    )
    shares = ["" if c[n] is None else f"{c[n]['mean']:.0%}" for n in ("importance_flops", "importance_seconds")]
    reached = f"{c['reached']} of {c['seeds']}"
    if not c["reached"]:
        reached += f" (missed by {c['missed_by']:.2f})"
    costs = [spread(c["flops"], 1e9), spread(c["seconds"], digits=1), spread(c["step"])]
    kept = ["" if c[n] is None else spread(c[n], digits=2) for n in ("retain", "neighbours")]
    return "| " + " | ".join([c["objective"], c["weights"], c["kind"], setting, reached, *costs, *shares, *kept]) + " |"


def page(args: argparse.Namespace, record: dict[str, Any]) -> str:
    """The Markdown page."""
    goal = ", ".join(f"{name} at most {record['never'][name] + 0.05:.2f}" for name in ("forget", "paraphrases"))
    before = ", ".join(f"{name} {value:.2f}" for name, value in record["before"].items())
    command = " ".join(map(placeless, sys.argv[1:]))
    ratios = [
        f"- {name}: " + (f"not available, {r['reason']}" if r["value"] is None else
                         f"{r['value']:.2f}, {' over '.join(r['between'])}")
        for name, r in record["ratios"].items()
    ]  # fmt: skip
    return "\n\n".join([
        f"# Compute to forget: {args.task}",
        f"`benchmarks/compute_to_forget.py {command}`, on {record['hardware']}, {args.seed_workers or args.workers} "
        f"of the seeds' runs at a time, of {args.threads} thread(s).",
        f"Extraction strength (and answer probability) before: {before}. Goal: extraction strength of {goal}; "
        f"{' and '.join(record['kept_by'])} at least 95 % of before. Checked "
        f"every {args.every} steps of at most {args.steps} or {2 * args.steps}, {args.limit} answers a set. "
        f"{f'The settings of {Path(args.start).name}' if args.start else f'{args.budget} + {args.second} settings'} "
        f"a method, the best also with {args.third} sparse ones, chosen by FLOPs with a seed of its own, then seeds "
        f"{args.seeds}: mean (lowest-highest) over those "
        "that reached the goal.",
        "\n".join([f"| {HEAD} |", "|---" * len(HEAD.split("|")) + "|", *map(line, record["cells"])]),
        "\n".join(ratios),
        f"The best setting of each method while tuning (the best {args.best} of a kind were run with the seeds):",
        "\n".join(record["tuning"]),
    ]) + "\n"  # fmt: skip


def kind_of(weights: str) -> str:
    """Whether weights make a run full-sample, token-weighted, or an oracle."""
    return {"uniform": "full sample", "spans": "oracle"}.get(weights, "token-weighted")


def main() -> None:
    """Tune, run, write the page; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    goal_options(options)
    options.add_argument("--methods", default=",".join([*(f"{name}+uniform" for name in FULL), *WEIGHTED, "wga+spans"]))
    options.add_argument("--budget", type=int, default=8, help="settings tried for each method")
    options.add_argument("--second", type=int, default=5, help="further settings tried from each method's best")
    options.add_argument("--third", type=int, default=4, help="ways of sparse steps tried on each method's best")
    options.add_argument("--start", help="the JSON of an earlier page, whose settings replace the first two rounds")
    options.add_argument("--best", type=int, default=99, help="run the seeds of so many methods of each kind only")
    options.add_argument("--fix", action="append", default=[], help="NAME=VALUE,... instead of the settings' values")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--out", help="of .md and .json, by default docs/findings/compute-TASK")
    options.add_argument("--seed-workers", type=int, help="as --workers, for the seeds' runs, whose seconds count")
    options.add_argument("--rows", help="finished rows, by default OUT.jsonl; delete the file to begin anew")
    args = options.parse_args()
    args.out = args.out or f"docs/findings/compute-{args.task.replace('/', '-')}"
    for pair in args.fix:
        name, _, values = pair.partition("=")
        SPACE[name] = [type(SPACE[name][0])(value) for value in values.split(",")]

    methods = [method.split("+") for method in args.methods.split(",")]
    rows = Rows(Path(args.rows or f"{args.out}.jsonl"), one, describe, goal(args))
    prepare(args)
    with Workers(args.workers, prepare, args) as workers:
        jobs = [d | {"objective": o, "weights": w, "kind": kind_of(w), "seed": TUNING_SEED}
                for o, w in methods for d in draws(args.budget)]  # fmt: skip
        tried = rows.run(workers, started(args.start, methods) if args.start else jobs)
        first = best_of(tried, methods)
        if not args.start:
            tried += rows.run(workers, [job for row in first for job in refined(row, args.steps)[: args.second]])
        plain = best_of(tried, methods)
        sparse = rows.run(workers, [job for row in plain for job in sparser(row)[: args.third]])
        picked = plain + (best_of(sparse, methods) if sparse else [])
        tuning = [how_tuning_went(sparse if row.get("sparse") else tried, row) for row in picked]
        picked = [row for kind in (*KINDS, "oracle") for steps in (False, True) for row in
                  sorted((r for r in picked if r["kind"] == kind and bool(r.get("sparse")) == steps),
                         key=rank)[: args.best]]  # fmt: skip
        names = (*SPACE, "objective", "weights", "kind", "steps", "sparse")
        finals = [{k: row[k] for k in names if k in row} | {"seed": seed}
                  for row in picked for seed in map(int, args.seeds.split(","))]  # fmt: skip
    with Workers(args.seed_workers or args.workers, prepare, args) as workers:
        shown = rows.run(workers, finals)
    count = len(args.seeds.split(","))
    cells = [cell(shown[i : i + count]) for i in range(0, len(shown), count)]
    cells.sort(key=lambda c: (-c["reached"], c["flops"]["mean"] if c["flops"] else c["missed_by"]))
    ratios = {f"ratio_full_sample_{by}": ratio(cells, by) for by in ("flops", "seconds")}
    ratios |= {f"ratio_plain_{by}": ratio(by_steps(cells), by, ("plain", "sparse")) for by in ("flops", "seconds")}
    record = {
        **{name: each["value"] for name, each in ratios.items()},
        "ratios": ratios,
        "cells": cells,
        "tuning": tuning,
        "before": _loaded["before"],
        "kept_by": [measure_of(name) for name in _loaded["keep"]],
        "never": _loaded["never"],
        "hardware": hardware(),
    }
    Path(f"{args.out}.md").write_text(page(args, record))
    Path(f"{args.out}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: record[k] for k in (*ratios, "ratios")}))


if __name__ == "__main__":
    main()
