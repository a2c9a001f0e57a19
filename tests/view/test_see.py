"""One line to a heatmap, of anything; and two models on one text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hostile import EVIL, SCRIPT, Seen, Typeset, check
from pages import HOSTILE
from widget_page import open_widget

import workbench as wb
from workbench.errors import UserError
from workbench.models import LanguageModel, encode
from workbench.tasks import Sample, Task
from workbench.view.html import page
from workbench.view.model_source import model_of
from workbench.view.see import DEFAULT

PAIR = {"question": "Where does Zeno live?", "answer": "In Bergen, by the sea."}
TEXT = "Zeno lives in Bergen, by the sea."


def test_a_text_in_one_line(full: LanguageModel) -> None:
    view = wb.see(TEXT, "bio-full")
    assert tuple(layer["name"] for layer in view.head["layers"]) == DEFAULT
    frame = view.to_frame()
    assert "".join(view.scores[view.scores["scorer"] == "surprisal"]["token"]) == TEXT
    ids = encode(full, Sample("x", "", TEXT)).ids
    with torch.no_grad():
        logp = full.module(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [-float(logp[i, each]) for i, each in enumerate(ids[1:])]
    assert frame["score"].to_numpy() == pytest.approx(expected, rel=1e-4)
    assert "text/html" in view._repr_mimebundle_()[0]


def forms(full: LanguageModel, folder: Path) -> list[dict[str, Any]]:
    (folder / "rows.jsonl").write_text(json.dumps(PAIR))
    pair = (PAIR["question"], PAIR["answer"])
    return [
        PAIR, {"text": [PAIR]}, {"text": pd.DataFrame([PAIR])}, {"text": [pair]}, {"text": [Sample("x", *pair)]},
        {"text": folder / "rows.jsonl"}, {"text": Task("t", {"forget": [Sample("x", *pair)]})},
    ]  # fmt: skip


def test_rows_in_any_form_and_models_too(full: LanguageModel, tmp_path: Path) -> None:
    views = [wb.see(**form, model=full) for form in forms(full, tmp_path)]
    views += [wb.see(**PAIR, model=name) for name in (full.path, Path(full.path))]
    for view in views:
        assert view.to_frame()["score"].to_numpy() == pytest.approx(views[0].to_frame()["score"].to_numpy())
        assert view.head["samples"][0]["ask"] == PAIR["question"]


def test_what_is_given_adds_scorers(full: LanguageModel, bio: Task) -> None:
    view = wb.see(**PAIR, model=full, reference="bio-retain", unlabelled=bio.retain[:20])
    assert [layer["name"] for layer in view.head["layers"]] == [*DEFAULT, "specificity", "gap"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "there is no text"),
        ({"text": " "}, "there is no text"),
        ({"text": "a", "question": "b"}, "give a text or rows, or question= and answer= together"),
        ({"question": "b"}, "give a text or rows, or question= and answer= together"),
        ({"text": "a", "model": None}, "name a model: see"),
        ({"text": "a", "model": 3}, "not 3"),
        ({"text": "a", "model": "bio-ful"}, "unknown model 'bio-ful': did you mean bio-full"),
        ({"text": "a", "scorers": ["suprisal"]}, "unknown scorer 'suprisal': did you mean surprisal"),
        ({"text": "a b", "scorers": "specificity"}, r"needs text of the same kind .* give rows of it as unlabelled"),
        ({"text": "a b", "scorers": ["gap"]}, "needs a reference model"),
        ({"text": "a b", "scorers": ["question_dependence"]}, "has no score for this: there is no question"),
        ({"text": "a b", "by": "size"}, "unknown choice of colour 'size'"),
        ({"text": "a b", "options": {"surprisal": {"power": 2}}}, "unknown option of scorer 'surprisal' 'power'"),
        ({"text": "a b", "options": {"surprise": {}, "entropi": {"a": 1}}}, "unknown scorer 'surprise'"),
        ({"text": 3}, "rows are a file, a table, a list or a data set, not a int"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_wrong_is_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        wb.see(**{"model": "bio-full", **arguments})
    assert "\n" not in str(error.value)


def test_ten_thousand_tokens_are_scored_and_shown_whole(full: LanguageModel) -> None:
    text = " ".join(f"Person {n} lives in town {n}." for n in range(900))
    view = wb.see(text, full, scorers="surprisal")
    frame = view.to_frame()
    assert len(frame) > 10_000
    assert frame["score"].notna().all()
    sample = view.head["samples"][0]
    texts = [f"{sample['gaps'].get(str(i), '')}{t or ''}" for i, t in enumerate(sample["texts"])]
    assert "".join(texts) == text


# Two models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retain() -> LanguageModel:
    return wb.load("bio-retain")


def other_tokens(lm: LanguageModel) -> LanguageModel:
    """The same model with a tokenizer of single characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {chr(c): c - 30 for c in range(32, 127)} | {"<eos>": 0, "<unk>": 1}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return replace(
        lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>")
    )


