"""The chat: streams, differences, samples, another turn, and what it takes."""

from __future__ import annotations

import importlib
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chats import asked
from runs_of import wait_until

from workbench.errors import UserError
from workbench.evals import Reply, sampled
from workbench.evals.answers import token_table
from workbench.evals.generation import greedy
from workbench.models import encode
from workbench.tasks.samples import Sample
from workbench.view.widgets import Chat, chat_turn
from workbench.view.widgets.token_payload import CHANGE


@pytest.fixture
def chat(full: Any, retained: Any, tmp_path: Path) -> Any:
    widget = Chat(full, retained, history=tmp_path / "chat.jsonl")
    yield widget
    widget.close()


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
