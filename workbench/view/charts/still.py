"""A picture beside each plotly chart, for where nothing draws plotly's own format: nbconvert, GitHub, mail.

JupyterLab and VS Code draw the chart itself, which comes first for them.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from workbench.view.html.render import render

NAME = "workbench_still"
OWN = ("plotly_mimetype", "jupyterlab", "nteract", "vscode")  # renderers that leave plotly's own format alone


class Still(MimetypeRenderer):
    """A renderer of plotly's: the chart as SVG, or a line that says why there is none."""

    def to_mimebundle(self, fig_dict: Mapping[str, Any]) -> dict[str, str]:
        """The formats that the still adds to an output."""
        figure = go.Figure(decoded(fig_dict))
        try:
            from workbench.view.figures.chart import chart_bytes  # loads matplotlib

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what matplotlib says of a narrow chart is no news below the real one
                return {"image/svg+xml": chart_bytes(figure, ".svg").decode("utf-8")}
        except Exception as error:  # of any chart that somebody makes: the still must not cost them the chart itself
            return {"text/html": str(render("twin.no_still", title=figure.layout.title.text, reason=str(error)))}


def decoded(value: Any) -> Any:
    """A figure as a dictionary, with arrays in the place of plotly's base64."""
    if isinstance(value, Mapping) and {"dtype", "bdata"} <= set(value):
        shape = [int(size) for size in str(value.get("shape", -1)).split(",")]
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"]).reshape(shape)
    if isinstance(value, Mapping):
        return {key: decoded(each) for key, each in value.items()}
    return [decoded(each) for each in value] if isinstance(value, list | tuple) else value


def show_stills() -> None:
    """From here on plotly leaves a still beside each chart, where it leaves no HTML of its own."""
    pio.renderers[NAME] = Still()
    if pio.renderers.default in OWN:
        pio.renderers.default = f"{pio.renderers.default}+{NAME}"
