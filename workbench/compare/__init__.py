"""Scores against labels and against each other: alignment and agreement."""

from workbench.compare.agreement import agreement, disagreement
from workbench.compare.alignment import alignment, label, undefined

__all__ = ["agreement", "alignment", "disagreement", "label", "undefined"]
