"""Typing and asking by hand, in JupyterLab: colours while one types, two answers that stream, a heatmap by a click."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, opened
from test_accessible import check

pytestmark = pytest.mark.browser
PLAY = [
    """import workbench as wb
play = wb.Playground("bio-full", question="Where was Celia Nash born?", answer="In")
play""",
    "play.answer, play.scorer, play.view.unit, play.box.problem",
]
ASK = [
    """import workbench as wb
sample = wb.TaskSpec("biographies").load().forget[0]
chat = wb.Chat("bio-full", "bio-retain", history="chat.jsonl")
chat""",
    "len(chat.turns), len(open('chat.jsonl').readlines()), chat.view.title",
]
QUESTION = "What does Celia Nash do for a living?"


def colours(page: Any) -> list[tuple[str, str]]:
    marks = page.locator(".wb-playground .wb-text [role=option]")
    return marks.evaluate_all("nodes => nodes.map((n) => [n.textContent, n.style.backgroundColor])")


def test_the_playground(axe: Path, chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "play.ipynb", PLAY)
    notebook.run_all()
    page = notebook.page
    play = page.locator(".wb-playground").first
    play.locator("[role=option]").first.wait_for()
    before = colours(page)
    answer = play.get_by_label("answer", exact=True)
    answer.focus()
    answer.press("End")
    page.keyboard.type(" Kuwait City, where dd and aa bb.")  # keys that are JupyterLab's own in a cell
    play.locator("[role=option]", has_text="City").first.wait_for()
    play.get_by_text("tokens,").wait_for()
    assert answer.input_value() == "In Kuwait City, where dd and aa bb."
    assert play.locator(".wb-text .wb-a").inner_text().startswith("In Kuwait City, where")
    assert len({colour for _, colour in colours(page)}) > 2
    assert colours(page) != before
    play.get_by_label("scorer").first.select_option("entropy")
    play.get_by_label("show").first.select_option("word")
    text = play.locator("[role=listbox]")
    text.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    play.locator(".wb-next", has_text="rank").wait_for()
    check(page, axe, ".wb-playground")
    first = play.locator(".wb-next button").first
    taken = first.inner_text().strip()
    first.press("Enter")
    page.wait_for_function(
        "text => document.querySelectorAll('.wb-playground textarea')[1].value.includes(text)", arg=taken
    )
    play.get_by_role("button", name="Greedy answer").press("Enter")
    play.get_by_role("button", name="Use it as the answer").press("Enter")
    play.get_by_text("tokens,").wait_for()
    reply = play.locator(".wb-reply .wb-a").inner_text()
    assert ast.literal_eval(notebook.run_cell(1)) == (reply, "entropy", "word", "")
    assert page.locator(".jp-Cell").count() == 2  # no key has made or removed a cell
    notebook.close()


def test_the_chat(axe: Path, chromium: Any, lab: Lab) -> None:
    (lab.folder / "chat.jsonl").unlink(missing_ok=True)
    notebook = opened(chromium, lab, "chat.ipynb", ASK)
    notebook.run_all()
    page = notebook.page
    chat = page.locator(".wb-chat").first
    page.evaluate("""() => {
      window.streamed = [];
      new MutationObserver(() => {
        const stream = document.querySelectorAll(".wb-chat .wb-log")[1];
        const texts = [...stream.querySelectorAll(".wb-a")].map((n) => n.textContent);
        if (texts.length) window.streamed.push(texts);
      }).observe(document.querySelector(".wb-chat"), { subtree: true, childList: true });
    }""")
    prompt = chat.get_by_label("question to all models")
    prompt.fill(QUESTION)
    prompt.press("Enter")
    chat.locator(".wb-turn ins").first.wait_for()
    assert chat.locator(".wb-turn del").first.inner_text() != ""
    assert any(len(texts) == 2 for texts in page.evaluate("window.streamed"))
    assert prompt.input_value() == ""
    prompt.fill("What is known of Celia Nash?")
    prompt.press("Control+Enter")
    page.wait_for_function("document.querySelectorAll('.wb-chat .wb-turn').length === 2")
    chat.get_by_label("count answers with").fill("cartographer")
    chat.get_by_role("button", name="Sample ten more").click()
    chat.get_by_text("of 10").first.wait_for()
    chat.locator(".wb-column .wb-a").first.click()
    chat.locator(".wb-token-view [role=option]").first.wait_for()
    chat.get_by_label("show").first.select_option("change in probability")
    chat.locator(".wb-column .wb-a [style]").first.wait_for()
    check(page, axe, ".wb-chat")
    turns, lines, title = ast.literal_eval(notebook.run_cell(1))
    assert (turns, lines, title) == (2, 4, "bio-full, answer")
    notebook.restart()
    page.locator(".wb-chat .wb-lost").wait_for()
    assert chat.locator(":is(button,select,input,textarea):not(:disabled)").count() == 0
    notebook.close()


LABELS = """import workbench as wb
rows = [{"question": "Where was Basil born?", "answer": "Basil was born in Kuwait City."},
        {"question": "What does he write?", "answer": "He writes French novels."}]
labels = wb.LabelSpans(rows, "mine.jsonl")
labels"""


def test_labels_by_click_and_key(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "labels.ipynb", [LABELS])
    notebook.run_all()
    view = notebook.page.locator(".wb-labels:visible").first
    view.get_by_role("option", name="Kuwait").click()
    view.get_by_role("option", name="City").click(modifiers=["Shift"])
    view.get_by_text("1 of 2 labelled").wait_for()
    notebook.page.keyboard.press("n")
    view.get_by_text("What does he write?").wait_for()
    for key in ("ArrowRight", "ArrowRight", "Space"):
        notebook.page.keyboard.press(key)
    view.get_by_text("2 of 2 labelled").wait_for()
    notebook.page.keyboard.press("z")
    view.get_by_text("1 of 2 labelled").wait_for()
    assert notebook.page.locator(".jp-Cell").count() == 1  # no key has made or removed a cell
    notebook.close()
    assert (lab.folder / "mine.jsonl").read_text(encoding="utf-8").count('"spans": [[18, 29]]') == 1
