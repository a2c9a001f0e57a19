"""What a group of plain widgets needs in JupyterLab: its style sheets, and the keys that its controls live by."""

from __future__ import annotations

from typing import Any

import anywidget

from workbench.view.text import STATIC
from workbench.view.widgets.tokens import styles


class Keys(anywidget.AnyWidget):
    """Put into a box of class `wb-keys`, it lets the box's controls have their keys; it shows nothing.

    Args:
        sheets: style sheets of static/ that the box needs.
    """

    _esm = STATIC / "keys.js"

    def __init__(self, *sheets: str, **more: Any) -> None:
        super().__init__(_css=styles(*sheets), **more)
