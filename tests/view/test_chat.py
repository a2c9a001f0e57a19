"""The chat: streams, differences, samples, another turn, a history that is kept, and what a browser makes of it."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import EVIL, SCRIPT, Typeset, check
from runs_of import config_of, own_files, wait_until
from widget_page import open_widget

from workbench.errors import UserError
from workbench.evals import Reply, sampled
from workbench.evals.answers import token_table
from workbench.evals.generation import greedy
from workbench.models import encode
from workbench.runs import execution
from workbench.tasks.samples import Sample
from workbench.unlearning.settings import Settings
from workbench.view.widgets import Chat, Playground, chat_html, chat_turn
from workbench.view.widgets.chat_history import ChatHistory
from workbench.view.widgets.token_payload import CHANGE


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=6, batch_size=8, lr=1e-3, train="lora")
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=2, objective="npo"), folder / "run")
    return folder / "run"


@pytest.fixture
def chat(full: Any, retained: Any, tmp_path: Path) -> Any:
    widget = Chat(full, retained, history=tmp_path / "chat.jsonl")
    yield widget
    widget.close()


def asked(chat: Chat, question: str, **more: Any) -> Chat:
    chat.ask(question, **more)
    assert chat.wait()
    assert chat.box.problem == ""
    return chat


def test_answers_are_those_of_a_probe(full: Any, retained: Any, bio: Any, chat: Chat) -> None:
    flows: list[Any] = []
    chat.box.observe(lambda change: flows.append(change["new"]), "live")
    sample = bio.forget[0]
    asked(chat, sample.question)
    turn = chat.turns[0]
    assert [r.text for r in turn.replies] == [greedy(lm, [sample], 1, 64)[0] for lm in (full, retained)]
    assert len(flows[0]["texts"]) == 2
    assert flows[-1] == {}
    assert "<ins>" in chat.box.html
    assert "<del>" in chat.box.html
    for place, lm in enumerate((full, retained)):  # each answer under both
        other = (retained, full)[place]
        own = Sample("x", sample.question, turn.replies[place].text)
        chances = [math.exp(token_table(each, [own])["logp"][:-1].mean()) for each in (lm, other)]
        assert turn.compared[place].chances == pytest.approx(chances)
        before, after = (token_table(each, [own]) for each in (full, retained))
        tokens = turn.compared[place].tokens
        for phase, table in (("before", before), ("after", after)):
            np.testing.assert_allclose(tokens[tokens["phase"] == phase]["logp"], table["logp"])
    chat.box.mode = "change in probability"
    assert "background-color" in chat.box.html


def test_another_turn_has_the_turns_before(full: Any, retained: Any, bio: Any, chat: Chat) -> None:
    first, second = bio.forget[0].question, "What is known of the person?"
    asked(chat, first)
    asked(chat, second, another_turn=True)
    for place, lm in enumerate((full, retained)):
        history = ((first, chat.turns[0].replies[place].text),)
        sample = Sample("x", second, "", history=history)
        assert chat.turns[1].replies[place].text == greedy(lm, [sample], 1, 64)[0]
    asked(chat, second)
    assert len(chat.turns) == 1
    assert chat.turns[0].samples[0].history == ()
    assert first in chat.box.earlier  # the chat before


def test_ten_more_and_how_many_have_a_text(full: Any, bio: Any, chat: Chat) -> None:
    chat._heard(None, {"do": "more"}, [])
    assert chat.box.problem == "ask something first"
    question, value = bio.forget[0].question, bio.forget[0].values[0]
    asked(chat, question)
    chat.box.needle = f"  {value.upper()} "
    chat.more(seed=3)
    chat.wait()
    chat.more(seed=3)
    assert chat.wait()
    sample = Sample("chat", question, "")
    draws = [sampled(full, [sample], 10, 64, tries=10, temperature=1.0, seed=seed)[0] for seed in (3, 4)]
    assert chat.turns[0].drawn[0] == draws[0] + draws[1]
    count = sum(value in text for text in draws[0] + draws[1])
    assert f"<b>{count} of 20</b> samples" in chat.box.html
    records = [json.loads(line) for line in chat.history.path.read_text().splitlines()]
    assert [(r["kind"], r.get("seed")) for r in records] == [("turn", None)] + [("samples", s) for s in (3, 3, 4, 4)]
    with pytest.raises(UserError, match="temperature must be above 0"):
        chat.more(temperature=0.0)


def test_few_samples_at_a_time_are_others_each_time(bio: Any, chat: Chat) -> None:
    asked(chat, bio.forget[0].question)
    for _ in range(2):
        chat.more(4, temperature=3.0)
        assert chat.wait()
    for drawn in chat.turns[0].drawn:
        assert drawn[:4] != drawn[4:]
    for count in (0, -1, "4"):
        with pytest.raises(UserError, match="a count of samples is 1 or more"):
            chat.more(count)  # type: ignore[arg-type]


def test_the_last_model_by_a_negative_place(bio: Any, chat: Chat) -> None:
    asked(chat, bio.forget[0].question)
    tables = []
    for model in (1, -1):
        chat.heatmap(-1, model)
        assert chat.wait()
        tables.append(chat.view.scores)
    assert tables[0].equals(tables[1])


def test_a_heatmap_does_not_stop_what_goes_on(bio: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(chat, bio.forget[0].question)
    opened = threading.Event()
    plain, module = sampled, importlib.import_module("workbench.view.widgets.chat")
    monkeypatch.setattr(module, "sampled", lambda *args, **more: opened.wait(20) and plain(*args, **more))
    chat.more(2)
    chat.heatmap(0, 0)
    assert chat._heatmaps.wait()
    opened.set()
    assert chat.wait()
    assert [len(texts) for texts in chat.turns[0].drawn] == [2, 2]
    assert chat.view.title == "bio-full, answer"


def test_the_heatmap_of_any_answer(full: Any, bio: Any, chat: Chat) -> None:
    asked(chat, bio.forget[0].question)
    chat.more(2)
    chat.wait()
    for which in (-1, 1):
        chat._heard(None, {"do": "open", "place": [0, 1, which]}, [])
        assert chat.wait()
        assert chat.box.problem == ""
        assert chat.view._samples["chat"] == (bio.forget[0].question, chat.turns[0].text(1, which))
        assert [layer["name"] for layer in chat.view.head["layers"]] == [
            "surprisal, bio-full", "surprisal, bio-retain", CHANGE,
        ]  # fmt: skip
    assert chat.view.title == "bio-retain, sample 2"
    assert chat.view.head["phases"] == ["bio-full", "bio-retain"]
    with pytest.raises(UserError, match="there is no answer 7 of model 1 in turn 0"):
        chat.heatmap(0, 1, 7)


def test_stopped_answers_are_kept_as_far_as_they_are(bio: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = chat_turn.streamed

    def slow(*args: Any, **more: Any) -> Any:
        for reply in plain(*args, **more):
            yield Reply(reply.text)  # never ends by itself
            chat.stop()

    monkeypatch.setattr(chat_turn, "streamed", slow)
    asked(chat, bio.forget[0].question)
    assert [reply.ended for reply in chat.turns[0].replies] == ["stopped", "stopped"]
    assert "stopped" in chat.box.html
    assert json.loads(chat.history.path.read_text())["answers"][0]["ended"] == "stopped"
    assert chat.box.busy == ""


def test_an_answer_that_fills_the_context_is_kept(full: Any, retained: Any, chat: Chat) -> None:
    chat.max_new_tokens = full.context
    question, size = "", 0
    while size < full.context - 8:
        question += "word "
        size = len(encode(full, Sample("x", question.strip(), ""), answer=False).ids)
    chat.ask(question)
    assert chat.wait()
    assert chat.turns[0].replies[0].ended in ("length", "end")
    assert (None in chat.turns[0].compared) == ("are not compared: " in chat.box.problem)


def test_a_chat_is_saved_as_it_is_shown(bio: Any, chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ask something first"):
        chat.save(tmp_path / "chat.svg")
    chat.ask(bio.forget[0].question)
    assert chat.wait()
    rows = chat.figure().rows
    assert [row.label for row in rows] == ["", *chat.labels]
    answers = ["".join(piece.text for piece in row.pieces) for row in rows[1:]]
    assert answers == [reply.text for reply in chat.turns[0].replies]
    assert any(piece.struck for piece in rows[1].pieces)
    chat.box.mode = "change in probability"
    (key,) = chat.figure().keys
    assert key.name == "change in probability"
    assert chat.save(tmp_path / "chat.tex").stat().st_size > 1000
    sent: list[Any] = []
    chat.box.send = lambda content, buffers=None: sent.append((content, buffers))  # type: ignore[method-assign]
    chat.box._handle_custom_msg({"save": "svg", "id": 7}, [])
    assert sent[0][0] == {"saved": "svg", "id": 7}
    assert sent[0][1][0] == chat.to_bytes(".svg")


def test_errors_are_a_line(chat: Chat) -> None:
    chat._heard(None, {"do": "ask", "question": " "}, [])
    assert chat.box.problem == "type a question"
    chat.ask("word " * 3000)
    assert chat.wait()
    assert "the context of bio-full holds" in chat.box.problem
    assert (chat.turns, chat.box.busy, chat.box.asked) == ([], "", 0)  # the box keeps what was typed


def test_two_at_once_do_not_mix_and_a_closed_one_leaves_no_thread(full: Any, retained: Any, bio: Any) -> None:
    both = [Chat(full, retained) for _ in range(2)]
    for widget, sample in zip(both, bio.forget, strict=False):
        widget.ask(sample.question)
    for widget, sample in zip(both, bio.forget, strict=False):
        assert widget.wait()
        assert widget.turns[0].replies[0].text == greedy(full, [sample], 1, 64)[0]
    both[0].ask(bio.forget[0].question)
    for widget in both:
        widget.close()
    wait_until(lambda: not any(thread.name == "workbench widget" for thread in threading.enumerate()))
    both[0].ask("Who?")
    assert not both[0]._worker.busy


# A run, and its history ---------------------------------------------------------------------------------------------


def test_a_run_alone_is_before_and_after(run: Path, bio: Any) -> None:
    chat = Chat(str(run))
    assert chat.labels == ["before (bio-full)", "after (run)"]
    assert "MB more" in chat.box.about[1]
    first, second = (float(line.split(", ")[1].split()[0]) for line in chat.box.about)
    assert second < first  # what LoRA has not changed is there once
    play = Playground(run, answer="A text.", scorer="atwu")  # which it has learned
    assert (play.wait(), play.box.problem) == (True, "")
    assert set(play.view.scores["scorer"]) == {"atwu"}
    asked(chat, bio.forget[0].question)
    again = Chat("bio-retain", run)
    assert again.history.path == (run / "chat.jsonl").absolute()
    assert [r["question"] for r in again.history.earlier] == [bio.forget[0].question]
    assert bio.forget[0].question in again.box.earlier
    pages = [again.export_html(), again.export_jsonl()]
    assert [p.parent for p in pages] == [run.absolute()] * 2
    assert bio.forget[0].question in pages[0].read_text()
    three = Chat("bio-full", "bio-retain", run)
    asked(three, bio.forget[1].question)
    assert three.box.html.count('class="wb-column"') == 3


def test_a_run_that_is_gone_is_one_line(run: Path, bio: Any, tmp_path: Path) -> None:
    path = shutil.copytree(run, tmp_path / "run")
    chat = Chat(path)
    shutil.rmtree(path)
    chat.ask(bio.forget[0].question)
    assert chat.wait()
    assert chat.box.problem == f"{path} is gone: this chat is kept in memory only; export it"
    assert len(chat.turns) == 1
    assert not path.exists()
    assert len(chat.export_jsonl(tmp_path / "copy.jsonl").read_text().splitlines()) == 1


def test_a_damaged_history_is_one_line_and_not_lost(full: Any, retained: Any, bio: Any, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    good = {"kind": "turn", "chat": "c", "turn": 0, "question": "kept?", "answers": [{"model": "m", "text": "yes"}]}
    wrong = ["[]", "{}", '{"kind": "turn", "turn": 1}', json.dumps(good | {"question": 3}), '{"kind": "turn", "torn']
    content = json.dumps(good) + "\n" + "\n".join(wrong)
    path.write_text(content)
    chat = Chat(full, retained, history=path)
    assert chat.box.problem == f"{path}: line 2, 3, 4, 5, 6 are not a chat record; ignored here, kept in the file"
    assert "kept?" in chat.box.earlier
    asked(chat, bio.forget[0].question)
    text = path.read_text()
    assert text.startswith(content + "\n")
    assert json.loads(text.splitlines()[-1])["question"] == bio.forget[0].question
    path.write_bytes(b"\xff\xfe\x00")
    assert "line 1 is not a chat record" in ChatHistory(path).problem


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    history = ChatHistory(tmp_path / "folder" / "chat.jsonl")
    record = {"kind": "samples", "chat": "c", "turn": 0, "model": "m", "texts": ["\u2028 é"]}
    with pytest.raises(UserError, match="is gone"):
        history.append(record)
    (tmp_path / "folder").mkdir()
    history.append(record | {"turn": 1})
    assert [r["turn"] for r in ChatHistory(history.path).earlier] == [0, 1]
    other = ChatHistory(history.path)
    other.append(record | {"turn": 2})
    history.append(record | {"turn": 3})  # two widgets on one run
    assert [r["turn"] for r in ChatHistory(history.path).earlier] == [0, 1, 2, 3]


def test_what_it_takes(full: Any) -> None:
    for models in ((), (full,), (full,) * 4):
        with pytest.raises(UserError, match="takes a run, or two or three models"):
            Chat(*models)
    with pytest.raises(UserError, match="scorer 'atwu' needs more than a text"):
        Chat(full, full, scorers=("atwu",))
    twice = Chat(full, full)
    assert twice.labels == ["bio-full (1)", "bio-full (2)"]
    assert twice.box.note == "kept in memory only: no run and no history file"
    assert repr(twice) == "Chat(bio-full (1), bio-full (2))"


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


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chromium: Any, bio: Any, chat: Chat, tmp_path: Path) -> Any:
    asked(chat, bio.forget[0].question)
    chat.more(2)
    chat.wait()
    page = open_widget(chromium, chat.box, tmp_path)
    yield page
    assert page.messages == []
    page.close()


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
