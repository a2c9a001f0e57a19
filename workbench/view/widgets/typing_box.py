"""The parts of the playground that a browser draws: the boxes, and what the model expected at a place."""

from __future__ import annotations

import math
from typing import Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UserError
from workbench.view.figures import UNITS
from workbench.view.widgets.static_twin import script, styles

PAUSES = (10, 150)  # milliseconds without a key before a text is sent, at least and at most
EVERY = 0.1  # seconds between two looks at an answer that streams
STYLES = ("view", "token_view", "by_hand")
EMPTY = pd.DataFrame(
    {"sample_id": ["typed"], "position": 0, "token": "", "start": 0, "end": 0, "segment": "answer", "span": None}
    | {"scorer": "surprisal", "step": 0, "score": math.nan}
)


class TypingBox(anywidget.AnyWidget):
    """Boxes, choices and buttons; `typed` counts the texts that were sent, `shown` the one whose scores are shown."""

    _esm = script("token_view/elements", "by_hand/typing")
    _css = styles(*STYLES)
    about = traitlets.Unicode().tag(sync=True)
    question = traitlets.Unicode("").tag(sync=True)
    answer = traitlets.Unicode("").tag(sync=True)
    scorers: Any = traitlets.List().tag(sync=True)
    scorer = traitlets.Unicode().tag(sync=True)
    unit = traitlets.Enum(UNITS, default_value="token").tag(sync=True)
    typed = traitlets.Int(0).tag(sync=True)
    shown = traitlets.Int(0).tag(sync=True)
    pause = traitlets.Int(PAUSES[0]).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    reply = traitlets.Dict().tag(sync=True)


class NextTokens(anywidget.AnyWidget):
    """What the model expected at one place of the text; each alternative is a button that puts it there."""

    _esm = script("token_view/elements", "by_hand/next_tokens")
    _css = styles(*STYLES)
    place = traitlets.Dict().tag(sync=True)


def whole(text: str) -> str:
    """A text as tokenizers and files take it: a lone surrogate, as a browser may send one, becomes a question mark.

    Raises:
        UserError: it is no text.
    """
    if not isinstance(text, str):
        raise UserError(f"type a text, not {text!r:.40}")
    return text.encode("utf-8", "replace").decode("utf-8")
