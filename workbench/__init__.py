"""See which tokens a language model must forget, make it forget them, and measure what else changed."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BeforeAfter": "view.widgets.linked",
    "CompareView": "view.widgets.linked",
    "Config": "runs",
    "ErrorBrowser": "view.widgets.errors",
    "RunDirectory": "runs",
    "RunPanel": "view.widgets.panel",
    "Sample": "tasks",
    "Settings": "settings",
    "Task": "tasks",
    "TaskSpec": "tasks",
    "TokenView": "view.widgets.tokens",
    "UserError": "registry",
    "alignment": "compare",
    "encode": "tokens",
    "finetune": "unlearn",
    "load": "models",
    "metric": "metrics",
    "objective": "objectives",
    "probe": "probes",
    "relearn": "relearning",
    "run_report": "report",
    "run_suite": "suites",
    "score_task": "scoring",
    "scorer": "scorers",
    "start": "execution",
    "token_stats": "tokens",
    "token_view": "view.html",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Public names, imported when first used: `import workbench` stays fast and silent."""
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute '{name}'")
    return getattr(importlib.import_module(f"workbench.{_HOMES[name]}"), name)
