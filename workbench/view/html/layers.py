"""Score tables as layers: each scorer's scores over the same tokens, with its scale and what its threshold selects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError, unknown
from workbench.view.html.scale import By, Scale
from workbench.view.html.text import marked, value_of

KEY = ["sample_id", "position"]


@dataclass(frozen=True)
class Layer:
    """One scorer at one step.

    Attributes:
        name: as shown: the scorer, with the step where it has several.
        scorer: the scorer.
        scores: the finite scores, indexed by (sample_id, position).
        scale: of the scores; None where there are none.
        threshold: selects the scores at or above it; None for none.
        rule: where a default threshold comes from, in words.
        auroc: against the labelled spans, where it is known.
        answers: how many that is made of.
        trust: how far its scores can be trusted, in a line, where the scorer says so.
    """

    name: str
    scorer: str
    scores: pd.Series
    scale: Scale | None
    threshold: float | None
    rule: str
    auroc: float | None
    answers: int | None
    trust: str = ""

    def selects(self, score: float) -> bool:
        """Whether the threshold selects `score`."""
        return self.threshold is not None and bool(score >= self.threshold)

    def matches(self, spans: pd.Series) -> dict[str, Any]:
        """How many tokens the threshold selects; precision and recall against `spans`, where any are known."""
        selected = self.scores >= self.threshold
        known = spans.reindex(self.scores.index)
        known = known[known.notna()].astype(bool)
        counts: dict[str, Any] = {"selected": int(selected.sum())}
        if known.any():
            both, picked = int((selected[known.index] & known).sum()), int(selected[known.index].sum())
            counts |= {"precision": both / picked if picked else None, "recall": both / int(known.sum())}
        return counts


def default_threshold(scores: np.ndarray, labelled: int) -> tuple[float, str]:
    """A threshold that selects as many tokens as are labelled, or the highest fifth of `scores`; and which it is."""
    count = min(labelled, len(scores)) or math.ceil(len(scores) / 5)
    least = float(np.partition(scores, len(scores) - count)[len(scores) - count])
    return least, "as many as labelled" if labelled else "highest fifth"


def layers_of(
    scores: pd.DataFrame,
    scorer: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    alignment: Mapping[str, Any] | None = None,
    segment: str = "answer",
    by: By = "value",
) -> tuple[pd.DataFrame, list[Layer], int]:
    """A segment's tokens (index sample_id, position), a layer for each scorer's first and last step, the first's index.

    Raises:
        UserError: for a table without tokens of the segment, or an unknown scorer.
    """
    scores = scores[scores["segment"] == segment] if "segment" in scores else scores
    names = list(dict.fromkeys(scores["scorer"]))
    if not names:
        raise UserError(f"the score table has no {segment} tokens; score a task first")
    if scorer is not None and scorer not in names:
        raise unknown("scorer", scorer, names)
    tokens = scores.drop_duplicates(KEY).set_index(KEY)
    spans = spans_of(tokens)
    many = tokens.index.get_level_values("sample_id").nunique() > 1  # AUROC of one answer says nothing of a scorer
    if "step" not in scores:
        scores = scores.assign(step=0)
    several = scores["step"].nunique() > 1
    layers: list[Layer] = []
    first, trust = 0, trusts(scores)
    for name in names:
        table = scores[scores["scorer"] == name]
        ends = sorted({table["step"].min(), table["step"].max()})
        if name == scorer:
            first = len(layers)
        shared = table.loc[table["step"].isin(ends), "score"].to_numpy(dtype=float)
        scale = Scale.of(shared[np.isfinite(shared)], by, scorer=str(name))  # one for both steps
        for step in ends:
            values = table[table["step"] == step].set_index(KEY)["score"].astype(float)
            values, rule = values[np.isfinite(values)], ""
            limit = threshold.get(name) if isinstance(threshold, Mapping) else threshold
            if limit is None and scale is not None and not scale.flat:
                limit, rule = default_threshold(values.to_numpy(), int(spans.reindex(values.index).eq(True).sum()))
            known = (alignment or {}).get(name, {}) if step == ends[-1] and many else {}  # it is of the last step
            about = (value_of(known.get("auroc"))[0], known.get("answers"), trust.get(name, ""))
            shown = f"{name}, step {step}" if several else name
            layers.append(Layer(shown, name, values, scale, limit, rule, *about))
    return bool_spans(tokens), layers, first


def trusts(scores: pd.DataFrame) -> dict[str, str]:
    """Scorer -> how far its scores can be trusted, in a line with marks, for those whose notes say so."""
    notes = scores.attrs.get("notes")
    known = notes.items() if isinstance(notes, dict) else ()
    each = {str(name): note.get("confidence") for name, note in known if isinstance(note, dict)}
    return {name: marked(str(one["line"])) for name, one in each.items() if isinstance(one, dict) and "line" in one}


def spans_of(tokens: pd.DataFrame) -> pd.Series:
    """Whether each token is in a labelled span; None throughout for a table without labels."""
    return tokens["span"] if "span" in tokens else pd.Series(None, index=tokens.index, dtype=object)


def bool_spans(tokens: pd.DataFrame) -> pd.DataFrame:
    """The table with `span` as True, False or None, whatever it was stored as."""
    spans = [None if pd.isna(span) else bool(span) for span in spans_of(tokens)]
    return tokens.assign(span=pd.Series(spans, tokens.index, object))


def by_sample(tokens: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """The tokens of each sample in reading order."""
    return dict(list(tokens.sort_index(level="position", sort_remaining=False).groupby(level="sample_id", sort=False)))
