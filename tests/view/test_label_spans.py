"""Labelling by hand: clicks, stretches and keys become the file that tasks read, and nothing is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import EVIL
from widget_page import open_widget

import workbench as wb
from workbench.errors import UserError

ROWS = [
    {"question": "Where was Basil born?", "answer": "Basil was born in Kuwait City, Kuwait."},
    {"question": "What does he write?", "answer": "He writes French novels.", "spans": [[10, 16]]},
    {"text": "No question at all."},
]


def file(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_marks_become_spans_in_the_file_of_a_task(tmp_path: Path) -> None:
    labels = wb.LabelSpans(ROWS, tmp_path / "new" / "spans.jsonl")
    assert labels.marks == []
    assert labels.done == [False] * 3  # nobody sees the labels of another
    labels.marks = [4, 5, 7]
    assert file(labels.path) == [ROWS[0] | {"spans": [[18, 29], [31, 37]]}]
    assert "1 of 3 labelled" in labels.note
    labels.answer = 1
    labels._heard(labels, {"do": "none"}, [])
    labels.answer = 2
    labels.marks = [1]
    assert file(labels.path)[1:] == [
        {"question": "What does he write?", "answer": "He writes French novels.", "spans": []},
        {"text": "No question at all.", "spans": [[3, 11]]},
    ]
    for name, row in (("forget", ROWS[0]), ("retain", {"question": "Who?", "answer": "Nobody."})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    spec = wb.TaskSpec(
        forget=str(tmp_path / "forget.jsonl"), retain=str(tmp_path / "retain.jsonl"), spans=str(labels.path)
    )
    assert spec.load().forget[0].spans == ((18, 29), (31, 37))


def test_it_goes_on_where_the_file_ends_and_keeps_the_rows_of_others(tmp_path: Path) -> None:
    other = {"question": "Another?", "answer": "Other text.", "spans": [[0, 5]]}
    path = tmp_path / "spans.jsonl"
    path.write_text(f"{json.dumps(other)}\n", encoding="utf-8")
    wb.LabelSpans(ROWS, path).marks = [4]
    again = wb.LabelSpans(ROWS, path)
    assert again.answer == 1  # the first that is not labelled
    assert again.samples[0].spans == ((18, 24),)
    again.label(1, [(10, 16)])
    assert [row.get("question") for row in file(path)] == ["Another?", ROWS[0]["question"], ROWS[1]["question"]]
    frame = again.to_frame()
    assert frame["texts"].tolist() == [["Kuwait"], ["French"], []]
    assert wb.kappa(again.samples, ROWS)["kappa"] == 1.0  # only the second row has labels in both


def test_undo_goes_back_change_by_change_over_answers(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    labels = wb.LabelSpans(ROWS, path)
    labels.marks = [4]
    labels.marks = [4, 5]
    labels.answer = 1
    labels.marks = [2]
    labels.undo()
    assert (labels.answer, labels.marks, labels.done[1]) == (1, [], False)
    labels.undo()
    assert (labels.answer, labels.marks) == (0, [4])
    labels.undo()
    labels.undo()  # there is nothing left to undo
    assert labels.done == [False] * 3
    assert path.read_text(encoding="utf-8") == ""
    assert wb.LabelSpans(ROWS, path).done == [False] * 3


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    labels = wb.LabelSpans(ROWS, None)
    for call, line in (
        (lambda: labels.label(7, []), "there is no answer 7: they are numbered 0 to 2"),
        (lambda: labels.label(0, [(5, 99)]), "the span 5 to 99 is not in the answer, which has 38 characters"),
        (lambda: wb.LabelSpans([]), "at least one row"),
    ):
        with pytest.raises(UserError, match=line):
            call()
    (tmp_path / "spans.jsonl").write_text("no labels", encoding="utf-8")
    with pytest.raises(UserError, match="not JSON"):
        wb.LabelSpans(ROWS, tmp_path / "spans.jsonl")


def test_a_file_that_cannot_be_written_is_said_and_the_labels_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    labels = wb.LabelSpans(ROWS, tmp_path / "file" / "spans.jsonl")
    labels.marks = [4]
    assert "The labels are kept here until they can be written" in labels.problem
    assert labels.samples[0].spans == ((18, 24),)
    labels.path = tmp_path / "spans.jsonl"
    labels.marks = [4, 5]
    assert labels.problem == ""
    assert file(labels.path)[0]["spans"] == [[18, 29]]


def test_hostile_text_is_text(tmp_path: Path) -> None:
    labels = wb.LabelSpans([{"question": EVIL, "answer": f"{EVIL} again"}], tmp_path / "spans.jsonl")
    labels.marks = list(range(4))
    assert EVIL not in labels.to_html()
    assert file(labels.path)[0]["question"] == EVIL


@pytest.fixture
def page(chromium: Any, tmp_path: Path) -> Any:
    shown = open_widget(chromium, wb.LabelSpans(ROWS, tmp_path / "spans.jsonl"), tmp_path)
    yield shown
    assert shown.messages == []
    shown.close()


def marks(page: Any) -> list[int]:
    return list(page.evaluate("window.model.get('marks')"))


def test_clicks_drags_and_shift_mark_words(page: Any) -> None:
    words = page.locator("[role=option]")
    assert words.all_inner_texts() == ["Basil", "was", "born", "in", "Kuwait", "City", ",", "Kuwait", "."]
    words.nth(4).click()
    assert marks(page) == [4]
    words.nth(7).click(modifiers=["Shift"])
    assert marks(page) == [4, 5, 6, 7]
    words.nth(6).click()
    assert marks(page) == [4, 5, 7]
    words.nth(0).hover()
    page.mouse.down()
    words.nth(2).hover()
    assert words.nth(1).get_attribute("aria-selected") == "true"  # while it is dragged
    assert marks(page) == [4, 5, 7]
    page.mouse.up()
    assert marks(page) == [0, 1, 2, 4, 5, 7]


def test_the_keyboard_suffices(page: Any) -> None:
    for _ in range(7):  # over the buttons that can be used; the words are one stop
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.role") == "option":
            break
    for key in ("End", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    assert marks(page) == [7]
    for key in ("Home", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert marks(page) == [1, 2, 3, 7]
    page.keyboard.press("Enter")
    assert marks(page) == [1, 2, 7]
    page.keyboard.press("n")
    assert page.evaluate("window.model.get('answer')") == 1
    page.keyboard.press("p")
    assert page.evaluate("window.model.get('answer')") == 0
    for key in ("0", "z", "Control+z"):
        page.keyboard.press(key)
    assert page.evaluate("window.sent") == [{"do": "none"}, {"do": "undo"}, {"do": "undo"}]
