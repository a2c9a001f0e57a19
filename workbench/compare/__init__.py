"""Scores against labels, against each other, and against what they do: alignment, agreement, faithfulness."""

from workbench.compare.agreement import agreement, disagreement
from workbench.compare.alignment import alignment, label
from workbench.compare.faithfulness import RUN, faithfulness, faithfulness_by_unlearning

__all__ = ["RUN", "agreement", "alignment", "disagreement", "faithfulness", "faithfulness_by_unlearning", "label"]
