"""Beside each plotly chart a notebook keeps a picture, for where nothing draws plotly's own format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from pages import SAMPLES, SPANS, scores_of

from workbench.view.charts import distribution_chart
from workbench.view.charts.still import NAME, decoded, show_stills

PLOTLY, SVG = "application/vnd.plotly.v1+json", "image/svg+xml"


@pytest.fixture
def jupyter() -> Iterator[None]:
    """Plotly's choice in a kernel of Jupyter."""
    before = pio.renderers.default
    pio.renderers.default = "plotly_mimetype"
    show_stills()
    yield
    pio.renderers.default = before


def bundle(figure: go.Figure) -> dict[str, Any]:
    return figure._repr_mimebundle_()


@pytest.mark.usefixtures("jupyter")
def test_a_chart_is_kept_with_its_picture() -> None:
    shown = bundle(distribution_chart(scores_of(SAMPLES, SPANS)))
    assert set(shown) == {PLOTLY, SVG}
    assert "Scores of answer tokens" in shown[SVG]
    assert "<script" not in shown[SVG]
    # What plotly sends as base64, as of a frame's columns, is drawn from its numbers.
    points = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [10.0, 20.0, 80.0]})
    drawn = bundle(px.scatter(points, x="a", y="b", title="Points"))
    assert "Points" in drawn[SVG]
    assert "bdata" not in drawn[SVG]


@pytest.mark.usefixtures("jupyter")
def test_a_chart_that_cannot_be_drawn_says_so_and_is_kept() -> None:
    shown = bundle(go.Figure(go.Sankey(), layout={"title": {"text": "<b>Flow</b>"}}))
    assert set(shown) == {PLOTLY, "text/html"}
    assert "&lt;b&gt;Flow" in shown["text/html"]
    assert "run the notebook to see it" in shown["text/html"]


@pytest.mark.usefixtures("jupyter")
@pytest.mark.parametrize(("chosen", "stays"), [("plotly_mimetype", False), ("vscode", False), ("colab", True)])
def test_only_where_plotly_leaves_no_html(chosen: str, stays: bool) -> None:
    pio.renderers.default = chosen
    show_stills()
    assert pio.renderers.default == (chosen if stays else f"{chosen}+{NAME}")
    show_stills()  # once is enough
    assert pio.renderers.default == (chosen if stays else f"{chosen}+{NAME}")


def test_arrays_are_read_back() -> None:
    grid = np.arange(6, dtype="float32").reshape(2, 3)
    read = decoded(go.Figure(go.Heatmap(z=grid, x=np.array([1, 2, 3]))).to_dict())["data"][0]
    np.testing.assert_array_equal(read["z"], grid)
    np.testing.assert_array_equal(read["x"], [1, 2, 3])
