from .chat import Chat as Chat
from .diff_view import DiffView as DiffView
from .error_browser import ErrorBrowser as ErrorBrowser
from .linked import BeforeAfter as BeforeAfter
from .linked import CompareView as CompareView
from .playground import Playground as Playground
from .run_panel import RunPanel as RunPanel
from .token_view import TokenView as TokenView
