"""RWKU in its official format."""

from __future__ import annotations

from pathlib import Path

import pytest
from official_files import PASSAGES, RWKU, ids_are_unique, load, one_line, sizes, write_lists

from workbench.errors import UserError
from workbench.tasks.readers.rwku import RETAIN_PIECES
from workbench.tasks.samples import Sample
from workbench.tasks.spec import TaskSpec


def test_rwku_from_a_directory(rwku_dir: Path) -> None:
    task = load("rwku/ada_KELLER", rwku_dir)
    assert task.name == "rwku/Ada Keller"
    assert sizes(task) == {"forget": 2, "retain": 2, "neighbours": 2, "fill_blank": 1, "qa": 1, "adversarial": 1}
    assert ids_are_unique(task)
    assert [s.answer for s in task.retain] == ["Bo Lind sells maps.", "Cy Prinz paints doors."]
    assert task.sets["fill_blank"] == [Sample("fill_blank-0000", "Ada Keller mends ___.", "watches")]
    assert [s.question for s in task.sets["neighbours"]] == ["The river is ___.", "How wide?"]
    assert not any(s.continues for found in task.sets.values() for s in found)


def test_rwku_keeps_a_documented_number_of_other_passages(tmp_path: Path) -> None:
    many = [{"subject": f"Person {n % 7}", "text": f"Passage {n}."} for n in range(2 * RETAIN_PIECES)]
    write_lists(tmp_path / "All", {**RWKU, "passage": PASSAGES + many})
    task = load("rwku/Ada Keller", tmp_path)
    assert len(task.retain) == RETAIN_PIECES
    assert task.retain[-1].answer == many[-1]["text"]


def test_rwku_errors_name_the_columns(rwku_dir: Path) -> None:
    write_lists(rwku_dir, {"forget_level2": [{"question": "What?", "answer": "x", "subject": "Ada Keller"}]})
    with pytest.raises(UserError, match=r"forget_level2\.json:2 entry 0: needs 'subject', 'query', 'answer'") as error:
        load("rwku/Ada Keller", rwku_dir)
    one_line(error)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder for each subject, as RWKU's own script writes them."""
    for n, name in enumerate(["Ada Keller", "Bo Lind", "Cy Prinz"], 1):
        files = {file: [row for row in rows if row["subject"] == name] for file, rows in RWKU.items()}
        write_lists(tmp_path / "Target" / f"{n}_{name.replace(' ', '_')}", files)
    return tmp_path / "Target"


def test_rwku_from_a_folder_for_each_person(people: Path, tmp_path: Path) -> None:
    write_lists(tmp_path / "All", RWKU)
    whole = load("rwku/Ada Keller", tmp_path)
    assert load("rwku/ada_keller", people).sets == whole.sets
    (tmp_path / "All").rename(tmp_path / "Other")
    assert load("rwku/Ada Keller", tmp_path).sets == whole.sets
    alone = load("rwku", people / "1_Ada_Keller")
    assert (alone.name, alone.sets) == ("rwku/Ada Keller", whole.sets)
    assert load("rwku/Bo Lind", people / "1_Ada_Keller").forget[0].answer == "Bo Lind sells maps."
    with pytest.raises(UserError, match="needs one of its 3 subjects"):
        load("rwku", people)


def test_one_persons_passages_are_rows_of_ones_own(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "forget": str(people / "1_Ada_Keller" / "passage.json"),
        "retain": str(people / "2_Bo_Lind" / "forget_level1.json"),
    }
    task = TaskSpec(**files).load()
    assert sizes(task) == {"forget": 2, "retain": 1}
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{files['forget']}: 2 rows, text from column 'text'; ignored: 'subject'"
    assert "question and answer from columns 'query', 'answer'; ignored: 'level', 'type', 'subject'" in second
