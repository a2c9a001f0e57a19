"""Scorers side by side: text stays whole and escaped, numbers are true, what is undefined says why."""

import html
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from pages import Text

from workbench import score_task
from workbench.errors import UserError
from workbench.view.charts.scores import (
    agreement_chart,
    disagreement_chart,
    distribution_chart,
    matrix_chart,
    targets_chart,
    template,
)
from workbench.view.html.agreement import agreement_view, disagreement_view
from workbench.view.html.compare import Comparison, brief, columns, compare_view, token_matrix
from workbench.view.html.scale import Scale
from workbench.view.html.text import NOT_AVAILABLE, number, shortened, visible

SCORERS = ["surprisal", "wga", "random", "uniform"]
TOKENS = ["<script>alert(1)</script>", " \"q\" & 's'", "zero\u200bwidth", "\n", " 👩‍🔬", " مرحبا", "$x$", "&amp;", ""]
HOSTILE = "".join(TOKENS)
ID = '<i id="x">'
TAGS = set(re.findall(r"\w+", "style form label input div p span u b i wbr table thead tbody tr th td small sup"))


@pytest.fixture(scope="module")
def samples(small):
    return {s.id: (s.question, s.answer) for s in small.forget}


@pytest.fixture(scope="module")
def scores(full, small):
    return score_task(full, small, SCORERS)


def rows(scorer, segment, sign=1.0, texts=TOKENS):
    start, out = 0, []
    for position, text in enumerate(texts):
        score = math.nan if position == 2 else sign * (position - 3) / 10
        out.append(
            {"task": "t", "sample_id": ID, "position": position, "token_id": 0, "token": text, "start": start}
            | {"end": start + len(text), "segment": segment, "scorer": scorer, "step": 0, "score": score}
            | {"span": None if segment == "prompt" else position in (3, 4)}
        )
        start += len(text)
    return out


@pytest.fixture(scope="module")
def hostile():
    """Scorer `<s>a</s>` has answers only; `b` has the question too."""
    return pd.DataFrame([*rows("<s>a</s>", "answer", -1), *rows("b", "answer"), *rows("b", "prompt", 5, TOKENS[:-1])])


def agreement(names=("a", "<s>b</s>", "flat"), value=-0.4):
    why = {"value": None, "reason": "all <b>scores</b> are equal"}
    table = {
        a: {b: why if "flat" in (a, b) else 1.0 if a == b else value for b in names} for a in names
    }  # the shape that `workbench.evals.agreement` gives
    both = {"pooled": table, "per_sample": table}
    return {"scorers": list(names), "samples": 3, "tokens": 1200, "top": 0.2} | dict.fromkeys(
        ("spearman", "kendall", "top_k_overlap"), both
    )


DISAGREEMENT = pd.DataFrame(
    {
        "sample_id": [ID, "b", "c"],
        "disagreement": [1.125, 0.25, math.nan],
        "pairs": [3, 1, 0],
        "most_apart": ["<s>a</s> / b", "a / b", None],
    }
)


def styles_gone(page):
    return re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_every_scorer_shows_the_whole_answer(scores, samples):
    view = Text(compare_view(scores, samples, max_samples=3))
    shown = [a.replace(" ∎", "") for a in view.answers]
    ids = list(dict.fromkeys(scores["sample_id"]))
    picked = [ids[0], ids[round((len(ids) - 1) / 2)], ids[-1]]
    assert shown == [samples[i][1] for i in picked for _ in SCORERS]


def test_colour_follows_each_scorers_own_scale(scores, samples):
    first = next(iter(samples))
    page = compare_view(scores, samples, order=[first])
    blocks = re.findall(r'<div class="wb-pair"><span>(\w+)</span>(.*?)</div></div>', page)
    assert [name for name, _ in blocks] == SCORERS
    for name, block in blocks:
        part = scores[scores["scorer"] == name]
        scale = Scale.of(part["score"].to_numpy(), scorer=name)
        own = part[part["sample_id"] == first]
        levels = [bool(scale.level(x)) for x in own["score"]]
        assert [("style=" in tag) for tag in re.findall(r"<(?:span|u) [^>]*title=[^>]*>", block)] == levels


