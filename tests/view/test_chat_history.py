"""The chat about a run, and its history, which is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chats import asked
from runs_of import config_of, own_files

from workbench.errors import UserError
from workbench.runs import execution
from workbench.unlearning.settings import Settings
from workbench.view.widgets import Chat, Playground
from workbench.view.widgets.chat_history import ChatHistory


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=6, batch_size=8, lr=1e-3, train="lora")
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=2, objective="npo"), folder / "run")
    return folder / "run"


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
