"""Token weights of a run: fixed from a score table, or live from a scorer that learns during the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.cost import Phase
from workbench.errors import UserError
from workbench.models import Encoding, LanguageModel, TokenStats, batches, count_forward, encode, split, token_stats
from workbench.scorers import (
    TaskContext,
    check_fits,
    checked_scores,
    load_scorer,
    score_fixed,
    score_table,
    scorer,
    weights_from,
)
from workbench.tasks import Task, spread


class Weights:
    """Token weights during a run: fixed from a score table, or live from a scorer that learns during the run.

    Attributes:
        name: the scorer's name.
        table: the score table, if the weights are fixed.
        learner: the live scorer, if they are not.
        notes: remarks on the scores, as in `TaskContext.notes`.
    """

    def __init__(self, name: str, table: pd.DataFrame | None, learner: Any, encodings: list[Encoding]) -> None:
        self.name, self.table, self.learner = name, table, learner
        notes = {} if table is None else table.attrs.get("notes")
        self.notes = {name: notes[name]} if isinstance(notes, dict) and isinstance(notes.get(name), dict) else {}
        self.fixed = None if table is None else [torch.tensor(w).float() for w in weights_from(table, encodings)]

    def of(
        self, indices: list[int], stats: TokenStats, mean: Tensor | None = None, places: list[Tensor] | None = None
    ) -> Tensor:
        """(N,) weights of a batch's answer tokens, without gradient.

        Args:
            indices: the samples, as indices into the forget set.
            stats: of these samples' answer tokens.
            mean: what relative weights are divided by: `mean_of` the whole batch, if this is a micro-batch of several.
            places: for each sample, the indices of its tokens in `stats`; None means all. For fixed weights only.
        """
        if self.fixed is not None:
            weights = [self.fixed[i] for i in indices]
            if places is not None:
                weights = [w[some] for w, some in zip(weights, places, strict=True)]
            return torch.cat(weights).to(stats.logp.device)
        scores = self.learner.scores(stats).detach()
        if not self.learner.relative:
            return scores * self.learner.factor
        return scores.clamp(min=0) / (self.mean_of(stats) if mean is None else mean)

    def mean_of(self, stats: TokenStats) -> Tensor:
        """Mean over a batch of a live scorer's scores, negative ones counted as 0."""
        return self.learner.scores(stats).detach().clamp(min=0).mean().clamp(min=1e-12)

    @property
    def confidence(self) -> dict[str, Any]:
        """How far the scores can be trusted, from a scorer that says so, in numbers and as a "line"; else empty."""
        note = self.notes.get(self.name, {}).get("confidence")
        return note if isinstance(note, dict) and "line" in note else {}


def from_file(weights: str) -> bool:
    """Whether weights are named by the file of a learned scorer."""
    return weights.endswith(".safetensors")


def is_live(weights: str) -> bool:
    """Whether weights are named by a live scorer, which learns during the run."""
    return weights in scorer and scorer[weights].kind == "live"


def one_scorer(table: pd.DataFrame) -> str:
    """The scorer of a table that may serve as weights.

    Raises:
        UserError: it is no score table, or has several scorers.
    """
    checked_scores(table, ("sample_id", "position", "token_id", "segment", "scorer", "score"))
    names = list(table["scorer"].unique())
    if len(names) != 1:
        scorers = f"{len(names)}: {', '.join(names)}" if names else "none"
        raise UserError(f"weights need a table of one scorer, and this one has {scorers}; score with one --scorer")
    return str(names[0])


