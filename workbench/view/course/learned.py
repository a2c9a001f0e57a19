"""Exercises of notebook 05: read an ablation, and write the rule that chooses a penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.view.course.answers import as_name
from workbench.view.course.exercises import Wrong, exercise


@exercise("05.1", title="Which single change costs most?", difficulty=1, importance=4, minutes=3)
def costliest(answer: Any, *, table: pd.DataFrame) -> str:
    """The row of the ablation, of those that change one thing, with the lowest average precision."""
    single = table.drop(index=["project", "published"], errors="ignore")
    if answer == "published":
        raise Wrong("`published` changes everything at once: it cannot say which change did it")
    name = as_name(answer, single.index, "change")
    loss = (table.loc["project", "AP"] - single["AP"]).sort_values(ascending=False)
    if loss[name] >= loss.max() - 5e-4:
        return f"AP falls by {loss[name]:.2f}, and the next change costs {loss.drop(name).iloc[0]:.2f}"
    if loss[name] <= 0:
        raise Wrong("this one costs nothing: its AP is no lower than the project's")
    if name == single["spread"].idxmin():
        raise Wrong("this one has the least spread, but another change makes the order of the tokens worse")
    raise Wrong(f"it costs {loss[name]:.2f}; another change costs more")


@exercise("05.2", title="Write the one-standard-error rule", difficulty=4, importance=3, minutes=8)
def one_standard_error(answer: Any, *, penalties: Any, errors: Any) -> str:
    """A function of penalties (ascending) and errors (penalties x folds) that gives the penalty the rule chooses."""
    if not callable(answer):
        raise Wrong("give the function itself, without calling it")
    own = np.asarray(penalties, dtype=float), np.asarray(errors, dtype=float)
    source = np.random.default_rng(0)
    made = [
        (np.logspace(-3, 3, 13), base + source.normal(0, 0.05, (13, 5)) + source.normal(0, 0.2, 5))
        for base in (np.abs(np.linspace(-1, 1, 13) - place)[:, None] * 0.4 for place in (-0.6, -0.2, 0.1, 0.4) * 3)
    ]
    wrong: list[tuple[float, dict[str, float]]] = []
    for grid, held_out in [own, *made]:
        mine, truth = float(answer(grid, held_out)), rules(grid, held_out)
        if not np.isclose(mine, truth[RULE]):
            wrong.append((mine, truth))
    if not wrong:
        return f"right on your own curve (it takes {rules(*own)[RULE]:.3g}) and on twelve others"
    for rule in rules(*own):
        if all(np.isclose(mine, truth[rule]) for mine, truth in wrong):
            raise Wrong(f"on {len(wrong)} of 13 curves your function does something else: it seems to take {rule}")
    raise Wrong(f"your function chooses another penalty on {len(wrong)} of 13 curves; which of them are near enough?")


RULE = "the strongest penalty within one standard error of the least error"


def rules(penalties: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """What the rule chooses, and what rules choose that are taken for it."""
    mean, spread = errors.mean(1), errors.std(1, ddof=1)
    least, error = int(mean.argmin()), spread / errors.shape[1] ** 0.5
    near = penalties[mean <= mean[least] + error[least]]
    return {
        RULE: near.max(),
        "the penalty of the least error": penalties[least],
        "the weakest penalty within one standard error": near.min(),
        "a standard deviation for the standard error": penalties[mean <= mean[least] + spread[least]].max(),
        "the standard error of each penalty for that of the least": penalties[mean - error <= mean[least]].max(),
    }
