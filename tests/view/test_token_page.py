"""The token view as a widget in a browser: what a person sees, does, and what of it reaches Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, tokenise
from sent_to_page import sent, some_scored, whole
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from widget_page import open_widget

from workbench.runs.directory import RunDirectory
from workbench.view.html.render import STATIC
from workbench.view.html.text import number
from workbench.view.widgets import BeforeAfter, TokenView


@pytest.fixture(scope="module")
def view(recorded_run: Path) -> TokenView:
    return TokenView.of_run(recorded_run)


@pytest.fixture
def page(chromium: Any, view: TokenView, tmp_path: Path) -> Any:
    page = open_widget(chromium, view, tmp_path)
    yield page
    assert page.messages == []
    page.close()


def summary(page: Any) -> str:
    return page.locator(".wb-bar .wb-last").first.inner_text()


def expected_summary(view: TokenView, name: str, unit: str) -> str:
    """The line above the text, by scikit-learn."""
    row = 0
    for layer in view.head["layers"]:
        row += len(layer["steps"])
        if layer["name"] == name:
            break
    scores = pd.Series(view._data.scores[row - 1])
    answers = len({view._data.index[i][0] for i in np.flatnonzero(scores.notna())})
    labelled = pd.Series([c == "1" for c in view.head["spans"]])
    if unit == "word":
        words = np.cumsum([int(c) for s in view.head["samples"] for c in s["words"]])
        scores, labelled = scores.groupby(words).mean(), labelled.groupby(words).any()
    sign = -1 if layer["falls"] else 1
    known = scores.notna()
    total, scores, labelled = len(scores), sign * scores[known], labelled[known]
    chosen = scores.astype("float32") >= np.float32(sign * layer["threshold"])
    scored = " with a score" if known.sum() < total else ""
    text = f"selected: {chosen.sum()} of {known.sum()} {unit}s{scored} ({100 * chosen.mean():.0f} %)"
    text += f" · precision {number(precision_score(labelled, chosen))} recall {number(recall_score(labelled, chosen))}"
    text += f" · AUROC {number(roc_auc_score(labelled, scores))} over {answers} answers"
    return text + (f" · not available: {total - known.sum()}" if total > known.sum() else "")


@pytest.mark.parametrize("unit", ["token", "word"])
def test_what_is_selected_and_how_well(page: Any, view: TokenView, unit: str) -> None:
    page.get_by_label("show").select_option(unit)
    for layer in view.head["layers"]:
        page.get_by_label("scorer").select_option(layer["name"])
        assert summary(page) == expected_summary(view, layer["name"], unit)


def test_colour_underline_and_step_follow_the_numbers(page: Any, view: TokenView) -> None:
    slider = page.get_by_label("step of the run")
    recorded = [each for each in sent(view) if each[0] == "probability"]
    page.get_by_label("scorer").select_option("probability")
    marks = page.locator(".wb-row").first.locator("[role=option]")
    for index, (_, step, values) in enumerate(recorded):
        slider.fill(str(index))
        assert f"step {step} of 12" in page.locator(".wb-step-now").inner_text()
        assert page.evaluate("model.get('step')") == step
        limit = page.evaluate("model.get('threshold')")
        on = ["wb-on" in (marks.nth(i).get_attribute("class") or "") for i in range(marks.count())]
        assert on == [bool(v >= np.float32(limit)) for v in values[: marks.count()]]
    page.get_by_label("threshold").evaluate("(s) => { s.value = 1; s.dispatchEvent(new Event('input')); }")
    assert page.evaluate("model.get('threshold')") == pytest.approx(view.head["layers"][0]["scale"]["high"])


def test_a_scorer_chosen_in_python_comes_with_its_threshold(chromium: Any, recorded_run: Path, tmp_path: Path) -> None:
    view = TokenView.of_run(recorded_run)
    limits = {layer["name"]: layer["threshold"] for layer in view.head["layers"]}
    other = next(name for name in limits if limits[name] != view.threshold)
    view.scorer = other
    page = open_widget(chromium, view, tmp_path)
    assert page.evaluate("model.get('threshold')") == limits[other]
    page.close()
    view.threshold = 0.123  # one's own stays
    page = open_widget(chromium, view, tmp_path)
    assert page.evaluate("model.get('threshold')") == 0.123
    page.close()


def test_keyboard_card_search_and_sort(page: Any, view: TokenView, recorded_run: Path) -> None:
    page.locator(".wb-text").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('chosen')") == [2]
    tokens = RunDirectory(recorded_run).table("tokens.parquet")
    sample, position = view._data.index[2]
    rows = tokens[
        (tokens["probe_set"] == "forget") & (tokens["sample_id"] == sample) & (tokens["position"] == position)
    ]
    card = page.locator(".wb-card").inner_text()
    chances = [np.exp(rows[rows["phase"] == phase]["logp"].iloc[0]) for phase in ("before", "after")]
    assert f"probability {number(chances[0])} → {number(chances[1])}" in card
    assert {layer["steps"][-1] for layer in view.head["layers"]} == {view.head["layers"][0]["steps"][-1]}
    assert not re.findall(r" step (\d+)", card)  # every score is of the step that is shown
    for text, _ in json.loads(rows[rows["phase"] == "after"]["alternatives"].iloc[0]):
        assert f"“{text}”" in card.replace("\xa0", " ")
    page.keyboard.press("Escape")
    assert page.evaluate("model.get('chosen')") == []
    assert not page.locator(".wb-card").is_visible()
    word = view.head["samples"][5]["texts"][-3].strip()
    page.get_by_label("search").fill(word.upper())
    shown = page.locator(".wb-row:not([hidden])")
    assert 0 < shown.count() < 24
    assert all(word.lower() in shown.nth(i).inner_text().lower() for i in range(shown.count()))
    page.get_by_label("search").fill("")
    page.get_by_label("sort by").select_option("damage")
    damage = view.head["orders"]["damage"]
    order = [t.removeprefix("sample ") for t in page.eval_on_selector_all(".wb-row", "rows => rows.map(r => r.title)")]
    known = [damage[name] for name in order if damage[name] is not None]
    assert known == sorted(known)


def test_pages_of_keys_take_the_token_along(page: Any, view: TokenView) -> None:
    box = page.locator(".wb-text")
    box.focus()
    page.keyboard.press("ArrowRight")
    inside = """() => { const [b, m] = [".wb-text", ".wb-text .wb-cur"].map((s) => document.querySelector(s));
        const [x, y] = [b.getBoundingClientRect(), m.getBoundingClientRect()];
        return y.top >= x.top - 1 && y.bottom <= x.bottom + 1 && [m.wbToken, b.scrollTop]; }"""
    places = [page.evaluate(inside)]
    for key in ("PageDown", "PageDown", "PageUp", "End", "Home"):
        page.keyboard.press(key)
        page.wait_for_timeout(50)
        places.append(page.evaluate(inside))
    assert all(places)  # in sight each time
    tokens = [token for token, _ in places]
    assert tokens[0] < tokens[1] < tokens[2] > tokens[3]
    assert tokens[4:] == [len(view.head["spans"]) - 1, 0]
    assert places[2][1] > 0


def test_only_what_has_a_score_is_shown_and_said(chromium: Any, tmp_path: Path) -> None:
    view = some_scored()
    page = open_widget(chromium, view, tmp_path)
    shown = page.locator(".wb-row:not([hidden])")
    assert shown.count() == 1
    assert "1 of 2 samples · 1 without a score at step 4" in page.locator(".wb-tools").inner_text()
    tokens = int((view.scores["scorer"] == "late").sum())
    assert f"of {tokens} tokens with a score (" in summary(page)
    assert "AUROC" not in summary(page)  # of one answer
    page.get_by_label("scorer").select_option("early")
    assert shown.count() == 2
    assert summary(page).endswith("scores of step 0")  # while the view is at step 4
    assert "AUROC" in summary(page)
    page.locator("[role=option]").first.hover()
    assert "early step 0" in page.locator(".wb-card").inner_text().replace("\t", " ")
    other = page.locator(".wb-row").nth(1).locator("[role=option]").first
    other.hover()
    card = page.locator(".wb-card tr", has_text="late")
    assert "not available" in card.inner_text()
    assert card.locator("i").count() == 0  # no bar of a value that is not there
    assert page.messages == []
    page.close()


def test_keys_of_controls_stay_and_commands_go_on(
    chromium: Any, view: TokenView, recorded_run: Path, tmp_path: Path
) -> None:
    """JupyterLab takes a key where no element around the focus says that it must not."""
    reached = """() => { window.reached = []; document.addEventListener("keydown", (event) => {
        if (!event.target.hasAttribute("data-lm-suppress-shortcuts")) window.reached.push(event.key); }, true); }"""
    for widget, focus in ((view, ".wb-text"), (view, "select"), (BeforeAfter(recorded_run), "input[type=search]")):
        page = open_widget(chromium, widget, tmp_path)
        page.evaluate(reached)
        page.locator(focus).first.focus()
        for key in ("a", "ArrowDown", "Control+a", "Control+s", "Control+Shift+c", "Control+c", "x", "Control+b"):
            page.keyboard.press(key)
        assert [key for key in page.evaluate("reached") if key not in ("Control", "Shift")] == ["s", "b"]
        page.close()


def test_numbers_are_written_as_in_python(page: Any) -> None:
    random = np.random.default_rng(0)
    values = [0.0, -0.0, 1.0, -0.004, 0.005, 0.0049, 1234.4, -98765.0, 0.1, 1e-7, 12.345]
    values += list(random.normal(size=200) * 10.0 ** random.integers(-4, 4, 200))
    page.evaluate("(code) => { globalThis.number = new Function(code + '; return number;')(); }", script_of_numbers())
    for value in values:
        assert page.evaluate("(x) => number(x)", value) == number(value), value


def script_of_numbers() -> str:
    return (STATIC / "token_view" / "elements.js").read_text(encoding="utf-8")


def hostile_view() -> TokenView:
    rows, samples = [], {}
    for i, text in enumerate([*HOSTILE, "x" * 10_000]):
        samples[f"<b>{i}</b>"] = (text, text)
        for position, (start, end) in enumerate(tokenise(text)):
            row = {
                "sample_id": f"<b>{i}</b>",
                "position": position,
                "token": text[start:end],
                "start": start,
                "end": end,
            }
            rows.append(
                row | {"segment": "answer", "scorer": "<s>a</s>", "step": 0, "score": position / 9, "span": None}
            )
    return TokenView(pd.DataFrame(rows), samples, title="<img src=x onerror=alert(1)>")


def test_hostile_texts_are_shown_and_nothing_runs(chromium: Any, tmp_path: Path) -> None:
    view = hostile_view()
    page = open_widget(chromium, view, tmp_path)
    page.on("dialog", lambda dialog: page.messages.append(dialog.message))
    rows = page.locator(".wb-row")
    for i in range(len(HOSTILE)):
        rows.nth(i).scroll_into_view_if_needed()
        rows.nth(i).locator("[role=option]").first.hover()
        sent = view.head["samples"][i]
        drawn = "".join(whole(sent["gaps"].get(str(n), "")) + whole(t or "") for n, t in enumerate(sent["texts"]))
        assert rows.nth(i).locator(".wb-a").evaluate("n => n.textContent").removesuffix(" ∎") == drawn
        assert whole(view.head["samples"][i]["texts"][0]) in page.locator(".wb-card-head").evaluate(
            "n => n.textContent"
        )
        assert "\x1b" not in drawn
        assert "\u202e" not in drawn
    assert page.locator("script:not([type=module]), main img, main b").evaluate_all(
        "n => n.every(x => x.tagName === 'B')"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.messages == []
    page.close()
