"""A hidden widget beside others: it brings their style sheets and keeps JupyterLab's shortcuts from their controls."""

from __future__ import annotations

import anywidget

from workbench.view.html import STATIC
from workbench.view.widgets.static_twin import styles


class ShortcutGuard(anywidget.AnyWidget):
    """In a box of class `wb-guarded`, it keeps JupyterLab from taking the keys that the box's controls need."""

    _esm = STATIC / "shortcut_guard.js"
    _css = styles("view", "panel", "errors")
