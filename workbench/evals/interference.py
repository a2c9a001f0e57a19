"""Interference between domains: what forgetting one does to the others, beside what was predicted. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError, check_known, unknown
from workbench.tasks import Sample, Task, fields_of

DAMAGES = {
    "logp": "drop in log-probability of the fact's tokens, nats",
    "accuracy": "share of the facts that were known before and are not the first choice any more",
}
PREDICTORS = {
    "gradient": "gradients",
    "names": "shared names",
    "words": "shared rare words",
    "states": "hidden states",
    "syntax": "syntax",
}
MEASURED = ("forget", "neighbours")  # sets whose domains are measured
FIRST = 0.1  # share of the rows that come first, of which a hit rate is


@dataclass(frozen=True)
class Domain:
    """Rows of a set with one value of a field; a value that is a number has the field in its name: "author 199"."""

    probe_set: str
    name: str
    value: str
    samples: tuple[Sample, ...] = field(repr=False)


def domains(task: Task, by: str, sets: Sequence[str] = MEASURED) -> list[Domain]:
    """The groups of a task's rows by a field, set by set; a set whose rows do not have the field has none.

    Of two sets, a domain has the other set's name with its own where they would be called the same.

    Raises:
        UserError: no forget row has the field, or all of them have the same value.
    """
    for name in sets:
        check_known("set", name, task.sets)
    known = fields_of(task.forget)
    if by not in known:
        raise unknown("field of the forget rows", by, known) if known else UserError("the rows have no field to go by")
    made: dict[str, Domain] = {}
    for name in sets:
        groups: dict[str, list[Sample]] = {}
        for sample in task.sets[name]:
            if (value := sample.get(by)) is not None:
                groups.setdefault(value, []).append(sample)
        for value, samples in groups.items():
            label = f"{by} {value}" if value.isdigit() else value
            label += f" ({name})" * (label in made)
            made[label] = Domain(name, label, value, tuple(samples))
    if sum(domain.probe_set == "forget" for domain in made.values()) < 2:
        raise UserError(f"all forget rows have the same {by}; take another of {', '.join(known)}")
    return list(made.values())


def row_values(tokens: pd.DataFrame) -> pd.DataFrame:
    """By answer (`sample_id`): the mean log p of its fact's tokens, and whether all of them are the first choice.

    An answer of the token table that has no labels counts with all its tokens.
    """
    span = tokens["span"].fillna(False).astype(bool)
    labelled = span.groupby(tokens["sample_id"]).transform("any")
    facts = tokens[span | ~labelled]
    groups = facts.assign(known=facts["rank"] == 0).groupby("sample_id", sort=False)
    return pd.DataFrame({"logp": groups["logp"].mean(), "accuracy": groups["known"].all().astype(float)})


def row_damage(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What was lost of each answer: `row_values` before, less those after; accuracy is NaN where it was not known."""
    lost = before - after.loc[before.index]
    return lost.assign(accuracy=lost["accuracy"].clip(lower=0).where(before["accuracy"] == 1))


