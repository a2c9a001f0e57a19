"""A chart: a plotly figure that can be saved for a paper."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.view.charts.still import show_stills
from workbench.view.figures import Savable
from workbench.view.html import style_sheet

show_stills()  # here, since every chart is one


class Chart(Savable, go.Figure):
    """A plotly figure with `save`: interactive in a notebook, and light vector text in a file."""

    def to_bytes(self, suffix: str, width: str | float = "16cm") -> bytes:
        """The content of a file: ".svg", ".pdf" or ".png"; arguments and errors as of `save`."""
        from workbench.view.figures.chart import chart_bytes  # loads matplotlib

        return chart_bytes(self, suffix, width)

    def _ipython_display_(self) -> None:
        """Show it, with a style that gives its text the colour of the page, light or dark."""
        from IPython.display import display

        display(style_sheet("chart"))
        super()._ipython_display_()


def panels(rows: int, cols: int, **more: Any) -> Chart:
    """A chart of several panels; their titles are smaller than its own. `more` is what `make_subplots` takes."""
    return make_subplots(rows, cols, figure=Chart(), **more).update_annotations(font_size=13)
