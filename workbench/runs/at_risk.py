"""Before a run: the rows to be kept that it is most likely to hurt, and a task that rehearses them, too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from workbench.cost import Phase
from workbench.errors import UserError, check_known
from workbench.evals import PREDICTORS
from workbench.progress import Progress, silent
from workbench.tasks import Task, TaskSpec
from workbench.unlearning import Settings

KEPT_SETS = ("retain", "neighbours", "unlabelled", "others")  # whose rows a run should leave as they are
BEST = "names"
# By predictor, the share of the damaged rows that were among the first tenth: docs/findings/2026-11-28-interference.md.
HIT_RATES = {"names": 0.84, "words": 0.63, "gradient": 0.52, "states": 0.42, "syntax": 0.27}


@dataclass(frozen=True)
class AtRisk:
    """Rows to be kept, those most at risk first.

    Attributes:
        task: what names the task; None where it was given as a `Task`.
        predictor: by which they are ranked.
        rows: a row each: sample_id, set, question, answer, risk, and whether the run rehearses it.
    """

    task: TaskSpec | None
    predictor: str
    rows: pd.DataFrame

    @property
    def note(self) -> str:
        """How good the ranking was where it was measured."""
        share = f"{100 * HIT_RATES[self.predictor]:.0f} %"
        return f"{share} of the rows that were damaged were among its first tenth (eight people, three seeds)"

    def first(self, count: int) -> list[str]:
        """The ids of the first rows that the run would not rehearse, at most `count`."""
        return list(self.rows.loc[~self.rows["rehearsed"], "sample_id"][:count])

    def spec(self, count: int) -> TaskSpec:
        """The task with these rows in its retain set; UserError where it was given as a `Task`, which nothing names."""
        if self.task is None:
            raise UserError("name the task, or give a TaskSpec, so that rows can be added to its retain set")
        return replace(self.task, keep=tuple(dict.fromkeys((*self.task.keep, *self.first(count)))))

    def to_frame(self) -> pd.DataFrame:
        """A copy of `rows`."""
        return self.rows.copy()

    def _repr_html_(self) -> str:
        return str(self.rows.head(20).to_html(escape=True, index=False, max_rows=20))


def at_risk(
    task: str | TaskSpec | Task,
    model: Any = None,
    *,
    predictor: str = BEST,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> AtRisk:
    """The rows to be kept that forgetting the task's forget set is most likely to hurt.

    Args:
        task: by name, as a `TaskSpec`, or loaded.
        model: as `models.load` takes it, or loaded; `gradient` and `states` need it.
        predictor: "names" or "words" (shared names, or rare words), "gradient", "states" or "syntax"; see
            `predictions`.
        settings: of the run; they say which parameters it trains.
        progress: called with "predict", rows done and their number.

    Raises:
        UserError: no such predictor or task; or it needs a model.
    """
    check_known("predictor", predictor, PREDICTORS)
    spec = TaskSpec(task) if isinstance(task, str) else task if isinstance(task, TaskSpec) else None
    loaded = task if isinstance(task, Task) else (spec or TaskSpec()).load()
    samples = [(name, s) for name in KEPT_SETS for s in loaded.sets.get(name, [])]
    if not samples:
        raise UserError(f"task '{loaded.name}' has no rows to keep")
    lm: Any = None
    if predictor not in ("names", "words", "syntax"):  # these read the text alone
        if model is None:
            raise UserError(f"{predictor} needs the model: at_risk(task, model, ...)")
        from workbench.runs.loading import loaded_model

        lm = loaded_model(model)
    from workbench.evals import predictions

    risk = predictions(
        lm, [loaded.forget], [[s] for _, s in samples], [*loaded.forget, *(s for _, s in samples)],
        which=[predictor], settings=settings, cost=Phase(), progress=progress,
    )[predictor][0]  # fmt: skip
    rows = pd.DataFrame(
        {"sample_id": s.id, "set": name, "question": s.question, "answer": s.answer, "risk": value}
        | {"rehearsed": name == "retain"}
        for (name, s), value in zip(samples, risk, strict=True)
    )
    return AtRisk(spec, predictor, rows.sort_values("risk", ascending=False, kind="stable", ignore_index=True))
