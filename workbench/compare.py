"""Scores against labels: alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.registry import UserError
from workbench.tasks import rows, samples_from
from workbench.tokens import in_spans


def alignment(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How well each scorer's scores find the labelled spans, over answer tokens that stand for text.

    `auroc`: area under the ROC curve over all tokens; `auroc_per_sample`: its mean over samples that have tokens of
    both kinds; `ap`: average precision over all tokens. Of several steps the last counts. What is undefined is
    `{"value": None, "reason": why}`.
    """
    labelled = table[table["span"].notna() & (table["segment"] == "answer") & (table["end"] > table["start"])]
    if labelled.empty:
        raise UserError("no token has a span label; give labels with --spans, or score a task that has them")
    result = {}
    for name, part in labelled.groupby("scorer", sort=False):
        last = part[part["step"] == part["step"].max()]
        result[str(name)] = _alignment(last)
    return result


def _alignment(part: pd.DataFrame) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels, scores = part["span"].to_numpy(dtype=bool), part["score"].to_numpy(dtype=float)
    reason = undefined(labels, scores)
    if reason:
        return {key: {"value": None, "reason": reason} for key in ("auroc", "auroc_per_sample", "ap")}
    each = [
        roc_auc_score(group["span"].to_numpy(dtype=bool), group["score"].to_numpy(dtype=float))
        for _, group in part.groupby("sample_id", sort=False)
        if 0 < group["span"].sum() < len(group)
    ]
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "auroc_per_sample": float(np.mean(each))
        if each
        else {"value": None, "reason": "no sample has tokens inside and outside its spans"},
        "ap": float(average_precision_score(labels, scores)),
    }


def undefined(labels: np.ndarray, scores: np.ndarray) -> str:
    """Why a ranking of these scores says nothing, or an empty string."""
    if not np.isfinite(scores).all():
        return "some scores are not finite"
    if labels.all() or not labels.any():
        return "all tokens are on one side of the labels"
    if np.ptp(scores) == 0:
        return "all scores are equal"
    return ""


def label(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the span labels of a JSONL file; answers are matched by their text, which the tokens tile.

    Raises:
        UserError: no answer of the table is labelled in the file.
    """
    labels = {s.answer: s.spans for s in samples_from(rows(path), "spans") if s.spans is not None}
    parts, matched = [], 0
    for _, part in table[table["segment"] == "answer"].groupby(["scorer", "step", "sample_id"], sort=False):
        part = part.sort_values("position")
        spans = labels.get("".join(part["token"]))
        if spans is not None:
            matched += 1
            meets = in_spans(list(zip(part["start"], part["end"], strict=True)), spans)
            part = part.assign(span=pd.array(meets, dtype="boolean"))
        parts.append(part)
    if not matched:
        raise UserError(f"{path}: labels no answer of the table; give the labels of the rows that were scored")
    return pd.concat(parts, ignore_index=True)
