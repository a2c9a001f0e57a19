"""One text that a person types: its token scores, and what the model expected instead, from one pass where it can."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from workbench.cost import Phase
from workbench.errors import UserError
from workbench.evals.answers import alternatives_of
from workbench.evals.streaming import interruptible
from workbench.models import LanguageModel, TokenStats, collate, encode, exclusive, split, token_columns, token_stats
from workbench.scorers import BatchContext, TaskContext, check_fits, check_reference, score_fixed, score_table, scorer
from workbench.tasks import Sample, Task


@dataclass(frozen=True)
class Scored:
    """A text's score table, and its token table (see `token_table`) without a first token that nothing predicts."""

    scores: pd.DataFrame
    tokens: pd.DataFrame


def offered(*, reference: bool) -> dict[str, bool]:
    """The scorers that need a text and a model only (or also a reference model), and whether each takes many passes."""
    have = {"reference"} if reference else set()
    kinds = {name: scorer[name] for name in scorer if set(scorer[name].needs) <= have}
    usable = {
        name: spec for name, spec in kinds.items() if spec.source != "control" and spec.kind in ("batch", "input")
    }
    return {name: spec.kind == "input" for name, spec in sorted(usable.items(), key=lambda each: each[1].kind)}


def score_typed(
    lm: LanguageModel,
    sample: Sample,
    name: str,
    *,
    reference: LanguageModel | None = None,
    learned: Any = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Scored:
    """Scores of one text's answer tokens by one scorer that is `offered`, or by `learned`, as `load_scorer` gives it.

    A sample without a question is plain text; the reference is for scorers that compare with a second model. `stopped`
    is asked at every layer; once it is true the pass ends with `Stopped`.

    Raises:
        UserError: no such scorer here, the text does not fit the model's context, or it has no score and why.
    """
    mine = learned is not None and name == learned.name
    if not mine:
        check_reference(lm, reference, [name])
        if name not in offered(reference=reference is not None):
            raise UserError(f"scorer '{name}' needs more than one text, such as a retain set; score a task with it")
    with interruptible(lm, stopped), torch.no_grad():
        encoding = encode(lm, sample)
        batch = collate(lm, [encoding])
        if mine:
            check_fits(learned, lm)
            stats = token_stats(lm, batch, top_k=5, hidden=learned.hidden, layer=learned.layer)
            values = learned.scores(stats)
        else:
            stats = token_stats(lm, batch, top_k=5)
            if scorer[name].kind == "input":
                return Scored(_of_many_passes(lm, sample, name), _tokens(lm, encoding, stats))
            scoring = BatchContext(lm, batch, reference, 0, Phase())
            scoring.stats = stats
            values = scorer[name].function(scoring)
        scores = score_table([encoding], split(values, stats), task="", scorer=name, step=0)
        return Scored(scores, _tokens(lm, encoding, stats))


def _tokens(lm: LanguageModel, encoding: Any, stats: TokenStats) -> pd.DataFrame:
    table = pd.DataFrame(token_columns([encoding], unpredicted=False))
    columns = {name: split(getattr(stats, name), stats)[0] for name in ("logp", "rank", "entropy")}
    return table.assign(**columns, alternatives=alternatives_of(lm, stats)).astype({"rank": "int64"})


def _of_many_passes(lm: LanguageModel, sample: Sample, name: str) -> pd.DataFrame:
    context = TaskContext(lm, Task("typed", {"forget": [sample]}))
    with exclusive(lm), torch.enable_grad():  # it changes the module for a while
        table = score_fixed(context, [name])
    for reason in context.notes.get(name, {}).get("not_available", {}).values():
        raise UserError(f"{name}: {reason}")
    return table


def chance(tokens: pd.DataFrame) -> float:
    """The typical probability of a text's tokens, exp(mean log p), in [0, 1]; without the mark that ends the turn.

    1 where the model would say every token.
    """
    text = tokens[tokens["start"] < tokens["end"].max()]
    return math.exp(text["logp"].mean()) if len(text) else math.nan
