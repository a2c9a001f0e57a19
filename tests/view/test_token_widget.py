"""The token view as a widget: what it sends, what it says to Python, and what a browser makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, SAMPLES, SPANS, scores_of, token_table, tokenise
from runs_of import config_of, own_files
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from tables import table_of
from widget_page import open_widget

from workbench.errors import UserError
from workbench.runs import execution
from workbench.runs.directory import RunDirectory
from workbench.unlearning.settings import Settings
from workbench.view.html.highlight import layers_of, token_view
from workbench.view.html.render import STATIC
from workbench.view.html.text import number
from workbench.view.widgets import BeforeAfter, CompareView, TokenView
from workbench.view.widgets.token_payload import BOOK, CHANGE, NONE, _coded


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with recorded scores at several steps."""
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=12, batch_size=8, lr=1e-3, record_every=3, record_samples=8)
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=8), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def view(run: Path) -> TokenView:
    return TokenView.of_run(run)


def sent(view: TokenView) -> list[tuple[str, int, np.ndarray]]:
    """(scorer, step, a float32 a token) as the browser reads them."""
    codes = np.frombuffer(view.codes, dtype="<u2").reshape(-1, len(view.head["spans"]))
    books, arrays, row, first = np.frombuffer(view.books, dtype="<f4"), [], 0, 0
    for layer in view.head["layers"]:
        book = np.append(books[first : first + layer["size"]], np.nan)
        first += layer["size"]
        for step in layer["steps"]:
            arrays.append((layer["name"], step, book[np.where(codes[row] == NONE, layer["size"], codes[row])]))
            row += 1
    assert (row, first) == (len(codes), len(books))
    return arrays


def whole(parts: Any) -> str:
    return parts if isinstance(parts, str) else "".join(parts)


def test_scores_arrive_as_they_are_and_missing_ones_as_missing(run: Path, view: TokenView) -> None:
    table = RunDirectory(run).table("scores.parquet")
    for name, step, values in sent(view):
        if name == CHANGE:
            continue
        part = table[(table["scorer"] == name) & (table["step"] == step)].set_index(["sample_id", "position"])["score"]
        expected = part.reindex(pd.MultiIndex.from_tuples(view._data.index)).to_numpy().astype("float32")
        np.testing.assert_array_equal(values, expected)
        assert np.isnan(values).any() == (0 < step < 12)  # 8 of 24 samples are recorded on the way


@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_more_scores_than_16_bits_can_number(spread: float) -> None:
    scores = np.random.default_rng(0).lognormal(sigma=spread, size=(4, 40_000))
    codes, book = _coded(scores, np.sort(scores, axis=None))
    decoded, width = book[codes].astype(float), np.ptp(scores)
    assert np.abs(decoded - scores).max() <= 2 / BOOK * width
    ranks = [np.searchsorted(np.sort(scores.ravel()), x.ravel()) / scores.size for x in (decoded, scores)]
    assert np.abs(ranks[0] - ranks[1]).max() <= 2 / BOOK
    assert (_coded(np.full((1, 3), 7.0), np.full(3, 7.0))[0] == 0).all()


def test_texts_tile_the_answers(bio: Any, view: TokenView) -> None:
    answers = {s.id: s for s in bio.forget}
    for sample in view.head["samples"]:
        texts = [whole(sample["gaps"].get(str(i), "")) + whole(t or "") for i, t in enumerate(sample["texts"])]
        assert "".join(texts) + whole(sample["gaps"].get("-1", "")) == answers[sample["id"]].answer
        assert whole(sample["ask"]) == answers[sample["id"]].question
        words = answers[sample["id"]].answer.split()
        assert sample["words"].count("1") == len(words)


def test_the_threshold_is_that_of_the_static_twin(run: Path, view: TokenView) -> None:
    _, layers, _ = layers_of(RunDirectory(run).table("scores.parquet"))
    twin = {layer.scorer: layer.threshold for layer in layers}  # of a scorer's last step
    mine = {layer["name"]: layer["threshold"] for layer in view.head["layers"] if layer["name"] != CHANGE}
    assert mine == pytest.approx(twin)


