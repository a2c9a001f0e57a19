"""What the playground and the chat share, and the parts of the playground that a browser draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import pandas as pd
import traitlets

from workbench.errors import UserError
from workbench.view.figures import UNITS
from workbench.view.widgets.saving import SavesFigure
from workbench.view.widgets.static_twin import Twin, script, styles
from workbench.view.widgets.worker import Worker

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


class ByHand(SavesFigure, Twin, widgets.VBox):
    """What the playground and the chat share: a box in the browser, a token view below, workers beside the kernel."""

    box: Any
    _workers: tuple[Worker, Worker]

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until all that was asked for is there; False where that takes longer."""
        done = all(worker.wait(seconds) for worker in self._workers)
        self.redraw_twin()  # from this cell: nbconvert hears nothing of the thread's, which an older one started
        return done

    def close(self) -> None:
        """Stop the work in the background."""
        for worker in self._workers:
            worker.close()
        super().close()

    def _calls(self, message: dict[str, Any]) -> dict[str, Callable[[], Path | None]]:
        """What a message of the browser may ask for; what writes a file returns its path."""
        raise NotImplementedError

    def _heard(self, _: Any, message: dict[str, Any], __: Any) -> None:
        try:
            path = self._calls(message).get(message.get("do", ""), lambda: None)()
            self.box.note = f"written: {path}" if path else self.box.note
        except UserError as error:
            self.box.problem = str(error)


def whole(text: str) -> str:
    """A text as tokenizers and files take it: a lone surrogate, as a browser may send one, becomes a question mark.

    Raises:
        UserError: it is no text.
    """
    if not isinstance(text, str):
        raise UserError(f"type a text, not {text!r:.40}")
    return text.encode("utf-8", "replace").decode("utf-8")