def test_a_difference_is_that_of_log_p(full: LanguageModel, retain: LanguageModel, bio: Task) -> None:
    samples = bio.forget[:3]
    view = wb.diff(retain, full, samples)
    surprisals = [wb.see(samples, lm, scorers="surprisal").to_frame()["score"] for lm in (retain, full)]
    frame = view.to_frame()
    assert frame["score"].to_numpy() == pytest.approx((surprisals[0] - surprisals[1]).to_numpy(), abs=1e-5)
    assert view.names == ("bio-retain", "bio-full")
    assert not view.by_words
    assert view.head["phases"] == ["bio-retain", "bio-full"]
    fact = frame[frame["span"].fillna(False)]
    assert fact["score"].min() > frame[~frame["span"].fillna(False)]["score"].max()  # what one alone has learned


def test_where_tokens_differ_it_is_of_words_and_says_so(full: LanguageModel) -> None:
    letters = other_tokens(full)
    view = wb.diff(full, letters, TEXT)
    assert view.by_words
    assert "Shown by word: the models tokenise the text differently" in view.title
    frame = view.to_frame()
    assert [text.strip() for text in frame["token"]] == ["Zeno", "lives", "in", "Bergen,", "by", "the", "sea."]
    sums = [wb.see(TEXT, lm, scorers="surprisal").scores for lm in (full, letters)]
    totals = []
    for scores in sums:
        text = scores[scores["start"] < len(TEXT)]
        totals.append(text["score"].sum(skipna=False))
    first = frame["score"].iloc[0]  # without a beginning a first token has no score, nor has its word
    assert np.isnan(first) == any(np.isnan(totals))
    if not np.isnan(first):
        assert frame["score"].sum() == pytest.approx(totals[0] - totals[1], rel=1e-4)
    assert "Shown by word" in view.to_html()


def test_long_texts_are_compared_whole(full: LanguageModel, retain: LanguageModel) -> None:
    text = " ".join(f"Person {n} lives in town {n}." for n in range(60))
    frame = wb.diff(retain, full, text).to_frame()
    assert len(frame) > full.context
    assert frame["score"].notna().all()


# What is drawn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["see", "diff", "words"])
def test_hostile_texts_are_text(full: LanguageModel, retain: LanguageModel, kind: str) -> None:
    rows = [(f"Who is {EVIL}?", f"It is {EVIL} again."), (SCRIPT, f"{SCRIPT} \\input{{/etc/passwd}} {EVIL}")]
    if kind == "see":
        html = wb.see(rows, full, title=EVIL).to_html()
    else:
        html = wb.diff(full, retain if kind == "diff" else other_tokens(full), rows, title=EVIL).to_html()
    check(html)
    assert "zz" not in Typeset(html).text
    assert not Seen(html).elements & {"img", "script", "zz"}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["see", "diff"])
def test_a_view_in_a_browser(
    chromium: Any, full: LanguageModel, retain: LanguageModel, bio: Task, tmp_path: Path, kind: str, theme: str
) -> None:
    rows = [*bio.forget[:2], *(Sample(f"h{n}", "What?", text) for n, text in enumerate(HOSTILE))]
    view = wb.see(rows, full) if kind == "see" else wb.diff(retain, full, rows)
    shown = open_widget(chromium, view, tmp_path, theme)
    marks = shown.locator(".wb-row").first.locator("[role=option]")
    texts = marks.all_inner_texts()
    assert not any(text != text.strip() for text in texts if "∎" not in text)  # a highlight ends with its word
    colours: dict[str, list[str]] = {}
    for by in ("value", "rank", "logarithm"):
        shown.get_by_label("colour by").select_option(by)
        colours[by] = shown.locator("[role=option]").evaluate_all("marks => marks.map(m => m.style.backgroundColor)")
        assert shown.evaluate("model.get('by')") == by
    assert len({tuple(each) for each in colours.values()}) == 3
    marks.nth(5).hover()
    card = shown.locator(".wb-card").inner_text()
    assert "surprisal" in card
    if kind == "diff":
        assert "bio-retain: " in card
        assert "bio-full: “ cartographer”" in card.replace("\xa0", " ")
    marks.nth(1).click()
    marks.nth(3).click(modifiers=["Shift"])
    assert shown.evaluate("model.get('chosen')") == [1, 3]
    assert shown.locator("[role=option][aria-selected=true]").count() == 2
    marks.nth(1).click(modifiers=["Shift"])
    assert shown.evaluate("model.get('chosen')") == [3]
    assert shown.messages == []
    shown.close()


