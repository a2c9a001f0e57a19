from .error_browser import ErrorBrowser as ErrorBrowser
from .linked import BeforeAfter as BeforeAfter
from .linked import CompareView as CompareView
from .run_panel import RunPanel as RunPanel
from .token_view import TokenView as TokenView
from .where_view import WhereView as WhereView
from .where_view import where as where
