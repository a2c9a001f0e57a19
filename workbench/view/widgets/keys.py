"""What a group of plain widgets needs in JupyterLab: its style sheets, and the keys that its controls live by."""

from __future__ import annotations

import anywidget

from workbench.view.html import STATIC
from workbench.view.widgets.base import styles


class Keys(anywidget.AnyWidget):
    """Put into a box of class `wb-keys`, it brings style sheets and lets the box's controls have their keys."""

    _esm = STATIC / "keys.js"
    _css = styles("view", "panel", "errors")
