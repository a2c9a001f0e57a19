"""Tables of numbers: every value or the reason why there is none, and what it means, on hover and as text."""

import html
import re

import pytest
from pages import CSS, Text

from workbench.view.html.agreement import agreement_view
from workbench.view.html.tables import alignment_table, cost_table, metrics_view, summary_view

HOSTILE = "<script>alert(1)</script>"
NOTHING = {"value": None, "reason": "needs wrong answers"}
METRICS = {
    "before": {"forget": {"probability": 0.97, "truth_ratio": NOTHING}},
    "after": {"forget": {"probability": 0.081, "truth_ratio": NOTHING}},
}
KNOWN = {
    "probability": {
        "direction": "higher",
        "range": "0 to 1",
        "unit": "share",
        "split": "any",
        "formula": 'exp(-mean l_t), l_t > 0, "nats"',
        "aggregate": "Plain mean over answers.",
        "source": "somebody 2024; sure",
        "differs": "they add 1e-10",
    },
    "truth_ratio": {"direction": "see split", "range": "0 to 1", "formula": "R", "source": "somebody else"},
}
TOFU = {
    "suite": "tofu",
    "summary": {"probability": 0.7312, "truth_ratio": NOTHING},
    "parts": {
        "probability": {"retain rouge": 0.25, "samples": 1040, "ratios": {"a": 1.0, "b": 2.0}, "lost": None},
        "truth_ratio": {"auc": {"value": None, "reason": "all are equal"}},
    },
}


