from . import charts as charts
from . import html as html
from . import widgets as widgets
from .report import run_report as run_report
from .score_pages import comparison_page as comparison_page
from .score_pages import scores_page as scores_page
from .sequence_view import sequence_page as sequence_page