def test_titles_give_every_scorer(scores, samples):
    first = next(iter(samples))
    row = scores[scores["sample_id"] == first].groupby("position").get_group(1)
    lines = [rf"{s} {re.escape(number(x))}(?: ✓)?" for s, x in zip(row["scorer"], row["score"], strict=True)]
    page = compare_view(scores, samples, order=[first])
    assert len(re.findall("&#10;".join(lines) + '"', page)) >= len(SCORERS)


def test_order_choice_and_cap(scores, samples):
    ids = list(samples)
    page = compare_view(scores, samples, scorers=["random", "wga"], order=[ids[5], ids[2], ids[0]], max_samples=2)
    assert re.findall(r'class="wb-row" title="sample ([^"]*)"', page) == [ids[5], ids[2]]
    assert re.findall(r'class="wb-pair"><span>(\w+)<', page) == ["random", "wga"] * 2
    assert f"Showing 2 of {len(ids)} samples." in page
    assert "(as many as labelled)" in page


def test_foot_names_scales(scores, samples):
    page = compare_view(scores, samples)
    keys = re.findall(r'<span class="wb-key"><b>(\w+)</b> (.*?)</span>(?= <span class="wb-key">|</div>)', page)
    assert [name for name, _ in keys] == SCORERS
    assert dict(keys)["uniform"] == "all 1.00"
    legend = '<span class="wb-leg wb-by0"><span class="wb-leg">0 '
    assert dict(keys)["random"].startswith(legend)


def test_hostile_text_is_shown_not_run(hostile):
    samples = {ID: (HOSTILE, HOSTILE)}
    for page in (compare_view(hostile, samples, title=HOSTILE), token_matrix(hostile, ID, title=HOSTILE)):
        view = Text(page)
        assert {tag for tag, _ in view.tags} <= TAGS
        assert not any(k.startswith("on") or k in {"src", "href"} for _, attrs in view.tags for k in attrs)
        assert not re.search(r"[\x00-\x1f\x7f\u200b]", styles_gone(page))
    drawn = html.unescape(re.sub(r"</?i[^>]*>", "", visible(HOSTILE)))
    answers = Text(compare_view(hostile, samples)).answers
    assert [a.replace(" ∎", "") for a in answers] == [drawn] * 2


def test_a_question_is_highlighted_where_it_has_scores(hostile):
    page = compare_view(hostile, {ID: (HOSTILE, HOSTILE)})
    assert page.count('class="wb-a wb-ask"') == 1
    assert page.count('<div class="wb-q"') == 1
    only = compare_view(hostile, {ID: (HOSTILE, HOSTILE)}, scorers=["<s>a</s>"])
    assert 'class="wb-a wb-ask"' not in only
    scored = {s.answer.name: s for s in Comparison.of(hostile, None).scored}
    shared = scored["b"].answer.scale  # of question and answer
    assert (shared, shared.low, shared.high) == (scored["b"].prompt.scale, -2.0, 2.0)
    question = re.search(r'<div class="wb-a wb-ask".*?</div>', page).group()
    assert "<u " not in question
    assert "b 2.00" in question


def test_missing_scores_are_hatched_and_said(hostile):
    page = compare_view(hostile, {ID: ("", HOSTILE)})
    assert page.count('class="wb-na"') == 3  # the NaN in two answers and one question
    assert f"b {NOT_AVAILABLE}" in page
    matrix = token_matrix(hostile, ID)
    cells = re.findall(r"<td[^>]*wb-na[^>]*>([^<]*)</td>", matrix)
    assert cells == [""] * (len(TOKENS) - 1 + 1 + 2)  # the question under `<s>a</s>`, its NaN, and two under b
    assert matrix.count(NOT_AVAILABLE) == len(cells) + 1


def test_matrix_of_real_scores(scores, samples):
    first = next(iter(samples))
    page = token_matrix(scores, first, scorers=["random", "wga"])
    table = scores[(scores["sample_id"] == first) & (scores["scorer"] == "random")]
    heads = re.findall(r'<th scope="col"[^>]*><span>(.*?)</span></th>', page)
    assert heads == [*(t.strip() for t in table["token"][:-1]), "∎"]
    body = re.findall(r"<tr><th scope=\"row\">(\w+)</th>(.*?)</tr>", page)
    assert [name for name, _ in body] == ["random", "wga"]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", body[0][1]) == [f"{x:.2f}" for x in table["score"]]
    assert page.count('class="wb-s"') == int(table["span"].sum())
    assert "question</th>" not in page
    Text(page)


