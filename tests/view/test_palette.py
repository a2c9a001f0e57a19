"""One palette: colours that read in both themes, axes with readable ticks, and none cut without a word."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from workbench.view.charts import INKS, MODELS, SETS, logarithmic, palette, template
from workbench.view.charts.attacks import BAR
from workbench.view.charts.chart import panels
from workbench.view.charts.palette import CUT, DIVERGING, INK, PHASES, RISING, RUNS, from_zero, heading
from workbench.view.charts.results import TURNS, _slopes
from workbench.view.charts.scores import brief
from workbench.view.html import line_chart_svg, style_sheet

WHITE, BLACK = "#ffffff", "#111111"  # the pages of JupyterLab


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def hexadecimal(parts: Sequence[float]) -> str:
    return "#" + "".join(f"{round(part):02x}" for part in parts)


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [WHITE, BLACK])
def test_lines_and_marks_stand_out_on_both_pages(page: str) -> None:
    for colour in {*INKS, *RUNS, *SETS.values(), *MODELS.values()}:
        assert contrast(colour, page) >= 3, colour


def test_what_lets_others_show_through_stands_out_too() -> None:
    """Lines that lie on each other are opaque; a pale bar has an edge that reads."""
    assert {_slopes([(1.0, 0.5, "an answer")], turn, 1, True).opacity for turn in TURNS} == {None}
    assert all(contrast(BAR["line"]["color"], page) >= 3 for page in (WHITE, BLACK))


def test_numbers_read_on_every_tile() -> None:
    for _, colour in (*DIVERGING, *RISING):
        assert contrast(INK, colour) >= 4.5


def test_a_line_is_named_in_its_own_colour_that_reads_as_text() -> None:
    lines = line_chart_svg({"forget": [(0, 1), (1, 2)], "retain": [(0, 1), (1, 1)], "a third": [(0, 2), (1, 0)]})
    inks = re.findall(r'<text class="wb-n\d"[^>]* fill="(#\w{6})"', lines)
    assert len(inks) == 3
    accent = re.search(r"--wb-acc:(#\w{6})", style_sheet())
    assert accent
    assert all(contrast(ink, WHITE) >= 4.5 for ink in (*inks, accent[1]))


def test_titles_fit_a_narrow_page() -> None:
    """Plotly cuts what is too long; panels have titles that are smaller than the chart's."""
    lines = heading("a <b> & " + "long title " * 9)["title"]["text"].split("<br>")
    assert len(lines) == 2
    assert lines[0].startswith("a &lt;b&gt; &amp; long")
    overlap = "Overlap of the highest tokens, mean over samples, each ranked for itself"
    assert heading(overlap)["title"]["text"] == overlap  # no word alone on a second line
    figure = panels(1, 2, subplot_titles=["one", "two"])
    assert all(note.font.size < template().layout.title.font.size for note in figure.layout.annotations)


@pytest.mark.parametrize(("value", "text"), [(0.678, ".68"), (-0.934, "−.93"), (1.0, "1"), (-1.0, "−1"), (-0.001, "0")])  # noqa: RUF001
def test_correlations_are_short_enough_for_a_narrow_cell(value: float, text: str) -> None:
    assert brief(value) == text


def test_text_follows_the_page() -> None:
    """No one grey reads at 4.5 on both pages; this is the best there is, and the style takes the page's own colour."""
    grey = template().layout.font.color
    assert min(contrast(grey, WHITE), contrast(grey, BLACK)) > 4
    assert "--jp-content-font-color1" in style_sheet("chart")


def test_the_picture_of_a_chart_opened_again_reads_in_both_themes() -> None:
    """It has the grey itself, which a light page darkens and a dark one lightens; also across bars and in tiles."""
    grey = [int(template().layout.font.color[i : i + 2], 16) for i in (1, 3, 5)]
    factors = re.findall(r"brightness\(([\d.]+)\)", style_sheet("chart"))
    alpha = float(BAR["color"].rpartition(",")[2].rstrip(")"))
    for page, factor in zip((WHITE, BLACK), map(float, factors), strict=True):
        shade = [factor * part for part in grey]
        bar = [alpha * part + (1 - alpha) * int(page[1:3], 16) for part in shade]
        assert contrast(hexadecimal(shade), page) >= 4.5
        assert contrast(hexadecimal(shade), hexadecimal(bar)) >= 4.5
        for _, tile in (*DIVERGING, *RISING):
            ink, below = ([min(255, factor * int(c[i : i + 2], 16)) for i in (1, 3, 5)] for c in (INK, tile))
            assert contrast(hexadecimal(ink), hexadecimal(below)) >= 4.5


def test_a_marker_at_the_edge_of_a_chart_is_whole() -> None:
    assert template().data.scatter[0].cliponaxis is False


def test_the_longest_name_of_a_line_fits_beside_it() -> None:
    drawn = line_chart_svg({"forget": [(0, 1), (1, 2)], "a set with a long name": [(0, 1), (1, 0.0002)]}, width=848)
    name = re.search(r'x="([\d.]+)"[^>]*>(a set with[^<]*)<', drawn)
    assert name
    assert float(name[1]) + 9.5 * len(name[2]) <= 848


def test_a_colour_means_one_thing() -> None:
    named = [*SETS.items(), *PHASES.items()]
    assert {name: colour for name, colour in named if name in ("forget", "retain")} == {
        "forget": INKS[0],
        "retain": INKS[1],
    }
    assert not set(RUNS) & {SETS["forget"], SETS["retain"]}
    assert len(set(SETS.values())) == len(SETS)
    assert palette.colour_of("forget", 5, SETS) == SETS["forget"]
    assert palette.colour_of("somebody's", 5, SETS) in RUNS


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0004, 0.005], ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05"]),
        ([1e-4, 1e4], ["0.0001", "0.001", "0.01", "0.1", "1", "10", "100", "1000", "10000"]),
        ([3.0], ["1", "2", "5", "10", "20", "50"]),
    ],
)
def test_a_logarithmic_axis_has_whole_numbers(values: list[float], shown: list[str]) -> None:
    assert logarithmic(values)["ticktext"] == shown


@pytest.mark.parametrize("ends", [(0.0012, 0.0065), (0.0013, 0.0039), (2.1, 3.0), (1.0, 2.0), (0.4, 30.0)])
def test_three_numbers_or_more_of_a_logarithmic_axis_are_seen(ends: tuple[float, float]) -> None:
    """Closer ones on a short axis, which would show one of 1, 2 and 5, or none."""
    assert 3 <= sum(ends[0] <= tick <= ends[1] for tick in logarithmic(ends)["tickvals"]) <= 6


@pytest.mark.parametrize("ends", [(0.0012, 0.0013), (1.0, 1.01), (9.9, 10.1)])
def test_the_ends_of_a_logarithmic_axis_too_short_for_round_numbers(ends: tuple[float, float]) -> None:
    assert logarithmic(ends)["tickvals"] == list(ends)


def test_a_cut_axis_says_so() -> None:
    assert from_zero([0.2, 1.0], "y") == {"title": "y", "rangemode": "tozero"}
    cut = from_zero([0.95, 1.0], "y")
    assert CUT in cut["title"]
    assert 0.9 < cut["range"][0] < 0.95
    assert from_zero([], "y")["rangemode"] == "tozero"
