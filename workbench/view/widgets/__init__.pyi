from .compare_runs import CompareRuns as CompareRuns
from .error_browser import ErrorBrowser as ErrorBrowser
from .linked import BeforeAfter as BeforeAfter
from .linked import CompareView as CompareView
from .run_panel import RunPanel as RunPanel
from .token_view import TokenView as TokenView
