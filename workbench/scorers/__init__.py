"""Token scores: a registry of scorers, one file a family, and the score table."""

from workbench.scorers import atwu, signals
from workbench.scorers.table import Scoring, fixed_scorers, read_scores, score_samples, scorer, weights_from

__all__ = ["Scoring", "atwu", "fixed_scorers", "read_scores", "score_samples", "scorer", "signals", "weights_from"]