def test_a_selected_token_is_told_with_its_scores(run: Path, view: TokenView) -> None:
    assert view.scorer == "atwu"  # the weights, not the probabilities recorded beside them
    table = RunDirectory(run).table("scores.parquet")
    one = table[table["scorer"] == "atwu"].iloc[3]
    view.step = 12
    view.select(one["sample_id"], one["position"])
    rows = table[(table["sample_id"] == one["sample_id"]) & (table["position"] == one["position"])]
    last = rows[rows["step"] == 12].set_index("scorer")["score"].to_dict()
    selected = dict(view.selected[0]["scores"])
    assert selected.pop(CHANGE) is not None
    assert selected == pytest.approx(last)
    assert view.selected[0]["token"] == one["token"]
    view.step = 7  # what was newest then
    assert view.selected[0]["scores"]["atwu"] == pytest.approx(
        rows[rows["step"] == 6].set_index("scorer").loc["atwu", "score"]
    )
    assert view.selected[0]["steps"] == {"probability": 6, "atwu": 6, CHANGE: 12}
    with pytest.raises(UserError, match="no answer token at position 9999"):
        view.select(one["sample_id"], 9999)
    view.select(*view._data.index[5], add=True)
    assert [(each["sample_id"], each["position"]) for each in view.selected] == [
        (one["sample_id"], one["position"]),
        view._data.index[5],
    ]
    view.chosen, view.step = [], 12
    assert view.selected == []


def some_scored() -> TokenView:
    """`early` has all samples at step 0; `late` has one of them at step 4, where all else is not recorded."""
    early, late = scores_of(SAMPLES, SPANS, "early"), scores_of(SAMPLES, SPANS, "late", step=4)
    return TokenView(pd.concat([early, late[late["sample_id"] == "a"]], ignore_index=True), SAMPLES, scorer="late")


def test_static_rows_are_those_with_scores() -> None:
    view = some_scored()
    html = token_view(view.scores, SAMPLES, scorer="late", max_samples=1)
    assert "sample a" in html
    tokens = int((view.scores["scorer"] == "late").sum())
    assert f"of {tokens} tokens with a score selected" in html
    assert "late, step 4" in html
    assert "early, step 0" in html  # two steps side by side say which they are of


def test_an_auroc_of_one_answer_is_not_shown() -> None:
    table, values = scores_of(SAMPLES, SPANS), {"atwu": {"auroc": 0.75}}
    assert "AUROC <b>0.75" in token_view(table, SAMPLES, alignment=values)
    one = token_view(table[table["sample_id"] == "a"], SAMPLES, alignment=values)
    assert "AUROC" not in one
    assert "precision" in one


def test_a_change_is_coloured_by_all_it_can_be() -> None:
    tokens = token_table()
    after = tokens["phase"] == "after"
    small = np.where(after, tokens["logp"] - 1e-4 * (1 + tokens["position"]), tokens["logp"])
    head = TokenView(scores_of(SAMPLES), SAMPLES, tokens=tokens.assign(logp=small)).head
    scale = next(layer["scale"] for layer in head["layers"] if layer["name"] == CHANGE)
    assert (scale["low"], scale["high"]) == (-1.0, 1.0)


def test_bad_tables_are_one_line(run: Path, tmp_path: Path) -> None:
    table = RunDirectory(run).table("scores.parquet")
    with pytest.raises(UserError, match="no answer tokens"):
        TokenView(table[:0], {})
    with pytest.raises(UserError, match="unknown scorer 'atwo': did you mean atwu"):
        TokenView(table, {}, scorer="atwo")
    with pytest.raises(UserError, match="no run directory"):
        TokenView.of_run(tmp_path)


def test_console_and_twin(view: TokenView) -> None:
    assert repr(view) == "TokenView(24 samples, 337 tokens; scorers: probability, atwu, change in probability)"
    bundle, _ = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "<script" not in bundle["text/html"]
    assert view.head["samples"][0]["id"] in view.to_html()


# In a browser -------------------------------------------------------------------------------------------------------


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


def test_a_scorer_chosen_in_python_comes_with_its_threshold(chromium: Any, run: Path, tmp_path: Path) -> None:
    view = TokenView.of_run(run)
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


def test_keyboard_card_search_and_sort(page: Any, view: TokenView, run: Path) -> None:
    page.locator(".wb-text").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('chosen')") == [2]
    tokens = RunDirectory(run).table("tokens.parquet")
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


def test_keys_of_controls_stay_and_commands_go_on(chromium: Any, view: TokenView, run: Path, tmp_path: Path) -> None:
    """JupyterLab takes a key where no element around the focus says that it must not."""
    reached = """() => { window.reached = []; document.addEventListener("keydown", (event) => {
        if (!event.target.hasAttribute("data-lm-suppress-shortcuts")) window.reached.push(event.key); }, true); }"""
    for widget, focus in ((view, ".wb-text"), (view, "select"), (BeforeAfter(run), "input[type=search]")):
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