def test_matrix_puts_the_question_first(hostile):
    page = token_matrix(hostile, ID)
    count = len(TOKENS)
    assert f'colspan="{count - 1}">question</th><th class="wb-cut" colspan="{count}">answer</th>' in page
    tokens = columns(Comparison.of(hostile, None), ID)
    assert [c.segment for c in tokens] == ["question"] * (count - 1) + ["answer"] * count
    assert [math.isnan(c.scores[0]) for c in tokens[:8]] == [True] * 8
    assert styles_gone(page).count("wb-cut") == 1 + 1 + 2  # the divider: group head, head, and a cell a scorer


def test_tiny_numbers_share_a_power_of_ten(scores, samples):
    page = token_matrix(scores, next(iter(samples)), scorers=["surprisal"])
    power = Comparison.of(scores, ["surprisal"]).scored[0].power
    assert power < 0
    assert power % 3 == 0
    assert f"surprisal <small>×10<sup>{number(power, 0)}</sup></small>" in page  # noqa: RUF001
    assert [brief(x, p) for x, p in ((0.0031, -3), (-0.001, 0), (123.4, 0), (-0.5, 0))] == [
        "3.10",
        "0.00",
        "123",
        "−0.50",  # noqa: RUF001
    ]


def test_agreement_numbers_colours_and_reasons():
    page = agreement_view(agreement(), title="<b>")
    assert page.count(">−0.40</td>") == 2  # noqa: RUF001
    assert f'title="a / &lt;s&gt;b&lt;/s&gt; {number(-0.4, 4)}"' in page
    assert page.count(">–</td>") == 5  # noqa: RUF001
    assert page.count("not available: all &lt;b&gt;scores&lt;/b&gt; are equal") == 5
    assert page.count("– all &lt;b&gt;scores&lt;/b&gt; are equal: a / flat, ") == 1  # noqa: RUF001
    assert "rgba(31,111,220" in page
    assert "1,200 tokens of 3 samples" in page
    assert "<s>" not in page
    Text(page)


@pytest.mark.parametrize(
    ("measure", "text"),
    [("spearman", "Spearman rank correlation"), ("kendall", "Kendall tau-b"), ("top_k_overlap", "chance gives 0.20")],
)
def test_agreement_explains_its_measure(measure, text):
    page = agreement_view(agreement(value=0.4), measure=measure, level="per_sample")
    assert text in page
    assert "mean over samples" in page


def test_disagreement_ranks_and_escapes():
    long = "<b>Why</b> " + "word " * 40
    page = disagreement_view(DISAGREEMENT, {ID: (long, ""), "b": ("", "The answer."), "c": ("Who?", "")}, limit=2)
    cells = re.findall(r"<tr><th scope=\"row\">(\d)</th><td><span title=\"[^\"]*\">(.*?)</span></td>", page)
    assert cells[0][1].startswith("&lt;b&gt;Why&lt;/b&gt; word")
    assert cells[0][1].endswith("word…")
    assert [c[0] for c in cells] == ["1", "2"]
    assert cells[1][1] == "The answer."
    assert ">1.12</span>" in page
    assert "width:56%" in page  # 1.12 of what it can be, 2
    assert "width:12%" in page
    alone = disagreement_view(DISAGREEMENT.assign(disagreement=0.97), {})
    assert "width:48%" in alone
    assert "width:97%" not in alone
    assert "Showing 2 of 3 samples" in page
    assert "&lt;s&gt;a&lt;/s&gt; / b" in page
    assert NOT_AVAILABLE in disagreement_view(DISAGREEMENT, {})
    Text(page)


def test_shortened():
    assert shortened("one two three", 13) == "one two three"
    assert shortened("one two three", 9) == "one two…"
    assert shortened("a" * 20, 10) == "a" * 9 + "…"


