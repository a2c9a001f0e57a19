"""The chat in a browser: keys, buttons and choices, and code that stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chats import asked
from hostile import EVIL, SCRIPT, Typeset, check
from widget_page import open_widget

from workbench.evals import Reply
from workbench.view.widgets import Chat, chat_html, chat_turn


@pytest.fixture
def page(chromium: Any, full: Any, retained: Any, bio: Any, tmp_path: Path) -> Any:
    chat = asked(Chat(full, retained, history=tmp_path / "chat.jsonl"), bio.forget[0].question)
    chat.more(2)
    chat.wait()
    page = open_widget(chromium, chat.box, tmp_path)
    yield page
    assert page.messages == []
    page.close()
    chat.close()


def test_keys_ask(page: Any) -> None:
    prompt = page.get_by_label("question to all models")
    prompt.fill("Who is it?")
    prompt.press("Shift+Enter")
    prompt.press("Enter")
    prompt.press("Control+Enter")
    question = "Who is it?\n"
    assert page.evaluate("window.sent") == [
        {"do": "ask", "question": question, "another_turn": again} for again in (False, True)
    ]
    page.evaluate("model.set('problem', 'it went wrong')")
    assert prompt.input_value() == question  # nothing is lost
    page.evaluate("model.set('asked', model.get('asked') + 1)")
    assert prompt.input_value() == ""


def test_busy_and_stop(page: Any) -> None:
    page.evaluate("model.set('busy', 'answering')")
    assert page.get_by_role("button", name="Ask", exact=True).is_disabled()
    page.evaluate("model.set('live', { question: 'Who?', texts: ['One', 'Two'] })")
    assert page.locator(".wb-log").last.inner_text().split("\n")[0] == "Who?"
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("window.sent") == [{"do": "stop"}]
    page.evaluate("model.set('live', {}); model.set('busy', '')")
    assert page.get_by_role("button", name="Stop").is_disabled()


def test_heatmaps_open_by_key_and_by_click(page: Any) -> None:
    page.get_by_role("button", name="heatmap of the answer of bio-full").press("Enter")
    page.locator(".wb-column .wb-a").nth(1).click()
    page.locator("summary", has_text="2 samples").first.press("Enter")
    page.get_by_role("button", name="heatmap of sample 2 of bio-full").press("Enter")
    assert [each["place"] for each in page.evaluate("window.sent")] == [[0, 0, -1], [0, 1, -1], [0, 0, 1]]
    page.evaluate("model.set('html', model.get('html') + ' ')")  # drawn again: unfolded as it was, focus where it was
    assert page.get_by_role("button", name="heatmap of sample 2 of bio-full").is_visible()
    assert page.evaluate("document.activeElement.dataset.name") == "0 0 1"


def test_choices_reach_python(page: Any) -> None:
    page.get_by_label("show").select_option("change in probability")
    page.get_by_label("temperature").fill("0.7")
    page.get_by_label("seed").fill("5")
    page.get_by_label("count answers with").fill("Kuwait")
    page.get_by_role("button", name="Sample ten more").focus()
    page.wait_for_function("model.get('needle') === 'Kuwait'")
    assert page.evaluate("['mode', 'temperature', 'seed'].map((name) => model.get(name))") == [
        "change in probability", 0.7, 5,
    ]  # fmt: skip
    for name in ("Export JSONL", "Export HTML"):
        page.get_by_role("button", name=name).click()
    assert page.evaluate("window.sent") == [{"do": "jsonl"}, {"do": "html"}]


@pytest.mark.parametrize("mode", chat_html.MODES)
def test_code_is_text(full: Any, retained: Any, tmp_path: Path, chromium: Any, mode: str) -> None:
    chat = Chat(full, retained)
    chat.box.labels, chat.box.about = [EVIL, EVIL], [EVIL]
    code = SCRIPT
    hostile(chat, code)
    chat.box.mode = mode
    chat.heatmap(0, 0)
    assert chat.wait()
    for html in (chat.box.html, chat.box.earlier):
        check(html + '<b class="x">&lt;zz</b>')
    check(chat.to_html())
    check(chat.export_html(tmp_path / "chat.html").read_text(encoding="utf-8"))
    assert "zz" not in Typeset(chat.to_html()).text
    page = open_widget(chromium, chat.box, tmp_path)
    page.evaluate("code => model.set('live', { question: code, texts: [code, code] })", code)
    assert SCRIPT in page.locator(".wb-log").last.inner_text()
    assert page.evaluate("window.zz") is None
    assert page.locator("img, zz").count() == 0
    assert page.messages == []
    page.close()


def hostile(chat: Chat, code: str) -> None:
    """Question, answers, samples, needle, names, errors and history are code."""
    chat.labels = [f"{EVIL} 1", f"{EVIL} 2"]
    chat.ask(code)
    assert chat.wait()
    turn = chat.turns[0]
    turn.replies = [Reply(f"{EVIL} for $zz$", "end"), Reply(f"{EVIL} again", "length")]
    turn.compared = [
        chat_turn.compare(chat.models, i, chat_turn.answered(turn.samples[i], reply.text), lambda: False)
        for i, reply in enumerate(turn.replies)
    ]
    turn.drawn = [[code], [EVIL]]
    chat.history.earlier = [chat_turn.record_of(turn, chat.labels, "c", 0)]
    chat._before()
    chat.box.problem = chat.box.note = code
    chat.box.needle = code
