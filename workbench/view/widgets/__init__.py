"""Interactive views for JupyterLab: each is a widget with a static twin, `.to_html()`."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BeforeAfter": "linked",
    "CompareView": "linked",
    "ErrorBrowser": "errors",
    "RunPanel": "panel",
    "TokenView": "tokens",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """The widgets, imported when first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench.view.widgets' has no attribute '{name}'")
    return getattr(importlib.import_module(f"workbench.view.widgets.{_HOMES[name]}"), name)
