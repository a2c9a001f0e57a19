"""What the checks of exercises read, in small: tables, runs and results as a learner has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from workbench.evals import Interference, Retention
from workbench.runs import Config
from workbench.tasks import TaskSpec
from workbench.view.course import faulty


def scores_of(scorers: dict[str, list[float]], spans: list[int]) -> pd.DataFrame:
    """A score table of two answers of equal length."""
    count, rows = len(spans) // 2, []
    for scorer, values in scorers.items():
        for place, value in enumerate(values):
            sample, position = divmod(place, count)
            row = {"sample_id": f"s{sample}", "position": position, "segment": "answer", "scorer": scorer, "step": 0}
            rows.append(row | {"score": value, "span": bool(spans[place]), "start": position, "end": position + 1})
    return pd.DataFrame(rows).astype({"span": "boolean"})


P = np.array([0.99, 0.9, 0.2, 0.6, 0.97, 0.5, 0.05, 0.8])
SPECIFIC = [0.1, 0.2, 0.9, 0.3, 0.4, 0.8, 0.7, 0.0]
SCORES = scores_of({"surprisal": list(-np.log(P)), "specificity": SPECIFIC}, [0, 0, 1, 0, 0, 1, 1, 0])


def probed(facts: list[float], sets: list[str]) -> SimpleNamespace:
    return SimpleNamespace(rows=pd.DataFrame({"probe_set": sets, "fact_accuracy": facts}))


SETS = ["forget"] * 4 + ["retain"] * 2
PHASES = {"forward": (100, 3.0), "backward": (200, 4.0), "probes": (50, 3.0)}
LEDGER = {"phases": {name: {"flops": flops, "seconds": seconds} for name, (flops, seconds) in PHASES.items()}}
MASKED = {
    "random": {"comprehensiveness": 0.5, "sufficiency": 1.5},
    "surprisal": {"comprehensiveness": 0.2, "sufficiency": 1.9},
    "gap": {"comprehensiveness": 0.4, "sufficiency": 1.1},
    "saliency": {"comprehensiveness": 0.9, "sufficiency": 1.2},
    "uniform": {name: {"value": None, "reason": "all alike"} for name in ("comprehensiveness", "sufficiency")},
}
LEFT = pd.DataFrame(
    {
        "probe_set": ["forget"] * 4 + ["retain"] * 3,
        "left": [0.95, 0.02, 0.6, 1.0, 1.0, 0.99, 0.3],
        "p_after": [0.93, 0.01, 0.5, 0.7, 0.9, 0.95, 0.2],
        "still remembered": [True, False, True, True, False, False, False],
    }
)
SURPRISAL = np.array([0.001, 0.01, 0.3, 1.0, 4.0])
DAMAGE = pd.DataFrame({"answers": [100, 50, 10], "damaged": [2, 6, 3], "larger_steps": [7, 9, 5]}, index=[0, 1, 2])
ABLATION = pd.DataFrame(
    {"AUROC": [0.9, 0.89, 0.6, 0.4, 0.5], "AP": [0.8, 0.8, 0.5, 0.3, 0.2], "spread": [0.2, 0.2, 0.15, 0.1, 0.01]},
    index=["project", "objective B", "entropy term", "l in nats", "published"],
)
GRID = np.logspace(-2, 2, 5)
ERRORS = np.array([[1.2, 1.4, 1.3], [1.0, 1.2, 1.1], [0.9, 1.3, 1.0], [1.1, 1.2, 1.15], [2.0, 2.1, 2.2]])
ATTACKS = {
    name: {"run": run, "retain_only": floor, "before": 0.9, "comes_back": back, "parts": {"before": {"alone": alone}}}
    for name, run, floor, back, alone in [
        ("leak_at_k", 0.3, 0.2, 0.14, 0.9),
        ("alias", 0.05, 0.04, 0.01, 0.02),
        ("opening", 0.04, 0.04, 0.0, 0.5),
        ("relearning", 0.6, 0.2, 0.57, None),
    ]
}

ASKED = ("first", "second", "third", "last")
MATRIX = np.array(  # most is left of the first at the end, most has come back of the second, most is spilt on the third
    [
        [1.0, 0.9, 0.95, 0.9, 1.0, 0.9],
        [0.5, 0.9, 0.8, 0.9, 0.9, 0.9],
        [0.6, 0.1, 0.7, 0.8, 0.9, 0.8],
        [0.5, 0.2, 0.2, 0.8, 0.8, 0.8],
        [0.6, 0.4, 0.3, 0.1, 0.7, 0.8],
    ]
)
RETENTION = Retention("probability", ASKED, ("retain", "neighbours"), (0,), MATRIX[None])
PEOPLE = ["Celia Nash", "Hugo Abel", "Nils Nash", "Celia Imre", "Rosa Abel", "Orla Sorel"]
HURT = Interference(
    "biographies", "bio-full", "person", PEOPLE[:2], PEOPLE, ["forget"] * 6, [0, 1],
    {"logp": np.array([[[8, 0.1, 0.4, 0.2, 0.0, 0.3], [0.2, 7, 0.0, 0.1, 0.6, 0.0]],
                       [[8, 0.1, 0.2, 0.4, 0.2, 0.1], [0.3, 7, 0.0, 0.1, 0.4, 0.0]]])},
    {"names": np.array([[1, 0, 0.5, 0.5, 0, 0], [0, 1, 0, 0, 0.5, 0]]),
     "syntax": np.array([[1, 0.2, 0.9, 0.1, 0.1, 0.8], [0.2, 1, 0.9, 0.1, 0.1, 0.8]])},
    np.ones((2, 2), dtype=bool), np.full((2, 2), 4), {}, pd.DataFrame(), {},
)  # fmt: skip
GOOD = Config(task=TaskSpec("biographies"), model="bio-full", objective="wga", weights="surprisal")
RUNS = {"good": GOOD, "alpha": faulty(GOOD, 0), "lr": faulty(GOOD, 1)}


class RunNamed(str):
    """A run of `RUNS` by its name, in the place of its directory, which a test makes."""


def measured_tokens() -> pd.DataFrame:
    """The tokens of a run that lowered the first of one answer most, and raised the last."""
    fixed = {"sample_id": "a", "probe_set": "forget", "token": "t", "rank": 0, "segment": "answer", "entropy": 0.0}
    rows = [
        fixed
        | {"position": i, "token_id": i, "start": i, "end": i + 1, "phase": phase, "span": i < 3, "logp": np.log(p)}
        for phase, last in (("before", 0), ("after", 1))
        for i, p in enumerate(np.linspace(0.99, 0.9, 30) - last * np.linspace(0.85, -0.05, 30))
    ]
    return pd.DataFrame(rows)