def text_of(page):
    """The page's text, without attributes."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).replace("\xa0", " ").split())


def titles(page):
    """What is shown on hover, by the name that carries it."""
    terms = [a for tag, a in Text(page).tags if tag == "span" and a.get("class") == "wb-def"]
    assert all(a["tabindex"] == "0" for a in terms)
    return [a["title"] for a in terms]


def test_metrics_view_names_reasons():
    page = metrics_view(METRICS, KNOWN)
    assert "<small>0.97 →</small> 0.08" in page
    assert 'title="needs wrong answers">not available' in page
    assert "truth ratio not available: needs wrong answers (forget)." in page
    both = {phase: {"forget": {"truth_ratio": NOTHING, "rouge": NOTHING}} for phase in ("before", "after")}
    assert "truth ratio, rouge not available: needs wrong answers (forget)." in metrics_view(both, KNOWN)


def test_metrics_view_defines_at_the_point_of_use():
    page = metrics_view(METRICS, KNOWN, css=False)
    assert "probability ↑ 0 to 1, share" in text_of(page)
    assert titles(page)[0].split("\n") == [
        'exp(-mean l_t), l_t > 0, "nats"',
        "over a set: plain mean over answers",
        "range: 0 to 1",
        "unit: share",
        "sets: any",
        "source: somebody 2024 (sure)",
        "differs from open-unlearning: they add 1e-10",
    ]
    assert "reversed on the forget set, except for truth ratio." in page


def test_nothing_is_on_hover_only():
    for page in (metrics_view(METRICS, KNOWN), summary_view(TOFU, KNOWN)):
        folded = text_of(page.split('<details class="wb-defs">')[1])
        hover = titles(page)
        assert len(hover) == len(KNOWN)
        assert all(line in folded for title in hover for line in title.split("\n"))
        assert "needs wrong answers" in text_of(page)
    assert "@media print{.wb-defs::details-content{content-visibility:visible" in CSS
    assert "content:attr(title)" in CSS  # with the keyboard's focus


def test_names_and_definitions_are_escaped():
    hostile = {"direction": "lower", **dict.fromkeys(KNOWN["probability"].keys() - {"direction"}, HOSTILE)}
    metrics = {"before": {HOSTILE: {HOSTILE: {"value": None, "reason": HOSTILE}}}}
    result = {"suite": HOSTILE, "summary": metrics["before"][HOSTILE], "parts": {HOSTILE: {HOSTILE: HOSTILE}}}
    result |= {"reference": HOSTILE, "convention": HOSTILE, "general": {HOSTILE: {HOSTILE: 1.0}}}
    result["curve"] = [{"step": 0, "rows": HOSTILE, HOSTILE: 0.5}]
    for page in (metrics_view(metrics, {HOSTILE: hostile}), summary_view(result, {HOSTILE: hostile})):
        assert "<script" not in page
        assert HOSTILE in titles(page)[0]
        assert HOSTILE in text_of(page)


def test_without_definitions_a_table_has_names_only():
    page = metrics_view(METRICS, css=False)
    assert "wb-def" not in page
    assert "↑" not in page
    Text(page)


def test_summary_view():
    page = summary_view(TOFU | {"reference": "bio-retain"}, KNOWN, css=False)
    shown = text_of(page)
    assert shown.startswith("tofu metric value range sets trust probability ↑ 0.73 0 to 1, share any")
    assert "retain rouge 0.25 samples 1,040 ratios 2 values lost not available" in shown
    assert "truth ratio ↑ not available 0 to 1 needs wrong answers auc not available: all are equal" in shown
    assert "Compared with bio-retain." in shown
    assert "svg" not in page
    assert "convention" not in summary_view(TOFU | {"convention": "ours"}, KNOWN, css=False)
    assert "convention of theirs" in summary_view(TOFU | {"convention": "theirs"}, KNOWN, css=False)


def test_arrows_to_a_number():
    known = {"probability": {"direction": "near 0.5", "formula": "AUC"}}
    assert "probability → 0.5 0.73" in text_of(summary_view(TOFU, known, css=False))


@pytest.mark.parametrize("rows", [("rest", "all"), (None,)])
def test_the_relearning_curve_is_drawn_and_told(rows):
    curve = [
        {"step": step, "probability": 0.1 + step / 20, "truth_ratio": None, "perplexity": 3.0}
        | ({"rows": r} if r else {})
        for step in (0, 5, 10)
        for r in rows
    ]
    page = summary_view(TOFU | {"curve": curve}, KNOWN, css=False)
    assert page.count("<svg") == 1
    assert "tofu, relearning: probability" in page
    assert ("not trained on: 0.10 to 0.60" in page) == (rows[0] == "rest")
    numbers = page.split("Every number")[1]
    assert numbers.count("<tr>") == 1 + len(curve)
    assert "truth ratio" not in numbers
    Text(page)


def test_a_suite_without_summaries_says_so():
    assert "no summaries" in summary_view({"suite": "basic", "summary": {}, "parts": {}})
    general = {"suite": "basic", "summary": {}, "general": {"arc_easy": {"acc": 0.31, "alias": "x"}}}
    assert "arc easy acc 0.31" in text_of(summary_view(general, css=False))
    assert summary_view(general).count("<style>") == 1


def test_alignment_table():
    alignment = {"a": {"auroc": 0.6, "auroc_per_sample": 0.5, "ap": 0.4}, "b": {"auroc": 0.9}}
    alignment["c"] = {key: {"value": None, "reason": "all scores are equal"} for key in alignment["a"]}
    page = alignment_table(alignment, css=False)
    assert page.index(">b<") < page.index(">a<") < page.index(">c<")
    assert 'title="all scores are equal"' in page
    assert "not available: all scores are equal (c)." in page
    assert "AUROC ↑ 0 to 1, chance 0.5" in text_of(page)
    counted = {name: {"auroc": 0.6, "answers": 40, "tokens": 1812, "in_spans": 340} for name in "ab"}
    line = "The values are over 40 answers of 1,812 tokens in all, 340 of them in spans"
    assert f"{line}." in text_of(alignment_table(counted, css=False))
    counted["b"] = counted["b"] | {"answers": 1}
    assert f"{line} (a)." in text_of(alignment_table(counted, css=False))
    folded = text_of(page.split("Definitions")[1])
    assert len(titles(page)) == 4
    assert all(title.split("\n")[0] in folded for title in titles(page))


@pytest.mark.parametrize("measure", ["spearman", "kendall", "top_k_overlap"])
def test_agreement_is_defined(measure):
    values = {a: {b: 1.0 for b in "xy"} for a in "xy"}
    agreement = {"scorers": ["x", "y"], "samples": 1, "tokens": 9, "top": 0.2, measure: {"pooled": values}}
    page = agreement_view(agreement, measure=measure, css=False)
    (hover,) = titles(page)
    assert "range: " in hover
    assert hover.split("\n")[0] in text_of(page)
    assert "↑ higher: more alike." in page


def test_cost_table():
    cost = {"phases": {"forget": {"tokens": 32000, "flops": 3.1e12, "seconds": 4.25, "calls": 8}}}
    page = cost_table(cost)
    assert "32 k" in page
    assert "3.1 TFLOP" in page
    assert "Peak memory: <b>not available</b>" in page


def test_definitions_take_the_colours_whose_contrast_is_tested():
    rules = re.findall(r"\.wb-(?:def|parts|sums|heads)[^{]*\{([^}]*)\}", CSS)
    colours = [c for rule in rules for c in re.findall(r"(?<![\w-])(?:color|background(?:-color)?):([^;]*)", rule)]
    assert colours
    assert set(colours) <= {"var(--wb-ink)", "var(--wb-mut)"}