def test_user_errors(scores, samples):
    with pytest.raises(UserError, match="did you mean wga"):
        compare_view(scores, samples, scorers=["wgo"])
    with pytest.raises(UserError, match="unknown sample 'nobody'"):
        token_matrix(scores, "nobody")
    with pytest.raises(UserError, match="unknown sample 'nobody'"):
        compare_view(scores, samples, order=["nobody"])
    with pytest.raises(UserError, match="no answer tokens"):
        compare_view(scores.iloc[:0], samples)
    with pytest.raises(UserError, match="did you mean spearman"):
        agreement_view(agreement(), measure="spearmen")
    with pytest.raises(UserError, match="unknown level"):
        agreement_chart(agreement(), level="token")


def test_views_are_pure(scores, samples):
    before = scores.copy(deep=True)
    assert compare_view(scores, samples) == compare_view(scores, samples)
    pd.testing.assert_frame_equal(scores, before)
    assert ".wb-row{" not in compare_view(scores, samples, css=False)


def test_charts_are_small_transparent_and_offline(scores, samples):
    figures = [
        agreement_chart(agreement()),
        matrix_chart(scores, next(iter(samples))),
        distribution_chart(scores),
        disagreement_chart(DISAGREEMENT),
    ]
    for figure in [*figures, targets_chart(np.eye(2), ["a", "b"])]:
        text = figure.to_json()
        assert "http" not in text
        assert len(text) < 40_000
        layout = json.loads(text)["layout"]["template"]["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert template().layout.font.color == "#797e86"


def test_charts_escape_and_explain(hostile):
    charts = [matrix_chart(hostile, ID), agreement_chart(agreement()), disagreement_chart(DISAGREEMENT)]
    for figure in [*charts, distribution_chart(hostile)]:
        drawn = re.sub(r"</?u>|<br>|<extra></extra>", "", json.dumps(figure.to_dict(), default=list))
        assert "<" not in drawn
        assert "\u200b" not in drawn
        assert "$" not in drawn
    heat = charts[1].data[0]
    assert heat.z[0][2] is None
    assert heat.customdata[0][2] == "a / flat: not available, all &lt;b&gt;scores&lt;/b&gt; are equal"
    assert [a.text for a in charts[1].layout.annotations] == ["–"] * 5  # noqa: RUF001
    ticks = charts[0].layout.xaxis.ticktext
    assert ticks[3] == "↵"
    assert ticks[len(TOKENS) - 1 + 3] == "<u>↵</u>"
    assert len(ticks) == 2 * len(TOKENS) - 1


def test_a_title_lists_every_scorer_while_they_are_few(scores, samples):
    one = scores[scores["scorer"] == "random"]
    for count in (12, 13):
        many = pd.concat([one.assign(scorer=f"s{i}") for i in range(count)])
        titles = re.findall(r'title="(“[^"]*)"', compare_view(many, samples, max_samples=1))
        assert {len(t.split("&#10;")) - 1 for t in titles} == {count if count == 12 else 1}


def test_targets_chart_is_a_row_an_answer_token():
    rows = np.array([[1.0, 0.0, 0.0], [-2.0, 4.0, 0.0]])
    assert list(targets_chart(rows, [" ", "", ""]).layout.xaxis.ticktext) == ["␣", "·", "∎"]
    figure = targets_chart(rows, ["Who<b>", " $a$", ""])
    assert list(figure.layout.xaxis.ticktext) == ["Who&lt;b&gt;", "&#36;a&#36;", "∎"]
    assert list(figure.layout.yaxis.ticktext) == ["&#36;a&#36;", "∎"]
    assert figure.data[0].z[1][1] == 1
    assert figure.data[0].customdata[1][0] == "∎ ← Who&lt;b&gt;: −2.000"  # noqa: RUF001


def test_matrix_chart_scales_each_row(scores, samples):
    heat = matrix_chart(scores, next(iter(samples)), scorers=["surprisal", "random"]).data[0]
    assert len(heat.z) == 2
    assert all(0 <= x <= 1 for row in heat.z for x in row)
    assert max(heat.z[1]) > 0.5


def test_distribution_is_apart_by_label(scores):
    figure = distribution_chart(scores)
    part = scores[(scores["scorer"] == "surprisal") & scores["span"]]["score"]
    assert figure.data[0].name == "in labelled spans"
    assert figure.data[0].median[0] == pytest.approx(np.median(part))
    assert {b.name for b in distribution_chart(scores.assign(span=None)).data} == {"answer tokens"}
