"""Rows in the forms that people have, and the line that says how they were read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import UserError
from workbench.tasks.own_files import own_set
from workbench.tasks.pieces import PIECE_WORDS
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import Sample
from workbench.tasks.spec import TaskSpec

QA = {"question": "Who?", "answer": "Ada."}
TURNS = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
FROM_QA = "question and answer from columns 'question', 'answer'"
SYSTEM = 'a system message belongs to the model (--system "..."), not to a row: ignored (1 row)'
LAST = "of several turns only the last answer and the question before it (1 row)"


def read(tmp_path: Path, *entries: object, **columns: str) -> tuple[list[Sample], str]:
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    samples, reading = own_set(str(path), "s", columns)
    return samples, reading.line().removeprefix(f"{path}: ")


def chat(*turns: tuple[str, Any], keys: tuple[str, str] = ("role", "content")) -> list[dict[str, Any]]:
    return [dict(zip(keys, turn, strict=True)) for turn in turns]


FORMS: list[tuple[dict[str, Any], str]] = [
    (QA, FROM_QA),
    (QA | {"text": "A passage."}, f"{FROM_QA}; ignored: 'text'"),
    (QA | {"answers": ["Ada."]}, f"{FROM_QA}; ignored: 'answers'"),
    (QA | {"text": "", "source": "a book", "page": 0}, f"{FROM_QA}; ignored: 'source', 'page'"),
    (QA | dict.fromkeys(("id", "text", "continues", "spans", "wrong_answers", "messages")), FROM_QA),
    (QA | {"id": " ", "paraphrased_question": "", "spans": float("nan")}, FROM_QA),
    (QA | {"messages": TURNS}, f"{FROM_QA}; ignored: 'messages'"),
    (QA | {"\x1b[31m": 1}, f"{FROM_QA}; ignored: '\\x1b[31m'"),
    ({"Question": "Who?", "Answer ": "Ada."}, "question and answer from columns 'Question', 'Answer '"),
    ({"messages": TURNS}, "question and answer from column 'messages'"),
    ({"messages": chat(("system", "Be brief."), *[tuple(t.values()) for t in TURNS])},
     f"question and answer from column 'messages'; {SYSTEM}"),
    ({"messages": chat(("user", "Hi"), ("assistant", "Hi!"), *[tuple(t.values()) for t in TURNS], ("user", "Thanks."))},
     f"question and answer from column 'messages'; {LAST}"),
    ({"messages": chat(("user", "Who?"), ("tool", "x"), ("assistant", "Ada."))},
     "question and answer from column 'messages'; turns of tool ignored (1 row)"),
    ({"messages": chat(("user", [{"type": "text", "text": "Who?"}]), ("assistant", [{"text": "Ad"}, {"text": "a."}]))},
     "question and answer from column 'messages'"),
    ({"messages": json.dumps(TURNS)}, "question and answer from column 'messages'"),
    ({"messages": {"role": ["user", "assistant"], "content": ["Who?", "Ada."]}},
     "question and answer from column 'messages'"),
    ({"conversations": chat(("human", "Who?"), ("gpt", "Ada."), keys=("from", "value")), "system": "Be brief."},
     f"question and answer from column 'conversations'; ignored: 'system'; {SYSTEM}"),
    ({"instruction": "Who?", "input": "", "output": "Ada.", "text": "### Instruction: ..."},
     "question and answer from columns 'instruction', 'output'; ignored: 'text'"),
    ({"prompt": "Who?", "completion": "Ada."}, "question and answer from columns 'prompt', 'completion'"),
    ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "question and answer from columns 'prompt', 'completion'"),
    ({"prompt": "Who?", "chosen": "Ada.", "rejected": "Bo."},
     "question and answer from columns 'prompt', 'chosen'; ignored: 'rejected'"),
    ({"prompt": "Who?", "chosen": TURNS, "rejected": TURNS},
     "question and answer from columns 'prompt', 'chosen'; ignored: 'rejected'"),
    ({"chosen": TURNS, "rejected": TURNS}, "question and answer from column 'chosen'; ignored: 'rejected'"),
    ({"context": "Ada did it.", "question": "Who?", "answers": {"text": ["Ada.", "Ada."], "answer_start": [0, 0]}},
     "question and answer from columns 'question', 'answers'; ignored: 'context'"),
    ({"question": "Who?", "answers": json.dumps({"text": ["Ada."]})},
     "question and answer from columns 'question', 'answers'"),
    ({"question": "Who?", "answer": ["Ada.", "Bo."]}, f"{FROM_QA}; the first of several in 'answer' (1 row)"),
    ({"query": "Who?", "answer": "Ada.", "level": "1"},
     "question and answer from columns 'query', 'answer'; ignored: 'level'"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "how"), FORMS)
def test_every_form_of_a_row_is_the_same_sample(tmp_path: Path, row: dict[str, Any], how: str) -> None:
    assert read(tmp_path, row) == ([Sample("s-0000", "Who?", "Ada.")], f"1 row, {how}")


def test_an_instruction_and_its_input_are_one_question(tmp_path: Path) -> None:
    samples, line = read(
        tmp_path, {"instruction": "Who is it?", "input": "The mender.", "output": "Ada."}, {"text": "x"}
    )
    assert samples[0] == Sample("s-0000", "Who is it?\nThe mender.", "Ada.")
    how = "question and answer from columns 'instruction', 'input', 'output'"
    assert line == f"2 rows, 1 with {how} and 1 with text from column 'text'"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "A passage.", "question": "Who?"}, "has 'text' and 'question'; give 'question' and 'answer', or"),
        ({"text": "A passage.", "question": "Who?", "answer": None}, "has 'text' and 'question'"),
        ({"question": "Who?", "answer": {"a": 1}}, "'answer' must be a non-empty string"),
        (
            {"question": "Who?", "answers": {"text": [], "answer_start": []}},
            "'answers' holds no answer; leave the row out",
        ),
        (QA | {"id": {"a": 1}}, "'id' must be a string or a number"),
        (QA | {"spans": [[0, None]]}, "'spans' must be a list of"),
        ({"questions": "Who?", "answer": "Ada."}, "unknown key 'questions': did you mean question?"),
        (TURNS[0], "is one turn of a chat; give all of its turns as a list under 'messages'"),
        ({"messages": "hello"}, "'messages' must be a list of turns such as"),
        ({"messages": []}, "'messages' must be a list of turns such as"),
        ({"messages": TURNS[:1]}, "'messages' has no assistant's turn after a user's"),
        ({"messages": TURNS[1:]}, "'messages' has no assistant's turn after a user's"),
        ({"messages": chat(("user", "Who?"), ("assistant", None))}, "'messages' has a turn without text"),
        (
            {"messages": chat(("user", [{"type": "image"}]), ("assistant", "Ada."))},
            "'messages' has a turn without text",
        ),
        ({"messages": chat(("user", "Who?"), ("assistant", 3))}, "'answer' must be a non-empty string, not 3"),
    ],
)
def test_rows_that_cannot_be_learned_are_one_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, QA, row)
    assert f"f.jsonl:2: {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_ids_may_be_numbers_and_null_is_none(tmp_path: Path) -> None:
    row = {"question": "Who?", "wrong_answers": [None, "Bo."], "answer": "Ada.", "id": 7}
    samples, _ = read(tmp_path, row, QA | {"id": None}, QA | {"id": 2.5})
    assert [s.id for s in samples] == ["7", "s-0001", "2.5"]
    assert samples[0].wrong_answers == ("Bo.",)
    with pytest.raises(UserError, match=r":2: id '7' is used twice"):
        read(tmp_path, row, QA | {"id": "7"})


def test_official_rows_forgive_the_same(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": null, "question": "Who?", "answer": "Ada.", "text": "", "continues": null, "spans": NaN}')
    assert samples_from(rows(path), "s") == [Sample("s-0000", "Who?", "Ada.")]


def test_columns_may_be_named(tmp_path: Path) -> None:
    row = QA | {"Q": "Where?", "A": "Here.", "text": "A passage.", "chat": TURNS, "No": 5}
    for columns, sample, used in (
        ({"question": "Q", "answer": "A", "id": "No"}, Sample("5", "Where?", "Here."), "columns 'Q', 'A'"),
        ({"answer": "A"}, Sample("s-0000", "Who?", "Here."), "columns 'question', 'A'"),
        ({"text": "text"}, Sample("s-0000", "", "A passage."), "text from column 'text'"),
        ({"messages": "chat"}, Sample("s-0000", "Who?", "Ada."), "column 'chat'"),
        ({"wrong_answers": "A"}, Sample("s-0000", "Who?", "Ada.", wrong_answers=("Here.",)), FROM_QA),
        ({"question": "none"}, Sample("s-0000", "Who?", "Ada."), FROM_QA),
    ):
        samples, line = read(tmp_path, row, **columns)
        assert samples == [sample]
        assert used in line
    with pytest.raises(UserError, match=r"no column 'B', which --columns names; there are question, answer, Q"):
        read(tmp_path, row, question="Q", answer="B")


def test_a_task_says_how_its_files_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.csv").write_text("Q,A,source\nWho?,Ada.,book\nWhere?,Here.,book\n")
    (tmp_path / "r.jsonl").write_text(json.dumps({"text": "Plain."}))
    files = {"forget": str(tmp_path / "f.csv"), "retain": str(tmp_path / "r.jsonl")}
    spec = TaskSpec(**files, columns={"question": "Q", "answer": "A"})
    assert [s.answer for s in spec.load().forget] == ["Ada.", "Here."]
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        f"{files['forget']}: 2 rows, question and answer from columns 'Q', 'A'; ignored: 'source'",
        f"{files['retain']}: 1 row, text from column 'text'",
    ]
    assert not output.out
    with pytest.raises(UserError, match="unknown key of --columns 'questoin': did you mean question"):
        TaskSpec(**files, columns={"questoin": "Q"}).load()
    with pytest.raises(UserError, match="no file has the column 'X', which --columns names"):
        TaskSpec("biographies", columns={"question": "X"}).load()


def test_long_texts_are_cut_with_their_spans(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(2 * PIECE_WORDS + 1)]
    text = "\n ".join(words)
    labelled = [words[0], words[150], words[-1]]
    spans = [[text.index(word), text.index(word) + len(word)] for word in labelled]
    over = [text.index(words[132]), text.index(words[133]) + len(words[133])]  # over a cut
    samples, line = read(tmp_path, {"id": "long", "text": text, "spans": [*spans, over]}, {"text": " short\n"}, QA)
    assert [s.id for s in samples] == ["long-000", "long-001", "long-002", "s-0001", "s-0002"]
    assert [s.answer.split() for s in samples[:3]] == [words[:133], words[133:267], words[267:]]
    assert [s.values for s in samples[:3]] == [(words[0], words[132]), (words[150], words[133]), (words[-1],)]
    assert samples[3].answer == " short\n"
    assert line.endswith("cut into 3 pieces of at most 200 words (1 row)")
    (tmp_path / "r.jsonl").write_text(json.dumps(QA))
    spec = TaskSpec(forget=str(tmp_path / "f.jsonl"), retain=str(tmp_path / "r.jsonl"), piece_words=100)
    with pytest.raises(UserError, match="piece_words must be at least 1"):
        replace(spec, piece_words=0).load()
    read(tmp_path, {"text": text})
    assert [len(s.answer.split()) for s in spec.load().forget] == [80, 80, 80, 80, 81]


def test_a_script_without_spaces_is_cut_between_characters(tmp_path: Path) -> None:
    text = "我喜欢读书。" * 100
    samples, _ = read(tmp_path, {"text": text})
    assert "".join(s.answer for s in samples) == text
    assert {len(s.answer) <= 1.2 * PIECE_WORDS for s in samples} == {True}


def test_labels_of_a_long_text_find_its_pieces(tmp_path: Path) -> None:
    text = " ".join(f"word{n}" for n in range(300))
    for name, row in {"f": {"text": text}, "r": QA, "s": {"text": text, "spans": [[0, 5]]}}.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    spec = TaskSpec(**{key: str(tmp_path / f"{key[0]}.jsonl") for key in ("forget", "retain", "spans")})
    assert [s.spans for s in spec.load().forget] == [((0, 5),), ()]