def spearman(damage: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation over the entries that both have; NaN for fewer than three, or without any order."""
    from scipy.stats import spearmanr

    both = np.isfinite(damage) & np.isfinite(predicted)
    x, y = damage[both], predicted[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(spearmanr(x, y).statistic)


def hit_rate(damaged: np.ndarray, risk: np.ndarray, first: float = FIRST) -> float:
    """The share of the damaged rows that are among the `first` tenth by risk; ties share their places, as by chance.

    `damaged` says of each row (R,) whether it is; the higher its `risk` (R,), the sooner it comes. By chance it is the
    tenth itself. NaN where no row is damaged.
    """
    damaged = np.asarray(damaged, dtype=bool)
    if not damaged.any():
        return float("nan")
    places = max(1, round(first * len(risk)))
    edge = np.sort(risk)[::-1][places - 1]
    above, tied = risk > edge, risk == edge
    share = (places - above.sum()) / tied.sum()
    return float((damaged[above].sum() + share * damaged[tied].sum()) / damaged.sum())


@dataclass(frozen=True)
class Interference:
    """Domains i x j: what forgetting i did to j, for S seeds, I forgotten and J measured domains.

    Attributes:
        task: its name.
        model: its name.
        by: the field that makes the domains.
        forgotten: I names.
        measured: J names, those of `forgotten` among them.
        sets: J names of the sets that they are of.
        seeds: S of them.
        damage: metric -> (S, I, J), positive where something was lost; where i is j, what was forgotten.
        predicted: predictor -> (I, J).
        reached: (S, I) whether the run reached the level of forgetting.
        steps: (S, I) at which it ended.
        about: what the runs have in common (objective, weights, level), and what it cost.
        tokens: score tables, a domain that was forgotten (column `forgotten`) after the other: see `tokens_of`. Empty
            where there are none.
        texts: id -> (question, answer, domain) of these answers.
    """

    task: str
    model: str
    by: str
    forgotten: list[str]
    measured: list[str]
    sets: list[str]
    seeds: list[int]
    damage: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    reached: np.ndarray
    steps: np.ndarray
    about: dict[str, Any]
    tokens: pd.DataFrame = field(repr=False)
    texts: dict[str, tuple[str, str, str]] = field(repr=False)

    def mean(self, metric: str = "logp") -> np.ndarray:
        """(I, J) mean damage over the seeds."""
        return np.asarray(self.damage[self._metric(metric)].mean(axis=0))

    def others(self) -> np.ndarray:
        """(I, J) whether j is another domain than i."""
        return np.array([[i != j for j in self.measured] for i in self.forgotten])

    def correlations(self, metric: str = "logp") -> dict[str, dict[str, Any]]:
        """Predictor -> Spearman's correlation with the damage over all pairs: `mean`, `low`, `high`, and all `seeds`.

        NaN where all pairs are damaged, or predicted, alike.
        """
        found, others = {}, self.others()
        for name, values in self.predicted.items():
            each = [spearman(one[others], values[others]) for one in self.damage[self._metric(metric)]]
            found[name] = {"mean": float(np.mean(each)), "low": min(each), "high": max(each), "seeds": each}
        return found

    def best(self, metric: str = "logp") -> str:
        """The predictor whose correlation is highest."""
        values = self.correlations(metric)
        return max(values, key=lambda name: -2.0 if np.isnan(values[name]["mean"]) else values[name]["mean"])

    def pairs(self, metric: str = "logp", count: int | None = None) -> list[tuple[str, str]]:
        """(forgotten, measured) domains, the most damaged first."""
        mean = self.mean(metric)
        places = [(i, j) for i, j in np.argwhere(self.others()) if np.isfinite(mean[i, j])]
        places.sort(key=lambda place: -mean[place])
        return [(self.forgotten[i], self.measured[j]) for i, j in places[:count]]

    def tokens_of(self, i: str, j: str) -> pd.DataFrame:
        """The score table of answers of j: what carries the damage when i is forgotten. Empty where there is none.

        Its scorer `conflict` is, before any run, the rate at which a token's loss rises as i is forgotten
        (`conflicts`); `lost` is the log-probability that it did lose, the mean over the seeds, in nats.
        """
        if self.tokens.empty:
            return self.tokens
        ids = [name for name, (*_, domain) in self.texts.items() if domain == j]
        chosen = (self.tokens["forgotten"] == i) & self.tokens["sample_id"].isin(ids)
        return self.tokens[chosen].drop(columns="forgotten").reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """A row a seed and pair of domains: damage by each metric, each prediction, whether the level was reached."""
        rows = []
        for s, seed in enumerate(self.seeds):
            for i, forgotten in enumerate(self.forgotten):
                for j, measured in enumerate(self.measured):
                    row: dict[str, Any] = {"seed": seed, "forgotten": forgotten, "measured": measured}
                    row |= {"set": self.sets[j], "reached": bool(self.reached[s, i]), "steps": int(self.steps[s, i])}
                    row |= {f"damage_{name}": float(values[s, i, j]) for name, values in self.damage.items()}
                    rows.append(row | {name: float(values[i, j]) for name, values in self.predicted.items()})
        return pd.DataFrame(rows)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the tokens, as JSON takes it; what has no value is null."""
        plain = {name: getattr(self, name) for name in NAMES}
        plain |= {"reached": self.reached.tolist(), "steps": self.steps.tolist()} | self.about
        plain["damage"] = {name: nulls(values) for name, values in self.damage.items()}
        plain["predicted"] = {name: nulls(values) for name, values in self.predicted.items()}
        plain["spearman"] = {
            metric: {name: {key: nulls(value) for key, value in values.items()} for name, values in found.items()}
            for metric in self.damage
            for found in [self.correlations(metric)]
        }
        return plain | {"summary": self.summary()}

    def summary(self, metric: str = "logp") -> list[str]:
        """In words: who is hurt most, how well it was predicted, and which runs did not get to the level."""
        lines = []
        if pairs := self.pairs(metric, 1):
            (i, j), mean = pairs[0], self.mean(metric)
            worst = mean[self.forgotten.index(i), self.measured.index(j)]
            most = f"Forgetting {i} hurts {j} most: {written(worst, metric)}."
            lines.append(most if not worst <= 0 else "No domain is hurt by forgetting another.")
        values = {n: v for n, v in self.correlations(metric).items() if not np.isnan(v["mean"])}
        told = [f"{PREDICTORS[n]} {in_range(v)}" for n, v in values.items()]
        if told:
            lines.append(f"Spearman with the damage, {int(self.others().sum())} pairs: {', '.join(told)}.")
        if missed := int((~self.reached).sum()):
            lines.append(f"{missed} of {self.reached.size} runs ended before the level {self.about.get('level', '')}.")
        return lines

    def _metric(self, metric: str) -> str:
        check_known("metric of damage", metric, self.damage)
        return metric


def written(value: float, metric: str) -> str:
    """A damage in words."""
    if np.isnan(value):
        return "none was known"
    return f"{value:.2f} nats" if metric == "logp" else f"{100 * value:.0f} % of its facts"


def in_range(value: Mapping[str, Any]) -> str:
    """A correlation in words, with its range where there are several seeds."""
    mean, low, high = (f"{round(value[end], 2) + 0.0:.2f}" for end in ("mean", "low", "high"))  # minus zero is zero
    of_seeds = f" ({low} to {high})" if len(value["seeds"]) > 1 else ""
    return f"{mean}{of_seeds}" if np.isfinite(value["mean"]) else "no order"


def nulls(values: Any) -> Any:
    """Lists of numbers as JSON takes them: null for NaN."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(values, list):
        return [nulls(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values


def interference_from(record: Mapping[str, Any], tokens: pd.DataFrame, texts: Mapping[str, Any]) -> Interference:
    """What `as_dict` wrote, with its tokens and texts; KeyError, ValueError or TypeError where it is not that."""
    array = functools.partial(np.array, dtype=float)  # null becomes NaN
    names = {name: record[name] for name in NAMES}
    about = {name: record[name] for name in ABOUT if name in record}
    seeds, pairs = len(names["seeds"]), (len(names["forgotten"]), len(names["measured"]))
    shapes: list[tuple[tuple[int, ...], Any]] = [((seeds, *pairs), values) for values in record["damage"].values()]
    shapes += [(pairs, values) for values in record["predicted"].values()]
    shapes += [((seeds, pairs[0]), record[name]) for name in ("reached", "steps")]
    if any(array(values).shape != shape for shape, values in shapes) or len(names["sets"]) != pairs[1]:
        raise ValueError("its numbers are not one for each seed and pair of domains")
    known = {*record["damage"]} == {*DAMAGES} and record["predicted"] and {*record["predicted"]} <= {*PREDICTORS}
    if not known or not {*names["forgotten"]} <= {*names["measured"]}:
        raise ValueError("its domains, damages or predictions are not there")
    return Interference(
        **names,
        damage={name: array(values) for name, values in record["damage"].items()},
        predicted={name: array(values) for name, values in record["predicted"].items()},
        reached=np.array(record["reached"], dtype=bool),
        steps=np.array(record["steps"], dtype=int),
        about=about,
        tokens=tokens,
        texts={name: (str(q), str(a), str(d)) for name, (q, a, d) in texts.items()},
    )


NAMES = ("task", "model", "by", "forgotten", "measured", "sets", "seeds")
ABOUT = ("objective", "weights", "level", "settings", "cost", "runs")