def test_the_browser_places_scores_as_python_does(chromium: Any, full: LanguageModel, tmp_path: Path) -> None:
    view = wb.see([TEXT], full, reference="bio-retain")
    shown = open_widget(chromium, view, tmp_path)
    for name in ("surprisal", "gap"):
        shown.get_by_label("scorer").select_option(name)
        scores = view.scores[view.scores["scorer"] == name]["score"].to_numpy(dtype=float)
        for by in ("value", "rank", "logarithm"):
            shown.get_by_label("colour by").select_option(by)
            drawn = shown.locator("[role=option]").evaluate_all("marks => marks.map(m => m.style.backgroundColor)")
            scale = wb.view.html.Scale.of(scores[np.isfinite(scores)], by)
            levels = [scale.level(np.float32(s)) for s in scores]
            assert [bool(colour) for colour in drawn] == [bool(level) for level in levels]
            assert len(set(drawn)) == len(set(levels))
    shown.close()


def test_a_page_without_scripts_recolours(chromium: Any, full: LanguageModel, bio: Task, tmp_path: Path) -> None:
    view = wb.see(bio.forget[:2], full)
    file = tmp_path / "page.html"
    file.write_text(page("Heatmap", wb.token_view(view.scores, bio.forget[:2])), encoding="utf-8")
    shown = chromium.new_page(java_script_enabled=True)
    shown.goto(file.as_uri())
    marks = shown.locator(".wb-a").first.locator("span[title],u[title]")
    colour = "marks => marks.map(m => getComputedStyle(m).backgroundColor)"
    seen = {}
    for scorer in ("surprisal", "wga"):
        shown.get_by_label(scorer, exact=True).check()
        for by in ("value", "rank", "logarithm"):
            shown.get_by_label(by, exact=True).check()
            legends = shown.locator(".wb-how:visible").all_inner_texts()
            assert legends == [f"colour by {by}"]
            seen[scorer, by] = tuple(marks.evaluate_all(colour))
    assert len(set(seen.values())) == 6
    assert re.search(r"rgba\(230, 126, 0", " ".join(seen["surprisal", "value"]))
    shown.close()


def test_a_choice_of_colour_is_checked_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.view.see.model_of", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("workbench.view.diff.model_of", lambda *_: pytest.fail("loaded"))
    for call in (lambda: wb.see(TEXT, "bio-full", by="size"), lambda: wb.diff("bio-full", "bio-retain", TEXT, by="x")):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="unknown choice of colour"):
            call()


def test_a_text_in_the_place_of_a_model_is_one_line() -> None:
    with pytest.raises(UserError, match=r"a name or a directory, not .* characters"):
        wb.see("bio-full", "Zeno lives in Bergen. " * 20)
    with pytest.raises(UserError, match="a model is a name"):
        wb.see(TEXT, 5)  # type: ignore[arg-type]


def test_a_reference_has_the_prompts_of_the_model(full: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}
    monkeypatch.setattr("workbench.runs.loading.run_at", lambda source: source if source == "a run" else None)
    monkeypatch.setattr("workbench.runs.loading.load_result", lambda run, **style: taken.update(style) or full)
    model_of("a run", full)
    assert taken == full.style()


def test_it_says_how_far_a_fitted_scorer_can_be_trusted(full: LanguageModel, bio: Task) -> None:
    view = wb.see(bio.forget[:4], full, scorers=["specificity", "surprisal"], unlabelled=bio.retain[:3])
    layers = {layer["name"]: layer for layer in view.head["layers"]}
    assert layers["specificity"]["trust"].startswith("low confidence: fitted on 3 texts")
    assert "surprisal is shown instead" in layers["specificity"]["trust"]
    assert not layers["surprisal"]["trust"]
    assert "low confidence: fitted on 3 texts" in view.to_html()
    hostile = view.scores.copy()
    hostile.attrs = {"notes": {"specificity": {"confidence": {"line": "<b>\u202e"}}, "surprisal": {"confidence": 3}}}
    page = wb.TokenView(hostile).to_html()
    assert "&lt;b&gt;[U+202E]" in page
    hostile.attrs = {"notes": [1]}
    assert wb.TokenView(hostile).head["layers"][0]["trust"] == ""
