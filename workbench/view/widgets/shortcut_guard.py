"""A hidden widget beside others: it brings their style sheets, guards their keys and says when the kernel is gone."""

from __future__ import annotations

import anywidget

from workbench.view.widgets.static_twin import script, styles


class ShortcutGuard(anywidget.AnyWidget):
    """In a box of class `wb-guarded`, it keeps JupyterLab from taking the keys that the box's controls need.

    Where the kernel has restarted, the box says so, and its controls no longer seem to work.
    """

    _esm = script("keys", "shortcut_guard")
    _css = styles("view", "panel", "errors")
