"""What it costs to forget: FLOPs and seconds of full-sample and of token-weighted runs until the same goal is reached.

    python benchmarks/compute_to_forget.py --task biographies
    python benchmarks/compute_to_forget.py --task tofu/forget01 --data-dir DIR --model PLANTED --retain-only DIR

**Goal.** Extraction strength of the forget answers, and of their paraphrases, at most that of a model which never saw
them (`--retain-only`) plus .05; of retain and neighbours at least 95 % of what it was before the run. (A set of which
less than .25 could be extracted before is judged by its answers' probability: of TOFU's real authors a small model
recites nothing. With `--by probability` all sets are: of a long passage one wrong token near the end leaves no
extraction strength. `--unrehearsed N` makes a set of N retain rows, which the run then never sees; `--keep` names the
sets that the goal has, such as `retain,unrehearsed`.) Checked every `--every` steps on `--limit` answers a set; these
checks are the ruler and cost nothing, everything else in the run's ledger counts: scoring, references, scorer, steps.

**Tuning.** Every method gets `--budget` settings, drawn alike (one seed for all) from learning rate, weight of the
forget loss, batch sizes, how often a retain batch is computed, skipping (where it can serve), and the trained layers
(`half`: the upper half; the lower for rmu, which steers a state below the middle), and is run on them with a seed of
its own. The best is tried again, for every method in the same `--second` ways: twice the steps, and with these a
retain batch of 64 in every step, twice and half the forget weight, half of it with skipping. The best of these is
tried with `--third` sparse steps: by scores where the method weighs tokens, and with random tokens of the same share
where it does not (a choice of retain tokens by their loss is a score too). `--start RECORD` begins with the settings
of an earlier page's JSON in place of the first two rounds (with `--third 0` nothing is tuned). Best is the cheapest in
FLOPs that reaches the goal, and where none does the one nearest to it; the best of each method is run with the
reported seeds, with plain and with sparse steps. `--also METHOD:NAME=VALUE,...` runs the seeds of a further contender:
the method's setting with these changes.
Full-sample methods are those with weights of 1 (what `wga` weighs by is within its loss). No span label enters, but in
rows marked `oracle`.

`ratio_full_sample_flops` is the mean cost of the best full-sample method over that of the best token-weighted one (an
oracle does not count), `ratio_full_sample_seconds` the same of the two that are best in seconds, `ratio_plain_flops`
that of the best token-weighted one with plain steps over that with sparse ones (see `ratio` for runs that did not reach
the goal: they count with all that they spent). With `--attacks` each seed's model is attacked as it is at the goal (or
at its nearest check), so that methods are compared at a like level of forgetting. Rows are kept (`--rows`): a run that
was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import after_attack
from compute_page import SETTINGS, cell, describe, page, ratios, sets_of
from compute_tuning import SPACE, TUNING_SEED, contender, tuned
from many_runs import Rows, hardware, task_options

from workbench.cli.attack import attack_options
from workbench.runs.scheduler import Workers

FULL = ("grad_diff", "npo", "simnpo", "rmu", "wga")
WEIGHTED = ("wga+surprisal", "simnpo+surprisal", "npo+surprisal", "wga+specificity", "simnpo+specificity", "atwu+atwu")
KNOWN = 0.25  # extraction strength before the run, from which on a set to keep is judged by it
_loaded: dict[str, Any] = {}


def goal_options(options: argparse.ArgumentParser) -> None:
    """The task, and how its goal is measured."""
    task_options(options)
    options.add_argument("--forget", help="file of own rows to forget, in place of --task")
    options.add_argument("--retain", help="file of own rows to keep")
    options.add_argument("--retain-only", default="bio-retain", help="a model that never saw the forget set")
    options.add_argument("--unrehearsed", type=int, default=0, help="so many retain rows that no run sees, as a set")
    options.add_argument("--keep", default="retain,neighbours", help="the sets of which 95 %% must be left")
    options.add_argument(
        "--by", choices=["strength", "probability"], default="strength", help="what sets are judged by"
    )
    options.add_argument("--every", type=int, default=2, help="steps between two checks")
    options.add_argument("--limit", type=int, default=36, help="answers checked, a set")
    options.add_argument("--attacks", default="", help="by name, with commas between, or all; greedy is their level")
    options.add_argument("--set", action="append", default=[], help="an attack's option, as of `workbench attack`")
    options.add_argument("--attack-limit", type=int, default=24, help="answers attacked")


def goal(args: argparse.Namespace) -> dict[str, Any]:
    """The options on which a run's row depends."""
    names = ("task", "data_dir", "spans", "retain_rows", "model", "retain_only", "unrehearsed", "keep", "every")
    names += ("limit", "steps", "forget", "retain", "by")
    names += ("attacks", "set", "attack_limit") if args.attacks else ()
    return {name: getattr(args, name) for name in names}


