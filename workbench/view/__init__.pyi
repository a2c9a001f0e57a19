from .report import comparison_page as comparison_page
from .report import run_report as run_report
from .report import scores_page as scores_page