def prepare_weights(
    lm: LanguageModel,
    task: Task,
    weights: str | pd.DataFrame,
    *,
    steps: int,
    seed: int,
    options: dict[str, Any],
    reference: LanguageModel | None,
    cost: Phase,
    trained: Callable[..., tuple[LanguageModel, Phase]],
    resumed: bool = False,
    start: Path | None = None,
    answers: int = 0,
) -> Weights:
    """Weights from a scorer by name (it scores now, or learns during the run), a score table, or a saved scorer.

    A saved scorer does not learn; it is applied to the states of the model as it changes. In a `resumed` run a live
    scorer's state is in the checkpoint. One named as `start` is what a live scorer goes on from: its tensors, with the
    options of this run. `answers` are all that the run will read.
    """
    encodings = [encode(lm, s) for s in task.forget]
    context = TaskContext(lm, task, reference, seed, cost=cost, trained=trained)
    if isinstance(weights, pd.DataFrame):
        table = weights.assign(step=0)  # the run records it as its first scores
        return Weights(one_scorer(weights), table, None, encodings)
    if from_file(weights):
        learner = load_scorer(Path(weights), str(lm.device))
        check_fits(learner, lm)
        learner.every = learner.pretrain = 0
        return Weights(learner.name, None, learner, encodings)
    entry = scorer[weights]
    if entry.kind == "live":
        drawn = {"seed": seed} if "seed" in entry.options and options.get("seed", -1) < 0 else {}
        learner = entry.function(lm.config.hidden_size, str(lm.device), **options | drawn)
        learner.begin(context, steps, resumed=resumed or start is not None, answers=answers)
        if start is not None:
            earlier = load_scorer(start, str(lm.device))
            check_fits(earlier, lm)
            fits = type(earlier) is type(learner) and (not learner.state or _shapes(earlier) == _shapes(learner))
            if not fits:
                raise UserError(f"{start}: a scorer of another kind than {weights} with these options; begin a new one")
            learner.go_on_from(earlier)
        return Weights(weights, None, learner, encodings)
    table = score_fixed(context, [weights], options={weights: options})
    table.attrs["notes"] = context.notes
    for sample, reason in context.notes.get(weights, {}).get("not_available", {}).items():
        raise UserError(f"no weights by {weights} for sample '{sample}': {reason}; leave the sample out")
    return Weights(weights, table, None, encodings)


def states_of(learner: Any) -> dict[str, Any]:
    """Arguments of `token_stats` for the states that a live scorer reads."""
    return {} if learner is None else {"hidden": learner.hidden, "layer": learner.layer}


def recorded_weights(scores: pd.DataFrame, weights: str | pd.DataFrame) -> str | pd.DataFrame:
    """What a resumed run uses: the recorded table of fixed weights, or the name of a live scorer."""
    if isinstance(weights, str) and (from_file(weights) or is_live(weights)):
        return weights
    return scores[(scores["scorer"] != "probability") & (scores["step"] == 0)]


@torch.no_grad()
def record_scores(
    lm: LanguageModel, task: Task, weights: Weights, step: int, batch_size: int, cost: Phase, samples: int | None = None
) -> pd.DataFrame:
    """Score rows at one step of a run: the token weights' scores, and each token's probability under the model.

    They cover the whole forget set, or `samples` of it, evenly spread.
    """
    encodings = [encode(lm, s) for s in spread(task.forget, samples)]
    empty = np.empty(0)
    live: list[np.ndarray] = [empty] * len(encodings)
    probability: list[np.ndarray] = [empty] * len(encodings)
    learner = weights.learner
    for indices, batch in batches(lm, encodings, batch_size):
        stats = token_stats(lm, batch, extras=False, **states_of(learner))
        count_forward(cost, lm, batch)
        for index, part in zip(indices, split(stats.logp.exp(), stats), strict=True):
            probability[index] = part
        if learner is not None:
            for index, part in zip(indices, split(learner.scores(stats), stats), strict=True):
                live[index] = part
    parts = [score_table(encodings, probability, task=task.name, scorer="probability", step=step)]
    if learner is not None:
        parts.append(score_table(encodings, live, task=task.name, scorer=weights.name, step=step))
    elif step == 0 and weights.table is not None:
        parts.append(weights.table)
    return pd.concat(parts, ignore_index=True)


def _shapes(learner: Any) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in learner.state.items()}
