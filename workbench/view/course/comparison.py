"""Exercises of notebook 02: read a table of a test, turn one scorer into another, write a scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import is_missing
from workbench.view.course.answers import as_names, results, same
from workbench.view.course.exercises import Wrong, exercise
from workbench.view.course.importance import answer_rows


@exercise("02.1", title="Turn one scorer into another", difficulty=2, importance=2, minutes=3)
def to_surprisal(answer: Any, *, scores: pd.DataFrame) -> str:
    """A function from the score that `wga` gives a token (its probability) to what `surprisal` gives it."""
    p = np.unique(np.exp(-answer_rows(scores, "surprisal")["score"].to_numpy(float)))
    p = p[(p > 0) & (p < 1)][:: max(1, len(p) // 200)]
    hints = {
        "this falls as surprisal rises: the sign is the other way round": np.log(p),
        "the order is right and the values are not: 1 - p is near surprisal only where p is near 1": 1 - p,
        "the base of this logarithm is 2: that is in bits, and surprisal is in nats": -np.log2(p),
        "the base of this logarithm is 10: surprisal is in nats": -np.log10(p),
        "this goes the other way, from surprisal to the probability": np.exp(-p),
    }
    same(results(answer, [(x,) for x in p]), -np.log(p), [f"p = {x:.3g}" for x in p], hints)
    return "the two order the tokens in exactly opposite ways"


@exercise("02.2", title="Which scorers does chance beat?", difficulty=1, importance=4, minutes=3)
def beaten_by_chance(answer: Any, *, masked: Any) -> str:
    """The scorers whose comprehensiveness is lower than that of `random`."""
    tests = ("comprehensiveness", "sufficiency")
    values = {test: {n: v[test] for n, v in masked.items() if not is_missing(v[test])} for test in tests}
    names = as_names(answer, masked, "scorer")
    lower = {test: {name for name, value in own.items() if value < own["random"]} for test, own in values.items()}
    truth = lower["comprehensiveness"]
    if names == truth:
        return f"{len(truth)} of {len(values['comprehensiveness']) - 1} scorers find less than chance does"
    if names == lower["sufficiency"]:
        raise Wrong("these are lower in sufficiency; the question is about comprehensiveness")
    if names == set(values["comprehensiveness"]) - truth - {"random"}:
        raise Wrong("these are the scorers that beat chance; the question is about the others")
    if "random" in names:
        raise Wrong("`random` is what the others are compared with: it does not beat itself")
    surplus, lacking = len(names - truth), len(truth - names)
    raise Wrong(f"{surplus} of these do better than `random`, and {lacking} that do worse are missing")


@exercise("02.3", title="Write a scorer", difficulty=3, importance=5, minutes=10)
def doubt(answer: Any, *, scores: pd.DataFrame) -> str:
    """A score table of the learner's scorer: p (1 - p) of each answer token."""
    if not isinstance(answer, pd.DataFrame) or not {"score", "position", "scorer"} <= set(answer):
        raise Wrong("give the table that `wb.score_task(model, task, ['doubt'])` returns")
    if (count := answer["scorer"].nunique()) != 1:
        raise Wrong(f"give the scores of your scorer alone: this table has {count}")
    key = ["sample_id", "position"]
    known = answer_rows(scores, "surprisal").set_index(key)["score"]
    mine = answer[answer["segment"] == "answer"].drop_duplicates(key).set_index(key)["score"].reindex(known.index)
    if mine.isna().all():
        raise Wrong("the table is not of these answers: score the same task with the same model")
    p = np.exp(-known.to_numpy(float))
    hints = {
        "this is p, which is highest where the model is sure": p,
        "this is 1 - p, which is highest where the model is surely wrong": 1 - p,
        "this is surprisal: it has no upper bound, and your score is to be 0.25 at most": known.to_numpy(float),
        "this is -p log p: of the same shape, but with another highest point": -p * np.log(p),
        "this is log p times something: take the probability, exp of it": (1 - p) * np.log(p),
    }
    same(mine.to_numpy(float), p * (1 - p), [f"p = {x:.3g}" for x in p], hints)
    spans = answer_rows(scores, "surprisal")["span"].eq(True).to_numpy()
    return f"on average a labelled token has {mine[spans].mean():.3f} and any other {mine[~spans].mean():.3f}"
