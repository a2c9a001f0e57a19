"""The error browser over a real run: filters, what it opens, tags and notes, exports, hostile texts."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE
from runs_of import config_of, own_files

from workbench.errors import UserError
from workbench.evals.outcomes import RULES
from workbench.runs import execution
from workbench.unlearning.settings import Settings
from workbench.view.widgets import BeforeAfter, ErrorBrowser
from workbench.view.widgets.error_html import answer_html, list_lines


@pytest.fixture(scope="module")
def made(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=10, batch_size=8, lr=1e-3, alpha=0.0)  # nothing holds the rest of the model
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=8, objective="npo"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(made: Path) -> Path:
    (made / "notes.json").unlink(missing_ok=True)
    return made


def test_filters_sort_and_open(run: Path) -> None:
    browser = ErrorBrowser(run)
    assert len(browser.rows) == 16
    counts = {rule: int(browser.rows[rule].sum()) for rule in RULES}
    assert counts["damaged"] > 0  # so large a learning rate harms
    assert f"damaged ({counts['damaged']})" in dict(browser.outcome.options)
    browser.outcome.value = "damaged"
    assert len(browser.shown) == counts["damaged"]
    assert set(browser.shown["probe_set"]) == {"retain"}
    assert RULES["damaged"].split("'")[0] in browser.head.value  # the rule stands where it is used
    opened = browser.selected["sample_id"]
    browser.outcome.value, browser.sort.value = "", "probability lost"
    change = browser.shown["change"].tolist()
    assert change == sorted(change)
    assert browser.selected["sample_id"] == opened
    word = browser.rows["prompt"].iloc[5].split()[-1]
    browser.search.value = word.upper()
    assert 0 < len(browser.shown) < 16
    browser.search.value = "nothing holds this"
    assert browser.selected == {}
    assert "No answer matches" in browser.answer.value
    last = browser.rows.iloc[-1]
    browser.select(last["sample_id"], last["probe_set"])
    assert browser.selected["prompt"] == last["prompt"]
    with pytest.raises(UserError, match="unknown probed answer 'retain/nobody'"):
        browser.select("nobody", "retain")


def test_an_opened_answer_has_its_tokens_and_metrics(run: Path) -> None:
    browser = ErrorBrowser(run)
    row = browser.rows.iloc[-1]
    browser.select(row["sample_id"], "retain")
    view, all_tokens = browser.view, pd.read_parquet(run / "tokens.parquet")
    assert view.scorer == "change in probability"
    tokens = all_tokens[(all_tokens["sample_id"] == row["sample_id"]) & (all_tokens["probe_set"] == "retain")]
    p = np.exp(tokens[tokens["phase"] == "after"].sort_values("position")["logp"].to_numpy())
    np.testing.assert_allclose(view._data.scores[1], p, rtol=1e-6)
    probes = pd.read_parquet(run / "probes.parquet").set_index(["probe_set", "sample_id", "phase"])
    old, new = (probes.loc[("retain", row["sample_id"], phase), "perplexity"] for phase in ("before", "after"))
    assert f"perplexity\N{NBSP}↓ <b>{old:.2f} → {new:.2f}</b>" in browser.answer.value
    browser.tokens = None
    browser._open()
    assert view.layout.display == "none"
    assert "not recorded" in browser.answer.value


def test_the_list_stands_in_columns(run: Path) -> None:
    head, lines = list_lines(ErrorBrowser(run).rows)
    assert len({line.index(" · ") for line in lines}) == 1
    assert all(line.index("→") == lines[0].index("→") for line in lines)
    assert head.index("question") == lines[0].index(" · ") + 3


def test_tags_and_notes_stay_with_the_run(run: Path) -> None:
    browser, other = ErrorBrowser(run), ErrorBrowser(run)
    row, next_row = browser.rows.iloc[3], browser.rows.iloc[4]
    browser.select(row["sample_id"], row["probe_set"])
    browser.tags.value, browser.note.value = "name,odd , name", "why <b>this</b>?"
    browser.save_marks.click()
    assert "saved in" in browser.status.value
    assert browser.tags.value == "name, odd"
    assert browser.list.options[3][0].startswith("*")
    other.tag(next_row["sample_id"], next_row["probe_set"], note="seen by another \ud83d")
    again = ErrorBrowser(run)
    again.select(row["sample_id"], row["probe_set"])
    assert (again.tags.value, again.note.value) == ("name, odd", "why <b>this</b>?")
    assert again.rows["note"].iloc[4] == "seen by another ?"  # half a character
    assert "why &lt;b&gt;this&lt;/b&gt;?" in again.to_html()
    again.search.value = "ODD"
    assert again.shown.index.tolist() == [3]
    again.tag(row["sample_id"], row["probe_set"], note="")
    assert again.selected["tags"] == "name, odd"  # they are left
    again.tag(row["sample_id"], row["probe_set"], tags="")
    assert list(json.loads((run / "notes.json").read_text())) == [f"{next_row['probe_set']}/{next_row['sample_id']}"]


def test_what_was_typed_is_not_lost_by_going_on(run: Path) -> None:
    browser = ErrorBrowser(run)
    browser.note.value = "typed, not saved"
    browser.list.value = 1
    assert browser.note.value == ""
    browser.note.value = "and this"
    browser.search.value = "nothing holds this"
    assert ErrorBrowser(run).rows["note"].tolist()[:3] == ["typed, not saved", "and this", ""]


def test_notes_that_cannot_be_written_are_kept_and_tried_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = ErrorBrowser(run)
    browser.note.value = "more"

    def full(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        browser.save_marks.click()
        assert "the file system is read-only" in browser.status.value
        assert "kept here" in browser.status.value
        browser.list.value = 1
        assert "kept here" in browser.status.value
        browser.list.value = 0
        assert browser.note.value == "more"
        browser.exports["CSV"].click()
        assert "cannot write" in browser.status.value
    browser.list.value = 2
    assert "saved in" in browser.status.value
    assert ErrorBrowser(run).rows["note"].iloc[0] == "more"


@pytest.mark.parametrize("content", ["{", "[1]", '{"retain/a": "x"}'])
def test_notes_that_are_none(run: Path, content: str) -> None:
    browser = ErrorBrowser(run)
    (run / "notes.json").write_text(content)
    with pytest.raises(UserError, match="does not hold tags and notes"):
        ErrorBrowser(run)
    browser.note.value = "typed"
    browser.save_marks.click()
    assert "mend it or move it away" in browser.status.value
    assert (run / "notes.json").read_text() == content  # another's file is not written over
    assert browser.note.value == "typed"


def test_exports(run: Path, tmp_path: Path) -> None:
    browser = ErrorBrowser(run)
    browser.probe_set.value = "retain"
    browser.note.value = "kept by an export"
    browser.exports["CSV"].click()
    where = run / "errors.csv"
    assert f"8 of 16 answers, those that pass the filters, written to {where}" in browser.status.value
    assert pd.read_csv(run / "errors.csv")["note"].iloc[0] == "kept by an export"
    parquet = browser.export_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), browser.shown.reset_index(drop=True), check_dtype=False)
    browser.exports["HTML"].click()
    page = (run / "errors.html").read_text()
    assert "8 of 16 answers, set retain" in page
    assert "kept by an export" in page
    assert all(text in page for text in RULES)
    assert page.count('class="wb-row"') == 8


def test_what_an_export_says_is_what_it_holds(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = ErrorBrowser(run)
    browser.exports["Parquet"].click()
    assert f"16 answers written to {run / 'errors.parquet'}" in browser.status.value
    for module in ("error_rows", "error_browser"):
        monkeypatch.setattr(f"workbench.view.widgets.{module}.MOST", 3)
    browser.probe_set.value = "retain"
    browser.exports["HTML"].click()
    said = "3 of 8 answers, those that pass the filters, written to"
    assert said in browser.status.value
    assert browser.status.value.count("CSV and Parquet hold all 8") == 1
    page = (run / "errors.html").read_text()
    assert "showing 3 of 8 answers that pass the filters; CSV and Parquet hold all 8" in page
    assert len(pd.read_parquet(browser.export_parquet(str(tmp_path / "a.parquet")))) == 8


def test_cells_are_no_formulas(run: Path, tmp_path: Path) -> None:
    browser = ErrorBrowser(run)
    first = ["=1+1", "+1", "@A1", "-1", "\t=1"]
    browser.shown = browser.shown.assign(note=[*first, *["plain - text"] * 11])
    text = browser.export_csv(tmp_path / "a.csv").read_text()
    assert list(pd.read_csv(tmp_path / "a.csv")["note"][:6]) == [*(f"'{cell}" for cell in first), "plain - text"]
    assert re.search(r"(^|,)\"?[=+@]", text) is None
    assert (pd.read_csv(tmp_path / "a.csv")["change"] < 0).any()  # numbers stay numbers


def test_the_open_answer_and_the_listed_ones_are_figures(run: Path, tmp_path: Path) -> None:
    browser = ErrorBrowser(run)
    assert [buttons.ready for buttons in browser.figures] == [True, True]
    row = browser.rows.iloc[-1]
    browser.select(row["sample_id"], row["probe_set"])
    one, listed = (browser.figure(part) for part in ("answer", "answers"))
    assert [bool(r.label) for r in one.rows] == [False, False, True, True, True]  # outcome, question, three texts
    assert row["sample_id"] in one.rows[0].pieces[0].text
    assert sum(bool(r.pieces[0].bold) for r in listed.rows) == 16
    sent: list[Any] = []
    browser.figures[0].send = lambda content, buffers=None: sent.append((content, buffers))
    for suffix, start in {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "tex": b"% A figure"}.items():
        browser._save_asked(browser.figures[0], {"save": suffix, "id": 1, "shown": {"part": "answer"}}, [])
        assert sent.pop()[1][0].startswith(start)
    assert browser.save(tmp_path / "answer.svg").read_text().count(row["answer"][:20]) >= 1
    browser.search.value = "nothing holds this"
    assert [buttons.ready for buttons in browser.figures] == [False, False]
    with pytest.raises(UserError, match="none matches the filters"):
        browser.figure()
    with pytest.raises(UserError, match="there may be answer and answers"):
        browser.figure("tokens")


def test_twin_and_repr(run: Path) -> None:
    browser = ErrorBrowser(run)
    assert browser.to_html().count('class="wb-row"') == 16
    data, _ = browser._repr_mimebundle_()
    assert data["text/html"].count('class="wb-row"') == 12
    assert "showing 12 of 16" in data["text/html"]
    assert data["text/plain"] == repr(browser)
    assert re.fullmatch(r"ErrorBrowser\(run: (\d+ [a-z ]+(, )?)+\)", repr(browser))
    with pytest.raises(UserError, match="is no run directory"):
        ErrorBrowser(run.parent)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_answers_are_text(run: Path, text: str) -> None:
    browser = ErrorBrowser(run)
    row = browser.rows.iloc[0].to_dict()
    row |= dict.fromkeys(("sample_id", "prompt", "answer", "after", "note", "tags", "why"), text)
    shown = answer_html(row)
    assert not re.search(r"<(?!/?(div|span|b|i|ins|del)\b)", shown)
    assert not re.search(r"<[^>]*\son\w+=", shown)
    assert not re.search(r"[\x00-\x1f\x7f\u200b\u202a-\u202e]", shown)
    _, lines = list_lines(pd.DataFrame([row]))
    assert lines[0].replace("\u200d", "").isprintable()  # of an emoji the joiner stays
    assert len(lines[0]) < 160


def test_hostile_notes_are_text(run: Path) -> None:
    browser = ErrorBrowser(run)
    row = browser.rows.iloc[0]
    for text in HOSTILE:
        browser.tag(row["sample_id"], row["probe_set"], text, text)
        shown = browser.to_html()
        assert "<script" not in shown
        assert "<img" not in shown
        assert "\x1b" not in shown
    assert ErrorBrowser(run).rows["note"].iloc[0]


def test_what_came_back_stands_with_the_answer(run: Path) -> None:
    first = ErrorBrowser(run).rows.query("probe_set == 'forget' and `still remembered` == False").iloc[0]
    nasty = "<script>alert(1)</script> Karrow"
    texts = {"sample_id": first["sample_id"], "prompt": "Where?", "answer": "Karrow.", "text": nasty}
    row = {"attack": "int4", "model": "run", **texts, "value": 1.0, "measure": "fact match", "tries": 2, "hits": 1}
    (run / "attacks").mkdir()
    try:
        pd.DataFrame([row]).to_parquet(run / "attacks" / "answers.parquet")
        entry = {"retain_only": 0.0, "run": 0.5, "before": 1.0, "comes_back": 0.5, "better": "lower"}
        entry |= {key: {} for key in ("parts", "options", "answers", "seconds")}
        made_from = {"task": "biographies", "data_sha256": "", "limit": None, "seed": 0, "models": {}}
        summary = {"made_from": made_from, "attacks": {"int4": entry}}
        (run / "attacks" / "summary.json").write_text(json.dumps(summary))
        browser = ErrorBrowser(run)
        assert "comes back (1)" in dict(browser.outcome.options)
        browser.outcome.value = "comes back"
        assert browser.selected["sample_id"] == first["sample_id"]
        for page in (browser.answer.value, str(browser.to_html())):
            assert "under int4" in page
            assert "&lt;script&gt;alert(1)" in page
            assert "<script>alert" not in page
        bars = str(BeforeAfter(run).to_html())
        assert "The run still gives facts: int4 50 %" in bars
        assert "<script>alert" not in bars
    finally:
        shutil.rmtree(run / "attacks")
