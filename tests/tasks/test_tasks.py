"""Reading tasks: every error names file and line; nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.errors import UserError
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import PROBE_SETS, Sample, Task
from workbench.tasks.spec import TaskSpec

GOOD = {"question": "Who?", "answer": "Ada did it.", "spans": [[0, 3]]}


def write(path: Path, *lines: object) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def test_own_files_with_spans_and_text(tmp_path: Path) -> None:
    forget = write(tmp_path / "f.jsonl", GOOD, {"text": "A plain line of text."})
    retain = write(tmp_path / "r.jsonl", {"question": "Where?", "answer": "Here."})
    task = TaskSpec(forget=forget, retain=retain).load()
    assert task.forget[0].values == ("Ada",)
    assert task.forget[1] == Sample("forget-0001", "", "A plain line of text.")


def test_rows_may_say_that_the_answer_continues_the_question(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "f.jsonl", GOOD, {"question": "Ada did", "answer": "it.", "continues": True}))
    assert [s.continues for s in samples_from(rows(path), "forget")] == [False, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "not JSON"),
        ('["a list"]', "JSON object"),
        ({"question": "Who?"}, "needs 'question' and 'answer'"),
        ({"question": "", "answer": "x"}, "'question' must be a non-empty string"),
        ({"question": "Who?", "answer": 3}, "'answer' must be a non-empty string"),
        ({**GOOD, "spans": [[0, 99]]}, "outside its answer of 11 characters"),
        ({**GOOD, "spans": [[3, 3]]}, "is empty"),
        ({**GOOD, "answer": "\ud83d"}, "half of a surrogate pair"),
        ({**GOOD, "wrong_answers": ["\udc00"]}, "half of a surrogate pair"),
        ({**GOOD, "spans": "0-3"}, "list of"),
        ({**GOOD, "wrong_answers": [1]}, "'wrong_answers' must be a list of strings"),
        ({**GOOD, "continues": "yes"}, "'continues' must be true or false"),
        ({"text": "A line.", "continues": True}, "true only beside a 'question'"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path: Path, line: object, message: str) -> None:
    path = Path(write(tmp_path / "f.jsonl", GOOD, line))
    with pytest.raises(UserError, match=message) as error:
        samples_from(rows(path), "forget")
    assert f"{path}:2" in str(error.value)


def test_misspelt_keys_and_repeated_ids_of_own_rows(tmp_path: Path) -> None:
    retain = write(tmp_path / "r.jsonl", {"question": "Where?", "answer": "Here."})
    for rows_, message in (
        (
            [GOOD, {"question": "Who?", "answer": "Ada.", "span": [[0, 3]]}],
            r":2: unknown key 'span': did you mean spans",
        ),
        ([GOOD | {"continue": True}], r":1: unknown key 'continue': did you mean continues"),
        ([GOOD | {"id": "a"}, {"question": "Who?", "answer": "Ada.", "id": "a"}], r":2: id 'a' is used twice"),
    ):
        with pytest.raises(UserError, match=message):
            TaskSpec(forget=write(tmp_path / "f.jsonl", *rows_), retain=retain).load()
    extra = write(tmp_path / "f.jsonl", GOOD | {"person": "Ada", "source": "a book"})
    assert len(TaskSpec(forget=extra, retain=retain).load().forget) == 1


def test_empty_forget_set(tmp_path: Path) -> None:
    forget, retain = write(tmp_path / "f.jsonl", ""), write(tmp_path / "r.jsonl", GOOD)
    looked_at = Task("x", {"forget": [Sample("a", "q", "a")]})  # nothing is trained on it
    with pytest.raises(UserError, match="task 'x' has no retain set; give rows to keep"):
        _ = looked_at.retain
    with pytest.raises(UserError, match="retain set is empty"):
        Task("x", {"forget": looked_at.forget, "retain": []})
    with pytest.raises(UserError, match="forget set is empty"):
        TaskSpec(forget=forget, retain=retain).load()


def test_forget_rows_in_the_retain_set_are_refused(tmp_path: Path) -> None:
    both = write(tmp_path / "f.jsonl", GOOD)
    with pytest.raises(UserError, match="also in the retain set"):
        TaskSpec(forget=both, retain=both).load()


def test_unlabelled_text_is_what_retain_rows_leaves_or_a_file(tmp_path: Path) -> None:
    spec = TaskSpec("biographies", retain_rows=100, retain_from="end")
    task, whole = spec.load(), TaskSpec("biographies").load()
    assert task.sets["unlabelled"] + task.retain == whole.retain
    assert "unlabelled" not in whole.sets
    path = tmp_path / "u.jsonl"
    path.write_text('{"question": "Who?", "answer": "Ada."}\n')
    assert [s.answer for s in replace(spec, unlabelled=str(path)).load().sets["unlabelled"]] == ["Ada."]
    first = whole.forget[0]
    path.write_text(json.dumps({"question": first.question, "answer": first.answer}) + "\n")
    with pytest.raises(UserError, match="also in the unlabelled set"):
        replace(spec, unlabelled=str(path)).load()


def test_unknown_names_say_what_was_meant() -> None:
    with pytest.raises(UserError, match="did you mean biographies"):
        TaskSpec("biografies").load()
    with pytest.raises(UserError, match=r"did you mean .*forget01"):
        TaskSpec("tofu/forget1", data_dir=".").load()


def test_biographies(bio: Task) -> None:
    assert set(bio.sets) - {"nonmembers", "aliases", "two_hop"} == {
        "forget",
        "retain",
        "neighbours",
        "general",
        "train_extra",
    }
    assert all(s.spans and s.paraphrased_answer and len(s.wrong_answers) == 3 for s in bio.forget)
    probed = [s.id for name in PROBE_SETS for s in bio.sets.get(name, [])]
    assert len(set(probed)) == len(probed)


def test_biographies_nonmembers_is_optional_and_outside_the_fingerprint(bio: Task, tmp_path: Path) -> None:
    names = ("forget", "retain", "neighbours", "general", "train_extra")
    for name in names:
        write(tmp_path / f"{name}.jsonl", {"question": f"Which {name}?", "answer": "Yes."})
    spec = TaskSpec("biographies", data_dir=str(tmp_path))
    without = spec.load()
    assert tuple(without.sets) == names
    write(tmp_path / "nonmembers.jsonl", {"question": "Which stranger?", "answer": "Ada."})
    task = spec.load()
    assert [s.answer for s in task.sets["nonmembers"]] == ["Ada."]
    assert task.fingerprint == without.fingerprint
    assert replace(task, sets={**task.sets, "qa": bio.forget}).fingerprint != without.fingerprint
    assert "nonmembers" not in PROBE_SETS
