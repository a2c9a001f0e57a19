"""What became of tokens and answers, and lines drawn without scripts."""

import random
import re
from itertools import pairwise, product

import pandas as pd
import pytest
from pages import SAMPLES, Text, token_table

from workbench.view.html.before_after import (
    answers_view,
    change_view,
    changes,
    common_words,
    diff_pieces,
    word_diff,
)
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
    assert word_diff("the cat", "the dog the cat")[1] == "<ins>the dog</ins> the cat"  # words that stay together


def test_what_both_texts_have_is_as_long_as_can_be():
    draw = random.Random(0)
    for _ in range(1000):
        letters = "abcd"[: draw.randint(1, 4)]
        old, new = (draw.choices(letters, k=draw.randint(0, 9)) for _ in range(2))
        table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
        for i, j in product(range(len(old)), range(len(new))):
            same = old[i] == new[j]
            table[i + 1][j + 1] = table[i][j] + 1 if same else max(table[i][j + 1], table[i + 1][j])
        pairs = common_words(old, new)
        assert len(pairs) == table[-1][-1]
        assert all(old[i] == new[j] for i, j in pairs)
        assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


def test_two_long_texts_are_compared():
    texts = [" ".join(random.Random(seed).choices("abcdefgh", k=4000)) for seed in (1, 2)]  # 2 s and more as a table
    sides = diff_pieces(*texts)
    assert ["".join(text for _, text in side) for side in sides] == texts
    kept = [" ".join("".join(text for kind, text in side if not kind).split()) for side in sides]
    assert kept[0] == kept[1]


def test_answers_view():
    rows = []
    for phase, text in (("before", "Kuwait City"), ("after", "Paris, France")):
        rows.append({"phase": phase, "probe_set": "forget", "sample_id": "a", "prompt": "Where?"})
        rows[-1] |= {"answer": "Kuwait City", "generation": text}
        rows.append(rows[-1] | {"sample_id": "b", "probe_set": "general", "prompt": None, "generation": None})
    page = answers_view(pd.DataFrame(rows))
    assert "<del>Kuwait City</del>" in page
    assert "<ins>Paris, France</ins>" in page
    assert page.count(">not available<") == 1
    assert ">before, after<" in page
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


def test_numbers_of_a_line_chart_stand_whole_and_steps_are_whole() -> None:
    chart = line_chart_svg({"forget": [(1, 0.0002), (4, 0.00083)]})
    ends = re.findall(r'<text x="(\d+)"[^>]* text-anchor="end" fill="#6e7781">([\d.]+)</text>', chart)
    assert "0.00075" in {text for _, text in ends}
    assert all(int(x) >= 7 * len(text) for x, text in ends)
    assert re.findall(r'text-anchor="middle" fill="#6e7781">([\d.]+)<', chart) == ["1", "2", "3", "4"]