def prepare(args: argparse.Namespace) -> None:
    """Load what every run of a worker needs, and measure where it starts and what it must reach."""
    import torch

    from workbench.models import load
    from workbench.tasks import TaskSpec, spread

    torch.set_num_threads(args.threads)
    own = {"forget": args.forget, "retain": args.retain}
    spec = TaskSpec(None if args.forget else args.task, data_dir=args.data_dir, spans=args.spans, **own)
    task = replace(spec, retain_rows=args.retain_rows).load()
    if args.unrehearsed:
        known, rehearsed = task.retain[: args.unrehearsed], task.retain[args.unrehearsed :]
        task = replace(task, sets=task.sets | {"unrehearsed": known, "retain": rehearsed})
    lm = load(args.model)
    sets = {n: spread(task.sets[n], args.limit) for n in sets_of(args.unrehearsed) if n in task.sets}
    sets["paraphrases"] = [
        replace(s, id=f"{s.id}-p", question=s.paraphrased_question or s.question,
                answer=s.paraphrased_answer or s.answer, spans=None)
        for s in sets["forget"]
    ]  # fmt: skip
    if lacking := set(args.keep.split(",")) - set(sets):
        raise SystemExit(f"--keep has {min(lacking)}, and the sets are {', '.join(sets)}; see --unrehearsed")
    never = load(args.retain_only, **lm.like())
    _loaded.update(args=args, task=task, lm=lm, sets=sets, keep=args.keep.split(","))
    _loaded["ends"] = {"before": lm, "retain_only": never}
    _loaded["before"] = strengths(lm)
    _loaded["never"] = strengths(never, ("forget", "paraphrases"))


def strengths(lm: Any, names: tuple[str, ...] | None = None, cost: Any = None) -> dict[str, float]:
    """Mean extraction strength of each set (by default all), and its mean answer probability (of the mean token)."""
    import torch

    from workbench.evals import Answer, metric
    from workbench.models import batches, count_forward, encode, token_stats

    strength, means = metric["extraction_strength"].function, {}
    for name in names or tuple(_loaded["sets"]):
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
    by_strength = _loaded["args"].by == "strength" and _loaded["before"][name] >= KNOWN
    return name if by_strength else f"{name} probability"


def miss(now: dict[str, float]) -> float:
    """By how much the goal is missed, at its worst point; at most 0 where it holds."""
    before, never = _loaded["before"], _loaded["never"]
    suffix = " probability" if _loaded["args"].by == "probability" else ""
    forget = [now[name + suffix] - never[name + suffix] - 0.05 for name in ("forget", "paraphrases")]
    measures = [measure_of(name) for name in _loaded["keep"]]
    return max(*forget, *(0.95 - now[measure] / before[measure] for measure in measures))


