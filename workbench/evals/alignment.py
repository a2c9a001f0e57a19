"""Scores against labels: alignment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError, missing
from workbench.evals.ranking import auroc, average_precision

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, np.ndarray]
NEEDED = ("segment", "scorer", "sample_id", "start", "end", "step")
VALUES = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")


def alignment(table: pd.DataFrame | Columns, *, budget: float = 0.2) -> dict[str, dict[str, Any]]:
    """How well each scorer's scores rank the tokens of labelled spans highest, over answer tokens that stand for text.

    `auroc`: area under the ROC curve over all tokens; `auroc_per_sample`: its mean over samples that have tokens of
    both kinds; `ap`: average precision over all tokens; `precision_at_budget`: the share inside a span of the
    ceil(budget T) highest of all T tokens, expected under random tie-breaking. Of several steps the last counts.
    `answers`, `tokens` and `in_spans` count what the values are made of, `answers_divided` the answers in the mean.
    Tokens without a score (NaN) are left out; `left_out` counts them where there are any. A value that is undefined is
    `errors.Missing`, and so is all that one answer alone would say. The table may be the columns of one, as
    `scorers.read_columns` gives them.

    Raises:
        UserError: no token has a label, `budget` is no share, or the table is no score table.
    """
    check_share("budget", budget)
    columns = table if isinstance(table, dict) else _columns(table)
    answers = _of_text(columns)
    parts = {}
    for name in dict.fromkeys(columns["scorer"][answers]):
        own = answers & (columns["scorer"] == name)
        own &= columns["step"] == columns["step"][own].max()
        if (labelled := own & (columns["span"] >= 0)).any():
            parts[str(name)] = {key: columns[key][labelled] for key in ("sample_id", "score", "span")}
    if not parts:
        raise UserError("no token has a span label; give labels as spans (--spans), or score a task that has them")
    return {name: _alignment(part, budget) for name, part in parts.items()}


def _columns(table: pd.DataFrame) -> Columns:
    """The columns of a data frame, as `scorers.read_columns` gives them."""
    from workbench.scorers import checked_scores  # loads pandas, which the columns of a file do without

    checked_scores(table, (*NEEDED, "span", "score"))
    columns = {name: table[name].to_numpy() for name in NEEDED}
    span = table["span"].astype("boolean").astype("Int8").fillna(-1).to_numpy(dtype=int)
    return columns | {"score": table["score"].to_numpy(dtype=float, na_value=np.nan), "span": span}


def _alignment(part: Columns, budget: float) -> dict[str, Any]:
    known = ~np.isnan(part["score"])
    left_out = {"left_out": int((~known).sum())} if not known.all() else {}
    labels, scores, samples = part["span"][known] == 1, part["score"][known], part["sample_id"][known]
    places: dict[Any, int] = {}
    group = np.array([places.setdefault(sample, len(places)) for sample in samples], dtype=int)
    counts = {"answers": len(places), "tokens": len(labels), "in_spans": int(labels.sum())}
    if reason := undefined(labels, scores) or one_answer(counts):
        return {key: missing(reason) for key in VALUES} | counts | left_out
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    each = [
        auroc(labels[tokens], scores[tokens])
        for tokens in np.split(order, ends)
        if labels[tokens].any() and not labels[tokens].all()
    ]
    few = "only one answer has" if each else "no answer has"
    undivided = missing(f"{few} tokens inside and outside its spans")
    taken = membership(scores, budget)
    return {
        "auroc": auroc(labels, scores),
        "auroc_per_sample": float(np.mean(each)) if len(each) > 1 else undivided,
        "ap": average_precision(labels, scores),
        "precision_at_budget": float(taken[labels].sum() / taken.sum()),
        **counts,
        "answers_divided": len(each),
    } | left_out


def one_answer(counts: dict[str, int]) -> str:
    """Why counts of one answer say nothing; "" where there are several."""
    return f"one answer, of {counts['tokens']} tokens, says nothing about a scorer" if counts["answers"] == 1 else ""


def made_of(alignment: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Over how many answers and tokens an alignment's values are, in words -> the scorers of which that holds."""
    lines: dict[str, list[str]] = {}
    for name, values in alignment.items():
        answers, tokens, inside = (values[key] for key in ("answers", "tokens", "in_spans"))
        ending = "" if answers == 1 else "s"
        line = f"over {answers:,} answer{ending} of {tokens:,} tokens in all, {inside:,} of them in spans"
        lines.setdefault(line, []).append(name)
    return lines


def answer_tokens(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of answer tokens that stand for text, of each scorer's last step.

    Left out is a text's first token without a score: with nothing to put before it, nothing predicts it.
    """
    from workbench.scorers import checked_scores

    checked_scores(table, (*NEEDED, "position", "score"))
    unpredicted = (table["position"] == 0) & table["score"].isna()
    tokens = table[_of_text(table) & ~unpredicted]
    return tokens[tokens["step"] == tokens.groupby("scorer")["step"].transform("max")]


def _of_text(table: Any) -> Any:
    """Which rows of a table, or of its columns, are answer tokens that stand for text."""
    return (table["segment"] == "answer") & (table["end"] > table["start"])


def check_share(name: str, value: float) -> None:
    """Raise UserError for a value that is no share of the tokens."""
    if not 0 < value <= 1:
        raise UserError(f"{name} is a share of the tokens, above 0 and at most 1, not {value:g}")


def places_in(share: float, tokens: int) -> int:
    """How many tokens the highest `share` of so many tokens has; at least one."""
    return max(math.ceil(share * tokens - 1e-9), 1)


def membership(scores: np.ndarray, share: float) -> np.ndarray:
    """How much of each of T tokens is among the k = ceil(share T) highest: 1 above the limit, 0 below.

    Tokens tied at the limit share the places that are left, (k - number above) / number tied: the probability of each
    to be taken under random tie-breaking.
    """
    places = places_in(share, len(scores))
    limit = np.partition(scores, -places)[-places]
    above, tied = scores > limit, scores == limit
    return above + tied * ((places - above.sum()) / tied.sum())


def undefined(labels: np.ndarray, scores: np.ndarray) -> str:
    """Why a ranking by these scores says nothing about the labels; "" where it does."""
    if not len(scores):
        return "no token has a score"
    if not np.isfinite(scores).all():
        return "some scores are not finite"
    if labels.all() or not labels.any():
        return "all tokens are on one side of the labels"
    if (scores == scores[0]).all():
        return "all scores are equal"
    return ""


def label(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the span labels of a JSON Lines file, matched by the answers' text, which the tokens tile.

    Prompt tokens stay, without a label.

    Raises:
        UserError: no answer of the table is labelled in the file.
    """
    # These load pandas; scores with labels in their table do without.
    from workbench.models import in_spans
    from workbench.tasks import rows, samples_from

    labels = {s.answer: s.spans for s in samples_from(rows(path), "spans") if s.spans is not None}
    table = table.reset_index(drop=True)
    answers = table["segment"] == "answer"
    span, matched = table["span"].astype("boolean").where(answers), 0
    for _, part in table[answers].groupby(["scorer", "step", "sample_id"], sort=False):
        part = part.sort_values("position")
        spans = labels.get("".join(part["token"]))
        if spans is not None:
            matched += 1
            span[part.index] = in_spans(list(zip(part["start"], part["end"], strict=True)), spans)
    if not matched:
        raise UserError(f"{path}: labels no answer of the table; give the labels of the rows that were scored")
    return table.assign(span=span)
