"""What became of tokens and answers, and lines drawn without scripts."""

import re

import pandas as pd
import pytest
from pages import SAMPLES, Text, token_table

from workbench.view.html.before_after import answers_view, change_view, changes, word_diff
from workbench.view.html.line_chart import line_chart_svg, ticks
from workbench.view.html.scale import BLUE


def test_change_view():
    page = change_view(token_table(), SAMPLES)
    assert "probability 0.97 → 0.08 · rank 1 → 6&#10;now: “ The” 0.31 “&lt;b&gt;” 0.12" in page
    assert page.count("<u ") == 1
    assert "<b>1</b> of 14 first choices changed" in page
    assert f"rgba({BLUE}" in re.search(r"<u .*?>", page).group()
    assert changes(token_table())["change"].min() == pytest.approx(-0.89)
    Text(page)


def test_word_diff():
    before, after = word_diff("He was born in Paris.", "He lives in <Rome>.")
    assert before == "He <del>was born</del> in <del>Paris.</del>"
    assert after == "He <ins>lives</ins> in <ins>&lt;Rome&gt;.</ins>"
    assert word_diff("same text", "same text") == ("same text", "same text")


def test_answers_view():
    rows = []
    for phase, text in (("before", "Kuwait City"), ("after", "Paris, France")):
        rows.append({"phase": phase, "probe_set": "forget", "sample_id": "a", "prompt": "Where?"})
        rows[-1] |= {"answer": "Kuwait City", "generation": text}
        rows.append(rows[-1] | {"sample_id": "b", "probe_set": "general", "prompt": None, "generation": None})
    page = answers_view(pd.DataFrame(rows))
    assert "<del>Kuwait City</del>" in page
    assert "<ins>Paris, France</ins>" in page
    assert page.count(">not available<") == 2
    Text(page)


def test_line_chart():
    points = [(0, 0.1), (10, 2.0), (20, float("nan")), (30, 4.2)]
    page = line_chart_svg({"forget": points, "retain": [(0, 0.2), (30, 0.3)]}, title="NLL", y_label="nats")
    assert 'role="img"' in page
    assert "forget: 0.10 to 4.20" in page
    assert ">forget 4.20</text>" in page
    assert "nan" not in page
    assert "not available" in line_chart_svg({"forget": [(0, float("nan"))]})
    assert line_chart_svg({"one": [(1, 0.0)]})  # one point, no range


@pytest.mark.parametrize(("low", "high"), [(0, 4.2), (-3, 7), (0, 0), (5, 5), (0, 1e-6), (0, 12345)])
def test_ticks_cover_the_range(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-12
    assert marks[-1] >= high - 1e-12
    assert 2 <= len(marks) <= 12
