"""Widgets that save what they show: `save` in Python, and a row of buttons that downloads in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from workbench.errors import UserError, one_line
from workbench.view.figures import FORMATS, Savable
from workbench.view.widgets.static_twin import script, styles

SHOWN = 24  # answers in a figure, at most


class FigureButtons(anywidget.AnyWidget):
    """The buttons as a widget of their own, for a box of several: they save the `part` of it, once it is `ready`."""

    _esm = script("save", "figure_buttons")
    _css = styles("view")
    name = traitlets.Unicode().tag(sync=True)
    part = traitlets.Unicode().tag(sync=True)
    what = traitlets.Unicode("save figure").tag(sync=True)
    formats: Any = traitlets.List([suffix.lstrip(".") for suffix in FORMATS]).tag(sync=True)
    ready = traitlets.Bool(False).tag(sync=True)


class SavesFigure(Savable):
    """Mixed into a widget that has `figure`; its script has `save.js`, and asks by a message with `save`."""

    def figure(self, **shown: Any) -> Savable:
        """What is shown, as a figure; `shown` is what only the browser knows of it."""
        raise NotImplementedError

    def to_bytes(self, suffix: str, width: str | float = "16cm") -> bytes:
        """The content of a file; arguments and errors as of `save`."""
        return self.figure().to_bytes(suffix, width)

    def _answer_saves(self, *parts: Any) -> None:
        """Answer the messages of the buttons from now on, those of the widget itself or of parts of it."""
        for sender in parts or (self,):
            sender.on_msg(self._save_asked)

    def _save_asked(self, sender: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if "save" not in content:
            return
        answer: dict[str, Any] = {"saved": content["save"], "id": content.get("id")}
        try:
            data = self.figure(**content.get("shown", {})).to_bytes(str(content["save"]))
        except Exception as error:  # whatever a library raises: the button must not wait for an answer in vain
            line = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
            sender.send(answer | {"error": line})
        else:
            sender.send(answer, [data])