def test_linked_hover_and_a_matrix_that_chooses(chromium: Any, bio: Any, tmp_path: Path, full: Any) -> None:
    from workbench.scorers.score import score_samples

    scores = score_samples(full, bio.forget[:6], ["surprisal", "entropy", "position"])
    page = open_widget(chromium, CompareView(scores, {s.id: (s.question, s.answer) for s in bio.forget}), tmp_path)
    row = page.locator(".wb-row").first
    row.locator(".wb-a").first.locator("> :is(span,u)").nth(2).hover()
    marked = row.locator(".wb-cur")
    assert marked.count() == 3
    assert len(set(marked.all_inner_texts())) == 1
    assert all(name in page.locator(".wb-readout").inner_text() for name in ("surprisal", "entropy", "position"))
    page.get_by_label("show surprisal and entropy").first.click()
    assert row.locator(".wb-pair:not([hidden])").count() == 2
    page.locator(".wb-chip", has_text="all").click()
    assert row.locator(".wb-pair:not([hidden])").count() == 3
    row.locator(".wb-a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert row.locator(".wb-a").first.locator("> :is(span,u)").nth(4).evaluate("n => n.classList.contains('wb-cur')")
    assert page.messages == []
    page.close()


def test_before_after_in_tabs(chromium: Any, run: Path, tmp_path: Path) -> None:
    view = BeforeAfter(run)
    assert repr(view).startswith("BeforeAfter(")
    page = open_widget(chromium, view, tmp_path)
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["answers", "tokens", "metrics"]
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("section:not([hidden])").get_attribute("data-name") == "tokens"
    assert page.messages == []
    page.close()


def test_before_after_searches_all_answers(run: Path) -> None:
    probes = RunDirectory(run).table("probes.parquet")
    view = BeforeAfter(run, max_samples=1)
    last = probes[probes["probe_set"] == "forget"].iloc[3]
    assert last["prompt"] not in view.html
    view.search = f"  {last['prompt'].upper()} "
    assert view.searched == view.search
    assert f"<b>1</b> of {view.count} answers have" in view.html
    assert view.html.count(f">{last['prompt']}</div>") == 2  # among the answers and the tokens
    view.search = "<b>nobody</b>"
    assert f"<b>0</b> of {view.count} answers have “&lt;b&gt;nobody&lt;/b&gt;”" in view.html
    view.search = ""
    assert view.html == BeforeAfter(run, max_samples=1).html


def test_a_search_in_the_page(chromium: Any, run: Path, tmp_path: Path) -> None:
    """At once in what is shown; what Python finds then takes its place, and field and tab stay as they are."""
    view = BeforeAfter(run, max_samples=2)
    page = open_widget(chromium, view, tmp_path)
    page.get_by_role("tab").nth(1).click()
    page.get_by_label("search").fill("nobody has this")
    assert page.locator(".wb-row:visible").count() == 0
    assert page.locator(".wb-note").inner_text() == "in the answers shown:"
    page.wait_for_function("model.get('search') === 'nobody has this'")
    view.search = word = view._probes["answer"].iloc[-1]
    page.get_by_label("search").fill(word)
    page.evaluate("([h, w]) => { model.set('searched', w); model.set('html', h); }", [view.html, word])
    assert page.locator(".wb-row:visible").count() > 0
    assert page.locator(".wb-note").inner_text() == ""
    assert page.get_by_label("search").input_value() == word
    assert page.locator("section:not([hidden])").get_attribute("data-name") == "tokens"
    assert page.messages == []
    page.close()


def test_before_after_of_an_unfinished_run_is_one_line(run: Path) -> None:
    probes = RunDirectory(run).table("probes.parquet")
    with pytest.raises(UserError, match="has not been probed at its end yet"):
        BeforeAfter(probes[probes["phase"] == "before"])


def test_a_change_in_probability_has_the_scale_of_probabilities() -> None:
    """A change of .0006 has no colour, even where nothing else is shown."""
    scores = table_of({"x": [[0.1, 0.9]]})
    rows = [{"sample_id": "s0", "position": p, "logp": -1.0, "rank": 0, "alternatives": "[]"} for p in range(3)]
    tokens = pd.concat([pd.DataFrame(rows).assign(phase=phase, probe_set="forget") for phase in ("before", "after")])
    tokens.loc[(tokens["phase"] == "after") & (tokens["position"] == 1), "logp"] = np.log(np.exp(-1.0) - 0.0006)
    layers = TokenView(scores, {}, tokens=tokens).head["layers"]
    (layer,) = [each for each in layers if each["name"] == CHANGE]
    assert (layer["scale"]["low"], layer["scale"]["high"]) == (-1.0, 1.0)
