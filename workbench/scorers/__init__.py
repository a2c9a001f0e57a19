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
from workbench.scorers.amortised import GRID, draw_folds, other_text, ridge_by_sample
from workbench.scorers.attribution import each_target
from workbench.scorers.atwu import PRESETS
from workbench.scorers.base import BatchContext, TaskContext, check_needs, plain_scorers, scorer
from workbench.scorers.inputs import Inputs, frozen, within_memory
from workbench.scorers.saved import KINDS, apply_scorer, check_fits, load_scorer, save_scorer
from workbench.scorers.score import score_each, score_fixed, score_samples
from workbench.scorers.score_file import ScoreFile
from workbench.scorers.specificity import COPIED, copied, rarity, unsureness
from workbench.scorers.table import in_order, read_scores, score_table, weights_from

__all__ = [
    "COPIED",
    "GRID",
    "KINDS",
    "PRESETS",
    "BatchContext",
    "Inputs",
    "ScoreFile",
    "TaskContext",
    "amortised",
    "apply_scorer",
    "attention",
    "attribution",
    "atwu",
    "check_fits",
    "check_needs",
    "conflict",
    "copied",
    "draw_folds",
    "each_target",
    "frozen",
    "in_order",
    "load_scorer",
    "masked",
    "other_text",
    "perturbation",
    "plain_scorers",
    "rarity",
    "read_scores",
    "ridge_by_sample",
    "save_scorer",
    "score_each",
    "score_fixed",
    "score_samples",
    "score_table",
    "scorer",
    "signals",
    "specificity",
    "unsureness",
    "weights_from",
    "within_memory",
]
