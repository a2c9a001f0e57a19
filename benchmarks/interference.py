"""Which person hurts which, and can it be said before? Runs that forget one person each, at the same level.

    .venv/bin/python benchmarks/interference.py [--seeds 0,1,2] [--people 16] [--out DIR] [--spare]

Of biographies with 128 retain rows: each person alone is forgotten, and all rows outside the run's loss are measured.
Spearman of each predictor with the damage, over pairs of people; then the hit rates over rows: the share of the damaged
rows (at least `--nats` lost) among the first tenth by risk, for the first half of the people, on which the predictor is
chosen, and for the other half, on which it is measured. `--spare` adds every second row of the first tenth to the
retain set, or as many rows at random, and measures the other rows of the first tenth. What is in DIR is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.evals import domains, hit_rate, predictions, row_damage, row_values, token_table
from workbench.models import load
from workbench.runs import interfere
from workbench.tasks import TaskSpec

SETS = ("forget", "neighbours", "unlabelled")


def say(what: str, done: int, total: int, note: str = "") -> None:
    """Progress on standard error."""
    if what == "forget":
        print(what, done, total, note, file=sys.stderr, flush=True)


def rows_at_risk(lm: Any, people: list[Any], rows: list[Any], damage: pd.DataFrame) -> dict[str, np.ndarray]:
    """Predictor -> (I, R) risk of each row; own rows are none."""
    made = predictions(lm, [p.samples for p in people], [[s] for s in rows], rows)
    own = np.array([[s in p.samples for s in rows] for p in people])
    return {name: np.where(own, np.nan, values) for name, values in made.items()}


def rates(risk: np.ndarray, lost: np.ndarray, nats: float) -> dict[str, float]:
    """Mean over people (and seeds) of the hit rate, and of the share of the first tenth that is damaged."""
    each, precision = [], []
    for i in range(risk.shape[0]):
        known = np.isfinite(risk[i])
        for drops in lost[:, i, known]:
            damaged = drops >= nats
            each.append(hit_rate(damaged, risk[i, known]))
            precision.append(each[-1] * damaged.sum() / max(1, round(0.1 * known.sum())))
    return {"hit_rate": float(np.nanmean(each)), "of_first": float(np.nanmean(precision))}


def main() -> None:
    """Run what is missing, and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--people", type=int, default=16)
    options.add_argument("--retain-rows", type=int, default=128)
    options.add_argument("--nats", type=float, default=0.1)
    options.add_argument("--out", type=Path, default=Path("build/interference"))
    options.add_argument("--spare", action="store_true")
    args = options.parse_args()
    spec, seeds = TaskSpec("biographies", retain_rows=args.retain_rows), [int(s) for s in args.seeds.split(",")]
    named: dict[str, Any] = {"sets": SETS, "answers": 0, "progress": say}
    result = interfere(spec, "person", "bio-full", seeds=seeds, most=args.people, out=args.out, **named)
    record: dict[str, Any] = {"summary": result.summary(), "steps": result.steps.tolist()}
    record["spearman"] = {metric: result.correlations(metric) for metric in result.damage}
    print(json.dumps(record), file=sys.stderr, flush=True)

    task, lm = spec.load(), load("bio-full")
    by_name = {d.name: d for d in domains(task, "person", SETS)}
    rows = [s for d in by_name.values() for s in d.samples]
    before = row_values(token_table(lm, rows))
    runs = [args.out / name / "lost.parquet" for name in result.about["runs"]]
    drops = [row_damage(before, row_values(pd.read_parquet(file)))["logp"][[s.id for s in rows]] for file in runs]
    lost = np.stack(drops).reshape(len(seeds), len(result.forgotten), len(rows))
    people = [by_name[name] for name in result.forgotten]
    risk = rows_at_risk(lm, people, rows, before)
    half = len(people) // 2
    record["damaged_rows"] = float(np.mean(lost >= args.nats))
    record["rows"] = {
        part: {name: rates(values[chosen], lost[:, chosen], args.nats) for name, values in risk.items()}
        for part, chosen in (("chosen_on", slice(0, half)), ("measured_on", slice(half, None)))
    }
    best = max(risk, key=lambda name: record["rows"]["chosen_on"][name]["hit_rate"])
    record["best"] = best
    print(json.dumps(record), file=sys.stderr, flush=True)
    if args.spare:
        record["spare"] = spare(spec, seeds, people[half:], rows, risk[best][half:], lost[:, half:], args.out)
    print(json.dumps(record))


def spare(
    spec: TaskSpec, seeds: list[int], people: list[Any], rows: list[Any], risk: np.ndarray, lost: np.ndarray, out: Path
) -> dict[str, Any]:
    """Mean damage of the rows at risk that were not added: without more rows, with others at risk, with random ones."""
    means: dict[str, list[float]] = {"nothing": [], "at_risk": [], "random": []}
    for i, person in enumerate(people):
        order = np.argsort(-np.nan_to_num(risk[i], nan=-np.inf), kind="stable")[: round(0.1 * len(rows))]
        added, watched = order[::2], order[1::2]
        others = np.setdiff1d(np.flatnonzero(np.isfinite(risk[i])), order)
        draw = np.random.default_rng(i).choice(others, len(added), replace=False)
        means["nothing"] += lost[:, i, watched].mean(axis=1).tolist()
        for arm, places in (("at_risk", added), ("random", draw)):
            kept = replace(spec, keep=tuple(rows[place].id for place in places))
            means[arm] += _watched(kept, seeds, person.name, {rows[place].id for place in watched}, out)
    return {arm: {"mean": float(np.mean(v)), "each": v} for arm, v in means.items()}


def _watched(spec: TaskSpec, seeds: list[int], person: str, watched: set[str], out: Path) -> list[float]:
    """Mean drop of these rows after each seed's run that forgets a person."""
    from workbench.runs.interference import LEVEL, LOST, configured, directory_of, run_one, tokens_after

    spec = replace(spec, only=("person", person))
    task, values, lm = spec.load(), [], load("bio-full")
    config = configured(spec, "bio-full", "wga", "uniform", [], LEVEL)
    samples = [s for sets in task.sets.values() for s in sets if s.id in watched]
    before = row_values(token_table(lm, samples))
    for seed in seeds:
        only = replace(spec, sets=("forget", "retain"))
        one = config.replace(task=only, settings=config.settings.replace(seed=seed))
        run = run_one(one, directory_of(one, person, out), None)
        after = row_values(tokens_after(run, samples, run.path / f"watched-{LOST}"))
        values.append(float(row_damage(before, after)["logp"].mean()))
    return values


if __name__ == "__main__":
    main()