def settings_of(job: dict[str, Any]) -> Any:
    """The settings of a job's run."""
    from workbench.objectives import objective
    from workbench.scorers import scorer
    from workbench.unlearning import Settings, needs_of

    spec = objective[job["objective"]]
    layers = _loaded["lm"].module.config.num_hidden_layers
    half = (0, layers // 2 - 1) if job["objective"] == "rmu" else (layers // 2, layers - 1)
    train = f"layers:{half[0]}-{half[1]}" if job["train"] == "half" else job["train"]
    fixed = scorer[job["weights"]].kind != "live" and not needs_of(spec) & {"logits", "states"}
    picked = {k: job[k] for k in ("lr", "batch_size", "retain_batch", "retain_every", "skip", "seed")}
    steps = job.get("steps", _loaded["args"].steps)
    settings = Settings(steps=steps, warmup=1, record_every=10**6, record_samples=1, checkpoint_every=10**6)
    settings = settings.replace(**{k: v for k, v in spec.settings.items() if k != "lr"}, **picked, train=train)
    options = {"weights": job.get("options", {})}
    settings = settings.replace(gamma=job["gamma"], options=options, **(job.get("sparse") or {}))
    return settings if fixed else settings.replace(skip=0.0)  # which skipping cannot serve


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One run until the goal, or to its last step: where it got to and what it cost; or what attacks an end."""
    from workbench.cost import Ledger, Phase
    from workbench.errors import UserError
    from workbench.unlearning import unlearn

    args, model = _loaded["args"], _loaded["lm"].frozen_copy()
    if "attacked" in job:
        return job | attacks_on(_loaded["ends"][job["attacked"]])
    settings, attacked = settings_of(job), args.attacks and job["seed"] != TUNING_SEED
    ledger, ruler, checks, nearest = Ledger(), Phase(), [], {}

    def stop() -> bool:
        if not ledger.phases.get("optimizer"):
            return False
        step = ledger.phases["optimizer"].calls
        if step % args.every:
            return False
        cost = spent(ledger)
        now = strengths(model, cost=ruler)
        checks.append({"step": step, **now, **cost, "check_flops": ruler.flops, "miss": miss(now)})
        if attacked and checks[-1]["miss"] == min(c["miss"] for c in checks):
            trained = model.module.named_parameters()
            nearest.update({name: p.detach().clone() for name, p in trained if p.requires_grad})
        return checks[-1]["miss"] <= 0 and not job.get("to_the_end")

    try:
        run = unlearn(model, _loaded["task"], job["objective"], job["weights"], settings=settings, in_place=True,
                      ledger=ledger, stop=stop)  # fmt: skip
        if run.finished and (not checks or checks[-1]["step"] < settings.steps):
            stop()
        skipped = [round(e["skipped"], 3) for e in run.events if "skipped" in e]
    except UserError as error:
        return job | {"failed": str(error), "reached": False, "miss": 9.0}
    best = checks[-1] if job.get("to_the_end") else min(checks, key=lambda c: c["miss"])
    end = next((c for c in checks if c["miss"] <= 0 and not job.get("to_the_end")), best)
    importance = [ledger.phases[name] for name in ("scoring", "scorer") if name in ledger.phases]
    shares = {f"importance_{k}": sum(getattr(p, k) for p in importance) / end[k] for k in ("flops", "seconds")}
    row = job | end | shares | {"reached": end["miss"] <= 0, "checks": checks, "skipped": skipped}
    if attacked:
        model.module.load_state_dict(nearest, strict=False)
        row |= attacks_on(model)
    return row


def attacks_on(lm: Any) -> dict[str, Any]:
    """What the attacks get out of a model."""
    lm.module.eval().requires_grad_(False)
    return {"attacks": after_attack.attacked(lm, _loaded["ends"], _loaded["task"], _loaded["args"])}


def spent(ledger: Any) -> dict[str, float]:
    """FLOPs and seconds of all phases but the recording of scores, which is for looking at."""
    phases = [p for name, p in ledger.now().items() if name != "recording"]
    return {name: sum(getattr(p, name) for p in phases) for name in ("flops", "seconds")}


def options() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    goal_options(options)
    options.add_argument("--methods", default=",".join([*(f"{name}+uniform" for name in FULL), *WEIGHTED, "wga+spans"]))
    options.add_argument("--budget", type=int, default=8, help="settings tried for each method")
    options.add_argument("--second", type=int, default=5, help="further settings tried from each method's best")
    options.add_argument("--third", type=int, default=4, help="ways of sparse steps tried on each method's best")
    options.add_argument("--start", help="the JSON of an earlier page, whose settings replace the first two rounds")
    options.add_argument("--also", action="append", default=[], help="METHOD:NAME=VALUE,...: a further contender")
    options.add_argument("--best", type=int, default=99, help="run the seeds of so many methods of each kind only")
    options.add_argument("--fix", action="append", default=[], help="NAME=VALUE,... instead of the settings' values")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--out", help="of .md and .json, by default docs/findings/compute-TASK")
    options.add_argument("--seed-workers", type=int, help="as --workers, for the seeds' runs, whose seconds count")
    options.add_argument("--rows", help="finished rows, by default OUT.jsonl; delete the file to begin anew")
    return options


def main() -> None:
    """Tune, run, write the page; the last line is one JSON object."""
    args = options().parse_args()
    args.out = args.out or f"docs/findings/compute-{args.task.replace('/', '-')}"
    args.options = attack_options(args.set)
    for pair in args.fix:
        name, _, values = pair.partition("=")
        SPACE[name] = [type(SPACE[name][0])(value) for value in values.split(",")]
    rows = Rows(Path(args.rows or f"{args.out}.jsonl"), one, describe, goal(args))
    prepare(args)
    with Workers(args.workers, prepare, args) as workers:
        picked, tuning = tuned(args, rows, workers)
    picked += [contender(words, picked) for words in args.also]
    names = (*SETTINGS, "objective", "weights", "kind", "steps", "sparse")
    finals = [{k: row[k] for k in names if k in row} | {"seed": seed}
              for row in picked for seed in map(int, args.seeds.split(","))]  # fmt: skip
    with Workers(args.seed_workers or args.workers, prepare, args) as workers:
        ends = rows.run(workers, [{"attacked": model} for model in after_attack.ENDS if args.attacks])
        shown = rows.run(workers, finals)
    count, of_model = len(args.seeds.split(",")), {row["attacked"]: row for row in ends}
    groups = [shown[i : i + count] for i in range(0, len(shown), count)]
    cells = [cell(group, sets_of(args.unrehearsed), args.by) | {"after": after_attack.after(group, of_model)}
             for group in groups]  # fmt: skip
    cells.sort(key=lambda c: (-c["reached"], c["flops"]["mean"] if c["flops"] else c["missed_by"]))
    record = {
        **{name: each["value"] for name, each in ratios(cells).items()},
        "ratios": ratios(cells),
        "cells": cells,
        "ends": of_model,
        "tuning": tuning,
        "before": _loaded["before"],
        "kept_by": [measure_of(name) for name in _loaded["keep"]],
        "never": _loaded["never"],
        "hardware": hardware(),
    }
    Path(f"{args.out}.md").write_text(page(args, record))
    Path(f"{args.out}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: record[k] for k in (*record["ratios"], "ratios")}))


if __name__ == "__main__":
    main()
