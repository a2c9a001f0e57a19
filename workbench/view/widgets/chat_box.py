"""What a browser draws of the chat: the turns, the box for the next question, the buttons."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from workbench.view.widgets.chat_html import DIFFERENCES, MODES
from workbench.view.widgets.static_twin import script, styles
from workbench.view.widgets.typing_box import STYLES


class ChatBox(anywidget.AnyWidget):
    """The turns, the box for the next question, and all buttons. `asked` counts the turns that have ended."""

    _esm = script("save", "token_view/elements", "by_hand/chat")
    _css = styles(*STYLES)
    about: Any = traitlets.List().tag(sync=True)
    labels: Any = traitlets.List().tag(sync=True)
    html = traitlets.Unicode("").tag(sync=True)
    earlier = traitlets.Unicode("").tag(sync=True)
    legend = traitlets.Unicode("").tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    busy = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    turns = traitlets.Int(0).tag(sync=True)
    mode = traitlets.Enum(MODES, default_value=DIFFERENCES).tag(sync=True)
    needle = traitlets.Unicode("").tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
