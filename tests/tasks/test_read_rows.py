"""Rows in every form that a notebook or a file has them, and the one line that says how they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.errors import UserError
from workbench.tasks import Sample, Task, read_rows, words_of

PAIR = ("Where does Zeno live?", "In Bergen.")
ROW = {"question": PAIR[0], "answer": PAIR[1]}
CHAT = [{"role": "user", "content": PAIR[0]}, {"role": "assistant", "content": PAIR[1]}]
OTHER = {"prompt": PAIR[0], "completion": PAIR[1], "source": "s"}


def read(source: Any, **more: Any) -> tuple[list[Sample], list[str]]:
    lines: list[str] = []
    return read_rows(source, say=lines.append, **more), lines


def files(folder: Path) -> list[Path]:
    frame = pd.DataFrame([ROW])
    (folder / "a.jsonl").write_text(json.dumps(ROW))
    (folder / "a.json").write_text(json.dumps([ROW]))
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet")
    (folder / "chat.jsonl").write_text(json.dumps({"messages": CHAT}))
    return sorted(folder.iterdir())


def in_memory() -> list[Any]:
    return [
        [ROW], (ROW,), ROW, [PAIR], [list(PAIR)], CHAT, [{"messages": CHAT}], [OTHER], pd.DataFrame([ROW]),
        pd.DataFrame([OTHER]), {"question": [PAIR[0]], "answer": [PAIR[1]]}, [Sample("row-0000", *PAIR)],
        Task("t", {"forget": [Sample("row-0000", *PAIR)]}), pd.DataFrame([{"messages": CHAT}]),
    ]  # fmt: skip


@pytest.mark.parametrize("source", in_memory(), ids=str)
def test_every_form_is_the_same_sample(source: Any) -> None:
    samples, lines = read(source)
    assert samples == [Sample("row-0000", *PAIR)]
    assert len(lines) == (not isinstance(source, Task))


def test_every_file_is_the_same_sample(tmp_path: Path) -> None:
    for file in files(tmp_path):
        for form in (file, str(file)):
            samples, lines = read(form)
            assert samples == [Sample("row-0000", *PAIR)]
            assert lines == [f"{file}: 1 row, question and answer from {lines[0].split('answer from ')[1]}"]


def test_a_data_set_of_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([OTHER])
    samples, lines = read(data)
    assert samples == [Sample("row-0000", *PAIR)]
    assert lines == ["Dataset: 1 row, question and answer from columns 'prompt', 'completion'; ignored: 'source'"]
    with pytest.raises(UserError, match=r"splits train, test; give one, such as data\['train'\]"):
        read(datasets.DatasetDict({"train": data, "test": data}))


def test_texts_stay_whole_and_samples_as_they_are() -> None:
    text = "word " * 500
    assert read([text])[0] == [Sample("row-0000", "", text)]
    sample = Sample("x", "q", "answer", spans=((0, 3),), wrong_answers=("no",), phrasings=("p",))
    assert read([sample])[0] == [sample]


def test_columns_by_name() -> None:
    samples, _ = read(pd.DataFrame({"Q": ["q"], "A": ["a"]}), columns={"question": "Q", "answer": "A"})
    assert samples == [Sample("row-0000", "q", "a")]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (3, "rows are a file, a table, a list or a data set, not a int"),
        ([3], "list row 0: a row is a text, a dictionary, a pair or a sample, not a int"),
        ([], "is empty"),
        (pd.DataFrame({"a": ["b"]}), "DataFrame row 0: needs 'question' and 'answer', or 'text'; found a"),
        ({"question": ["a", "b"], "answer": ["c"]}, "columns question, answer differ in length"),
        ("none.jsonl", "no such file"),
        ([ROW, {"anser": "x", "question": "y"}], "list row 1: unknown key 'anser': did you mean answer"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_one_line(source: Any, line: str) -> None:
    with pytest.raises(UserError, match=r".") as error:
        read(source)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["  two  words ", "漢字 and kana", "", " ", "one", "a\nb\tc "])
def test_words_tile_a_text(text: str) -> None:
    words = [text[a:b] for a, b in words_of(text)]
    assert "".join(words) == (text if text.strip() else "")
    assert all(word.strip() for word in words)
