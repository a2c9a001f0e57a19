"""Views of tables and runs: HTML strings that need no script."""

from workbench.view.agreement import agreement_view, disagreement_view
from workbench.view.compare import compare_view, token_matrix
from workbench.view.definitions import definitions
from workbench.view.html import token_view
from workbench.view.notes import notes_view
from workbench.view.page import answers_view, change_view, changes, page
from workbench.view.svg import line_chart_svg
from workbench.view.tables import alignment_table, cost_table, metrics_view, summary_view

__all__ = [
    "agreement_view",
    "alignment_table",
    "answers_view",
    "change_view",
    "changes",
    "compare_view",
    "cost_table",
    "definitions",
    "disagreement_view",
    "line_chart_svg",
    "metrics_view",
    "notes_view",
    "page",
    "summary_view",
    "token_matrix",
    "token_view",
]
