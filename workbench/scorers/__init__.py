"""Token scores: a registry of scorers, one file a family, and the score table."""

from workbench.scorers import amortised, atwu, conflict, signals, specificity
from workbench.scorers.saved import apply_scorer, load_scorer, save_scorer
from workbench.scorers.table import (
    Scoring,
    TaskScoring,
    plain_scorers,
    read_scores,
    score_fixed,
    score_samples,
    scorer,
    weights_from,
)

__all__ = [
    "Scoring",
    "TaskScoring",
    "amortised",
    "apply_scorer",
    "atwu",
    "conflict",
    "load_scorer",
    "plain_scorers",
    "read_scores",
    "save_scorer",
    "score_fixed",
    "score_samples",
    "scorer",
    "signals",
    "specificity",
    "weights_from",
]
