"""Views are strings: text is kept and escaped, numbers are true, colours are readable, nothing is fetched."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import CSS, HOSTILE, SAMPLES, SPANS, Text, scores_of, token_table

from workbench.errors import UserError
from workbench.view.html.before_after import change_view
from workbench.view.html.compare import compare_view
from workbench.view.html.highlight import token_view
from workbench.view.html.layers import layers_of
from workbench.view.html.scale import BLUE, BY, LEVELS, ORANGE, Scale, alpha
from workbench.view.html.text import number, plain, visible
from workbench.view.widgets import TokenView

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def rgb(text):
    if text.startswith("#"):
        return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5)), 1.0
    *parts, a = (float(x) for x in re.findall(r"[\d.]+", text))
    return tuple(parts), a


def luminance(colour):
    parts = [c / 255 for c in colour]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def over(front, back):
    (f, a), (b, _) = rgb(front), rgb(back)
    return "#" + "".join(f"{round(a * x + (1 - a) * y):02x}" for x, y in zip(f, b, strict=True))


def contrast(ink, paper):
    ink = over(ink, paper)
    high, low = sorted((luminance(rgb(ink)[0]), luminance(rgb(paper)[0])), reverse=True)
    return (high + 0.05) / (low + 0.05)


THEMES = {
    "light": ("#1f2328", "#ffffff", "#59636e"),
    "dark": ("#e6edf3", "#151b23", "#9198a1"),
    "jupyterlab light": ("rgba(0,0,0,0.87)", "#ffffff", "#616161"),
    "jupyterlab dark": ("#ffffff", "#111111", "#bdbdbd"),
    "jupyterlab dark, raised": ("#ffffff", "#212121", "#bdbdbd"),
}


@pytest.mark.parametrize("theme", THEMES)
def test_text_on_every_colour_step_has_contrast(theme):
    ink, paper, muted = THEMES[theme]
    steps = [f"rgba({hue},{alpha(level)})" for hue in (ORANGE, BLUE) for level in range(1, LEVELS + 1)]
    steps += re.findall(r"(?:ins|del)\{background-color:(rgba\([^)]*\))", CSS)
    assert len(steps) == 2 * LEVELS + 2
    assert min(contrast(ink, over(step, paper)) for step in steps) >= 4.5
    assert contrast(muted, paper) >= 4.5


def test_themes_tested_are_the_themes_in_the_style_sheet():
    for name in ("light", "dark"):
        for colour in THEMES[name]:
            assert colour in CSS


def test_alpha_rises_with_the_step():
    steps = [alpha(level) for level in range(LEVELS + 1)]
    assert steps[0] == 0
    assert steps == sorted(set(steps))


def test_answers_stay_text():
    view = Text(token_view(scores_of(SAMPLES, SPANS), SAMPLES))
    assert [a.replace(" ∎", "") for a in view.answers] == [answer for _, answer in SAMPLES.values()]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_not_run(text):
    samples = {"<x>": (text, text)}
    table = scores_of(samples, scorer=text)
    for page in (token_view(table, samples, title=text), token_view(table, {})):
        view = Text(page)
        shown = view.answers[0].replace(" ∎", "").replace("[U+200D]", "\u200d")  # marked where a token of its own
        assert shown == html.unescape(re.sub(r"</?i[^>]*>", "", visible(text)))
        names = {tag for tag, _ in view.tags}
        assert names <= {"style", "div", "p", "span", "u", "b", "i", "form", "label", "input"}
        assert not any(key.startswith("on") or key in {"src", "href"} for _, attrs in view.tags for key in attrs)
        outside = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
        assert not re.search(r"[\x00-\x1f\x7f\u200b\u202a-\u202e]", outside)


def test_invisible_characters_get_marks():
    assert visible("a\nb") == 'a<i class="wb-x">↵</i>b'
    assert visible("\x1b[31m") == '<i class="wb-x">^[</i>[31m'
    assert "[U+202E]" in plain("\u202e")
    assert "[U+D83D]" in visible("\ud83d")
    assert visible("naïve 漢字") == "naïve 漢字"
    assert visible("👩\u200d🔬") == "👩\u200d🔬"  # the joiner makes one emoji of two
    assert "[U+200D]" in visible("a\u200db")


def test_right_to_left_rows_take_their_own_direction():
    assert '<div class="wb-a" dir="auto">' in token_view(scores_of(SAMPLES), SAMPLES)


def test_bar_counts_what_the_threshold_selects():
    page = token_view(scores_of(SAMPLES, SPANS), SAMPLES, threshold=0.5, alignment={"atwu": {"auroc": 0.876}})
    assert "<b>3</b> of 14 tokens selected · precision <b>1.00</b> recall <b>1.00</b> · AUROC <b>0.88</b>" in page
    assert page.count("<u ") == 3
    assert page.count('class="wb-s"') == 3


def test_precision_and_recall_by_hand():
    table = scores_of(SAMPLES, SPANS)
    table.loc[table["token"] == " Kuwait", "score"] = 0.0
    table.loc[table["token"] == " was", "score"] = 0.8
    page = token_view(table, SAMPLES, threshold=0.5)
    assert "<b>3</b> of 14 tokens selected · precision <b>0.67</b> recall <b>0.67</b>" in page


def test_without_spans_no_precision_and_the_rule_is_named():
    page = token_view(scores_of(SAMPLES), SAMPLES)
    assert "precision" not in page
    assert "(highest fifth)" in page
    assert "labelled span" not in page


def test_default_threshold_selects_as_many_as_labelled():
    page = token_view(scores_of(SAMPLES, SPANS), SAMPLES)
    assert "(as many as labelled)" in page
    assert page.count("<u ") == 3


def test_title_of_a_token():
    page = token_view(scores_of(SAMPLES, SPANS), SAMPLES)
    assert 'title="“Kuwait” · token 5 of 8 · in a labelled span&#10;atwu 0.90 ✓"' in page


def test_colours_are_inline_and_never_variables():
    page = token_view(scores_of(SAMPLES, SPANS), SAMPLES, css=False)
    styles = re.findall(r'style="([^"]*)"', page)
    assert styles
    assert not any("var(" in style for style in styles)
    assert f"background-color:rgba({ORANGE},{alpha(Scale(0, 1).level(0.9)):.2f})" in page


def test_several_scorers_switch_without_scripts():
    table = pd.concat([scores_of(SAMPLES, SPANS), scores_of(SAMPLES, SPANS, "surprisal").assign(score=range(14))])
    page = token_view(table, SAMPLES, scorer="surprisal")
    inputs = [attrs for tag, attrs in Text(page).tags if tag == "input" and attrs["name"] == "wb-scorer"]
    assert [("checked" in a, a["type"]) for a in inputs] == [(False, "radio"), (True, "radio")]
    assert "<script" not in page
    assert len(Text(page).answers) == len(SAMPLES)  # one text, recoloured
    assert ".wb:has(.wb-r1:checked) .wb-b1" in page
    assert re.search(r'data-w="0a 1.', page) or re.search(r'data-w="0b 1.', page)
    bars = re.findall(r'<div class="wb-bar wb-b\d">(.*?)</div>', page)
    assert '<span class="wb-leg">0 ' in bars[0]
    assert ' 13 <span class="wb-how">colour by value</span>' in bars[1]


def test_every_word_of_a_token_has_its_rule():
    table = pd.concat(
        [scores_of(SAMPLES, SPANS), scores_of(SAMPLES, None, "margin").assign(score=np.linspace(-2, 2, 14))]
    )
    table.loc[(table["scorer"] == "margin") & (table["position"] == 2), "score"] = np.nan
    page = token_view(table, SAMPLES)
    for name in ("data-w", "data-r", "data-l"):  # a choice of colour each
        words = {w for words in re.findall(rf'{name}="([^"]*)"', page) for w in words.split()}
        assert any(w.endswith("?") for w in words) == (name == "data-w")
        assert all(f'[{name}~="{word}"]' in page for word in words)


def test_signed_scores_use_two_hues():
    page = token_view(scores_of(SAMPLES).assign(score=np.linspace(-1, 2, 14)), SAMPLES, css=False)
    assert f"rgba({BLUE}" in page
    assert f"rgba({ORANGE}" in page
    assert "\u22122" in page


def test_equal_and_missing_scores_say_so():
    assert "all scores are equal (1.00)" in token_view(scores_of(SAMPLES, value=1.0), SAMPLES)
    nothing = token_view(scores_of(SAMPLES, value=float("nan")), SAMPLES)
    assert "scores not available for all 14 tokens" in nothing
    some = scores_of(SAMPLES)
    some.loc[2, "score"] = float("inf")
    page = token_view(some, SAMPLES)
    assert "not available: 1 of 14 tokens" in page
    assert "atwu not available" in page


def test_steps_show_first_and_last():
    table = pd.concat([scores_of(SAMPLES, step=s) for s in (0, 5, 10)])
    page = token_view(table, SAMPLES)
    assert "atwu, step 0<" in page
    assert "atwu, step 10<" in page
    assert "atwu, step 5<" not in page


def test_prompt_rows_are_left_out():
    table = scores_of(SAMPLES)
    prompt = table.assign(segment="prompt", score=100.0)
    assert token_view(pd.concat([prompt, table]), SAMPLES) == token_view(table, SAMPLES)


def test_a_cap_is_said():
    assert "Showing 1 of 2 samples" in token_view(scores_of(SAMPLES), SAMPLES, max_samples=1)
    assert "Showing" not in token_view(scores_of(SAMPLES), SAMPLES)


def test_uncovered_text_and_byte_pieces():
    table = scores_of({"a": ("", "café 👍 ok")})
    table = table[table["token"] != " ok"]
    extra = table.iloc[[1]].assign(position=99, start=4, end=4, token="�")
    view = Text(token_view(pd.concat([table, extra]), {"a": ("", "café 👍 ok")}))
    assert view.answers[0].replace(" ∎", "") == "café 👍 ok"


def test_user_errors():
    with pytest.raises(UserError, match="did you mean atwu"):
        token_view(scores_of(SAMPLES), SAMPLES, scorer="atw")
    with pytest.raises(UserError, match="no answer tokens"):
        token_view(scores_of(SAMPLES).iloc[:0], SAMPLES)
    with pytest.raises(UserError, match="'before' and 'after'"):
        change_view(token_table().query("phase == 'before'"), SAMPLES)


def test_the_dotted_line_of_a_label_is_explained_where_there_is_one():
    table = token_table()
    labelled = " ".join(change_view(table.assign(span=True), SAMPLES).split())
    assert "no longer is. Dotted line above: labelled span. Hover" in labelled
    assert "Dotted line" not in change_view(table.assign(span=False), SAMPLES)


def test_view_is_pure():
    table = pd.concat([scores_of(SAMPLES, SPANS), scores_of(SAMPLES, SPANS, "b")])
    before = table.copy(deep=True)
    assert token_view(table, SAMPLES) == token_view(table, SAMPLES)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.50"),
        (-2.0, "\u22122.00"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (0.0004, "0.0004"),
        (12345.6, "12,346"),
        (float("nan"), "not available"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_real_answers():
    path = DATA / "annotations" / "tofu_forget01_spans.jsonl"
    if not path.exists():
        pytest.skip("the TOFU annotations are not here")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    samples = {i: (r["question"], r["answer"]) for i, r in enumerate(rows)}
    spans = {i: r["spans"] for i, r in enumerate(rows)}
    view = Text(token_view(scores_of(samples, spans), samples, max_samples=100))
    assert [a.replace(" ∎", "") for a in view.answers] == [r["answer"] for r in rows]


def test_colour_goes_by_value_unless_the_reader_chooses() -> None:
    scores = np.array([0.0001 * i for i in range(100)] + [5.0])
    scale = Scale.of(scores)
    assert scale is not None
    assert {scale.level(s) for s in scores} == {0, LEVELS}  # whatever the other scores are
    assert "colour by value" in scale.legend()
    for by in ("rank", "logarithm"):
        other = scale.going_by(by)
        levels = [other.level(s) for s in scores]
        assert levels == sorted(levels)
        assert (levels[0], levels[-1]) == (0, LEVELS)
        assert f"colour by {by}" in other.legend()
    assert len({scale.going_by("rank").level(s) for s in scores}) == LEVELS + 1
    logarithm = Scale.of(np.array([0.001, 0.01, 0.1, 1.0]), "logarithm")
    assert [logarithm.place(s) for s in (0.0, 0.001, 0.01, 0.1, 1.0)] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])


def test_a_scale_ends_at_the_bound_that_its_scorer_declares() -> None:
    low = np.array([0.0, 0.1, 0.34])
    ends = {name: Scale.of(low, scorer=name).ends[1] for name in ("atwu", "specificity", "surprisal", "my own")}
    assert ends == {"atwu": 1.0, "specificity": 1.0, "surprisal": 0.34, "my own": 0.34}
    assert Scale.of(low / 10, scorer="atwu").ends[1] == pytest.approx(0.034)  # else there would be no colour at all
    table = pd.concat([scores_of(SAMPLES, scorer="surprisal", step=n).assign(score=0.2 + n / 10) for n in (0, 5)])
    _, layers, _ = layers_of(table.assign(score=table["score"] + table["position"] / 1000))
    assert layers[0].scale.ends == layers[1].scale.ends  # a colour says the same at both steps
    assert layers[0].scale.ends[1] == pytest.approx(table["score"].max() + table["position"].max() / 1000)


def test_two_hues_are_symmetric_by_any_choice() -> None:
    scores = np.array([-4.0, -1.0, -0.01, 0.0, 0.01, 1.0, 4.0])
    for by in BY:
        places = [Scale.of(scores, by).place(s) for s in scores]
        assert places == pytest.approx([-p for p in reversed(places)])
        assert places[3] == 0
        assert places[-1] > 0.9  # of ranks, those of equal scores are their middle
        assert places == sorted(places)


def test_an_unknown_choice_of_colour_is_one_line() -> None:
    for view in (token_view, compare_view, TokenView):
        with pytest.raises(UserError, match=r"unknown choice of colour 'ranks': did you mean rank\?"):
            view(scores_of(SAMPLES), SAMPLES, by="ranks")


def test_a_highlight_ends_where_its_word_ends() -> None:
    samples = {"x": ("Who?", "  Basil was\u00a0born  in Kuwait, \n twice ")}
    for texts in (samples, {}):  # cut from the answer, and put together from its tokens
        page = token_view(scores_of(samples).assign(score=0.9), texts)
        marked = re.findall(r"<(?:span|u) [^>]*title=[^>]*>(.*?)</(?:span|u)>", page)
        assert not any(text[:1].isspace() or text[-1:].isspace() for text in marked if "∎" not in text and text.strip())
        shown = Text(page).answers[0].replace(" ∎", "")
        assert shown == samples["x"][1].replace("\n", "↵")


def test_views_show_themselves() -> None:
    shown = token_view(scores_of(SAMPLES), SAMPLES)
    assert shown._repr_html_() == str(shown)
    assert type(shown._repr_html_()) is str
    assert repr(shown) == f"<HTML of {len(shown)} characters>"  # what a notebook keeps beside the HTML


def test_views_of_one_page_leave_each_others_colours_alone() -> None:
    """Rules of a view of one scorer name no input, and once recoloured the views with inputs that stand below it."""
    several = pd.concat([scores_of(SAMPLES, SPANS), scores_of(SAMPLES, SPANS).assign(scorer="other")])
    for view, own in (
        (scores_of(SAMPLES, SPANS), r"\.wb-m:not\(\.wb-many\)"),
        (several, r"\.wb-m:has\(\.wb-r\d:checked\)"),
    ):
        page = str(token_view(view, SAMPLES))
        rules = re.findall(r"([^{}]*)\{\[data-[wrl]~=", page)
        assert rules
        assert all(re.match(own, rule) for rule in rules)
        assert ("wb-many" in re.findall(r'class="(wb wb-m[^"]*)"', page)[0]) == (view is several)
    rules = re.findall(r"([^{}]*)\{\[data-[wrl]~=", str(compare_view(several, SAMPLES)))
    assert all(rule.startswith(".wb-m:not(.wb-many)") for rule in rules)
