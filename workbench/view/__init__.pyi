from .report import run_report as run_report
from .score_pages import comparison_page as comparison_page
from .score_pages import scores_page as scores_page
