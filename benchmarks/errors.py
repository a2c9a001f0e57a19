"""Why some answers are not forgotten and others damaged, on biographies: two patterns, and an experiment on each.

    python benchmarks/errors.py [--seeds 0,1,2] [--probe-limit 192]

Weighted gradient ascent with surprisal weights. *Sure*: of the forget answers in each quarter of the surprisal that
their fact had before the run, how many are still remembered; and the same with larger steps. *Names*: of the answers to
keep whose question shares none, one or two names with people to forget, how many are damaged; and, when only every
other person is forgotten, of those who share a name with that half, with the other half only, with nobody. *Heavy*: the
answer that was surest among those remembered, with thirty times its weight. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

import workbench as wb
from workbench.evals import outcomes
from workbench.tasks import Sample
from workbench.unlearning import unlearn

SETTINGS = wb.Settings(steps=60, batch_size=32, lr=3e-4, alpha=2.0)
LARGER = SETTINGS.replace(steps=50, lr=1e-3, alpha=4.0)


def person(sample_id: str) -> tuple[str, str]:
    """First name and surname."""
    first, surname = sample_id.split("-")[:2]
    return first, surname


def shared(sample_id: str, people: Iterable[tuple[str, str]]) -> int:
    """How many of a person's two names belong to some of the people too."""
    first, surname = person(sample_id)
    return (first in {f for f, _ in people}) + (surname in {s for _, s in people})


def parted(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answers to forget, and those to keep."""
    return rows[rows["probe_set"] == "forget"], rows[rows["probe_set"].isin(["retain", "neighbours"])]


class Study:
    """The model, its probes before, and what runs on it came to."""

    def __init__(self, limit: int) -> None:
        self.task, self.model, self.limit = wb.TaskSpec("biographies").load(), wb.load("bio-full"), limit
        self.before = wb.probe(self.model, self.task, limit=limit).rows
        self.scores = wb.score_task(self.model, self.task, ["surprisal"])
        self.sure = self.scores[self.scores["span"].eq(True)].groupby("sample_id")["score"].max()
        self.people = sorted({person(s.id) for s in self.task.forget})
        self.counts: list[dict[str, object]] = []

    def run(
        self, settings: wb.Settings, forget: list[Sample] | None = None, weights: str | pd.DataFrame = "surprisal"
    ) -> pd.DataFrame:
        """What became of every probed answer."""
        task = replace(self.task, sets={**self.task.sets, "forget": forget or self.task.forget})
        done = unlearn(self.model, task, "wga", weights, settings=settings)
        after = wb.probe(done.lm, self.task, phase="after", limit=self.limit).rows
        return outcomes(pd.concat([self.before, after])).set_index("sample_id")

    def count(self, part: str, seed: int, held: pd.Series, group: Iterable[object]) -> None:
        """How often a rule held in each group; `group` has a name an answer."""
        for name, values in held.astype(bool).groupby(pd.Series(list(group), held.index)):
            self.counts.append(
                {"part": part, "seed": seed, "group": name, "of": len(values), "held": int(values.sum())}
            )

    def seed(self, seed: int) -> None:
        """All parts with one seed."""
        rows = {"small steps": self.run(SETTINGS.replace(seed=seed)), "larger": self.run(LARGER.replace(seed=seed))}
        for name, each in rows.items():
            forget, kept = parted(each)
            quarter = pd.qcut(self.sure.loc[forget.index], 4, labels=["1 surest", "2", "3", "4 least sure"])
            self.count(f"remembered, {name}", seed, forget["still remembered"], quarter)
            self.count(f"damaged, {name}", seed, kept["damaged"], [shared(i, self.people) for i in kept.index])
        for half in (0, 1):
            mine, other = self.people[half::2], self.people[1 - half :: 2]
            half_forgotten = [s for s in self.task.forget if person(s.id) in mine]
            _, kept = parted(self.run(LARGER.replace(seed=seed), half_forgotten))
            group = ["mine" if shared(i, mine) else "other" if shared(i, other) else "none" for i in kept.index]
            self.count("damaged, half forgotten", seed, kept["damaged"], group)
        forget, _ = parted(rows["small steps"])
        case = self.sure.loc[forget.index[forget["still remembered"]]].idxmin()
        times = self.scores["sample_id"].eq(case).map({True: 30.0, False: 1.0})
        heavy = self.run(SETTINGS.replace(seed=seed), weights=self.scores.assign(score=self.scores["score"] * times))
        self.count("remembered, 30 x its weight", seed, heavy.loc[[case], "still remembered"], ["surest that stayed"])


def main() -> None:
    """Every seed, then the sums."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seeds", default="0,1,2")
    ask.add_argument("--probe-limit", type=int, default=192)
    args = ask.parse_args()
    study = Study(args.probe_limit)
    for seed in map(int, args.seeds.split(",")):
        study.seed(seed)
    table = pd.DataFrame(study.counts)
    total = table.groupby(["part", "group"], sort=False)[["held", "of"]].sum()
    total["share"] = (total["held"] / total["of"]).round(3)
    seeds = table.pivot_table(index=["part", "group"], columns="seed", values="held", aggfunc="sum", sort=False)
    print(total.join(seeds).to_string())
    print(json.dumps({"counts": study.counts}))


if __name__ == "__main__":
    main()
