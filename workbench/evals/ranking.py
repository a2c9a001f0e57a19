"""How well numbers rank labels: the area under the ROC curve, and average precision.

The values are scikit-learn's to the last bit. It is not called, since loading it takes a second, and a command that
compares a table with its labels takes a tenth of that.
"""

from __future__ import annotations

import numpy as np


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of finite scores (n,) for labels (n,), both kinds among them; ties count half."""
    true, false = _counts(labels, scores)
    if len(true) > 2:  # points in the middle of a straight line
        corners = np.r_[True, (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), True]
        true, false = true[corners], false[corners]
    y, x = (np.r_[0.0, each] / each[-1] for each in (true, false))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2.0).sum())


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Sum over thresholds n of (recall_n - recall_n-1) precision_n, highest first."""
    true, false = _counts(labels, scores)
    recall = np.r_[(true / true[-1])[::-1], 0.0]
    precision = (true / (true + false))[::-1]
    return max(0.0, float(-(np.diff(recall) * precision).sum()))


def _counts(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many true and how many false labels are at or above each score that there is, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]  # of those that are tied
    true = np.cumsum(labels[order], dtype=float)[last]
    return true, 1 + last - true
