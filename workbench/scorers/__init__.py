"""Token scores: a registry of scorers, one file a family, and the score table."""

from workbench.scorers import (
    amortised,
    attention,
    attribution,
    atwu,
    conflict,
    masked,
    perturbation,
    signals,
    specificity,
)
from workbench.scorers.saved import apply_scorer, load_scorer, save_scorer
from workbench.scorers.table import (
    Scoring,
    TaskScoring,
    check_needs,
    plain_scorers,
    read_scores,
    score_each,
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
    "attention",
    "attribution",
    "atwu",
    "check_needs",
    "conflict",
    "load_scorer",
    "masked",
    "perturbation",
    "plain_scorers",
    "read_scores",
    "save_scorer",
    "score_each",
    "score_fixed",
    "score_samples",
    "scorer",
    "signals",
    "specificity",
    "weights_from",
]
