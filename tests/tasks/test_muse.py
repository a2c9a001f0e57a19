"""MUSE in its official format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from official_files import LONG, MUSE, ids_are_unique, load, one_line, sizes, write_lists

from workbench.errors import UserError
from workbench.tasks.pieces import PIECE_WORDS
from workbench.tasks.samples import Sample


def test_muse_from_a_directory(muse_dir: Path) -> None:
    task = load("muse/news", muse_dir)
    assert task.name == "muse/news"
    assert sizes(task) == {
        "forget": 4, "retain": 1, "verbmem": 2, "knowmem": 2, "retain_knowmem": 1, "nonmembers": 2,
        "privleak_forget": 1,
    }  # fmt: skip
    assert ids_are_unique(task)
    assert all(not s.question for name in ("forget", "retain", "nonmembers") for s in task.sets[name])
    assert task.retain[0].answer == "The ferry runs at noon.\n\nIt is blue."
    assert task.sets["verbmem"][0] == Sample("verbmem-0000", "The lamp was", "lit on Friday.", continues=True)


def test_long_texts_are_cut_between_words_into_like_pieces(muse_dir: Path) -> None:
    cut = [s.answer for s in load("muse/news", muse_dir).forget[1:]]
    assert " ".join(cut) == LONG
    assert [len(text.split()) for text in cut] == [133, 134, 134]
    assert len(cut) == 3
    assert max(len(text.split()) for text in cut) <= PIECE_WORDS


def test_muse_few_shot_prompts_are_the_official_ones(muse_dir: Path) -> None:
    task = load("muse/news", muse_dir)
    assert [s.question for s in task.sets["knowmem"]] == [
        "Question: How many?\nAnswer: Two\n\nQuestion: Who?\nAnswer: Nobody\n\nQuestion: When was it lit?\nAnswer: ",
        "Question: How many?\nAnswer: Two\n\nQuestion: Who?\nAnswer: Nobody\n\nQuestion: What?\nAnswer: ",
    ]
    assert task.sets["retain_knowmem"][0].question == (
        "Question: Why?\nAnswer: Wind\n\nQuestion: When does it run?\nAnswer: "
    )
    assert all(s.continues for name in ("knowmem", "retain_knowmem") for s in task.sets[name])
    assert [s.answer for s in task.sets["knowmem"]] == ["Friday", "A lamp"]


def test_muse_takes_the_folder_above_text_files_and_json_lines(tmp_path: Path) -> None:
    write_lists(tmp_path / "books", MUSE)
    folder = tmp_path / "books"
    (folder / "raw" / "forget.json").unlink()
    (folder / "raw" / "forget.txt").write_text("The lamp was lit on Friday.\n\nIt burnt.")
    (folder / "privleak" / "holdout.json").write_text('{"text": "The bridge fell."}\n{"text": "It stood."}\n')
    (folder / "privleak" / "forget.json").write_text(json.dumps(["The lamp was lit on Friday.\n\nIt burnt."]))
    task = load("muse/books", tmp_path)
    assert [s.answer for s in task.forget] == ["The lamp was lit on Friday.\n\nIt burnt."]
    assert [s.answer for s in task.sets["nonmembers"]] == ["The bridge fell.", "It stood."]
    assert "privleak_forget" not in task.sets


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "verbmem/forget",
            [{"prompt": "The", "answer": "end"}],
            ":2 entry 0: needs 'prompt', 'gt'; found answer, prompt",
        ),
        ("verbmem/forget", [{"prompt": "A", "gt": "b"}, {"prompt": "The", "gt": 3}], ":6 entry 1: 'gt' must be"),
        ("knowmem/forget_qa_icl", [{"question": "Who?"}], ":2 entry 0: needs 'question', 'answer'; found question"),
        ("raw/retain1", [{"body": "x"}], ":2 entry 0: needs 'text', a string; found body"),
        ("raw/retain1", ["ok", 7], ":3 entry 1: expected an object or a string, found int"),
        ("raw/retain1", ["The lamp was lit on Friday."], "rows of the forget set are also in the retain set"),
        ("raw/forget", [], "the forget set is empty"),
    ],
)
def test_muse_errors_name_file_line_and_columns(muse_dir: Path, file: str, content: Any, message: str) -> None:
    write_lists(muse_dir, {file: content})
    with pytest.raises(UserError) as error:
        load("muse/news", muse_dir)
    said = one_line(error)
    assert message in said
    assert message.startswith(("rows", "the")) or f"{muse_dir / file}.json" in said


def test_muse_files_that_are_missing_or_broken(muse_dir: Path) -> None:
    (muse_dir / "raw" / "retain1.json").write_text('["fine",\n oops]')
    with pytest.raises(UserError, match=r"retain1\.json:2: not JSON") as error:
        load("muse/news", muse_dir)
    one_line(error)
    (muse_dir / "raw" / "retain1.json").unlink()
    with pytest.raises(UserError, match=r"raw/retain1\.json: no such file") as error:
        load("muse/news", muse_dir)
    one_line(error)
