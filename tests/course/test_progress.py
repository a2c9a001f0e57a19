"""Progress of learners: what a folder of files says, whatever stands in them, and the page of a class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import refused, told
from pages import Text

from workbench.errors import UserError
from workbench.view.course import begin, class_page, read_folder
from workbench.view.course.progress import record

HOSTILE = "<script>alert(1)</script>"


def learner(folder: Path, name: str, *checks: tuple[str, bool]) -> Path:
    (own := folder / f"of {len(list(folder.iterdir()))}").mkdir()
    path = begin(own, name)
    for exercise, right in checks:
        record(exercise, right, own)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (own := tmp_path / "class").mkdir()
    learner(own, "Ada", ("00.1", False), ("00.1", True), ("00.1", False), ("01.1", False))
    learner(own, HOSTILE, ("00.1", True))
    return own


def test_what_a_file_says(folder: Path) -> None:
    learners, wrong = read_folder(folder)
    assert wrong == []
    assert [each.name for each in learners] == [HOSTILE, "Ada"]
    ada = learners[1]
    assert list(ada.solved) == ["00.1"]
    assert ada.tries == {"00.1": 2, "01.1": 1}  # what comes after the first right one does not count
    assert ada.last


def test_begun_once(tmp_path: Path) -> None:
    path = begin(tmp_path, "Ada")
    record("00.1", True, tmp_path)
    text = path.read_text()
    assert begin(tmp_path, "Bo").read_text() == text


def test_the_page_escapes_and_counts(folder: Path) -> None:
    page = class_page(*read_folder(folder))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert Text(page).tags  # it nests
    assert "2 learners" in page


DAMAGED = {
    "not utf-8": b"\xff\xfe\x00",
    "no json": b"{'exercise': '00.1'}",
    "nested": b"[" * 100_000,
    "a list": b"[1, 2]",
    "no time": b'{"exercise": "00.1", "right": true}',
    "a time that is none": b'{"exercise": "00.1", "right": true, "time": "soon"}',
    "right is text": b'{"exercise": "00.1", "right": "yes", "time": "2026-01-01T10:00:00+00:00"}',
    "a name that is none": b'{"exercise": {"a": 1}, "right": true, "time": "2026-01-01T10:00:00+00:00"}',
    "NaN": b'{"exercise": "00.1", "right": NaN, "time": "2026-01-01T10:00:00+00:00"}',
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_is_one_line_and_the_others_are_read(folder: Path, line: bytes) -> None:
    path = next(folder.glob("*/progress.jsonl"))
    path.write_bytes(path.read_bytes() + line + b"\n")
    learners, wrong = read_folder(folder)
    assert [list(each.solved) for each in learners] == [["00.1"], ["00.1"]]
    assert len(wrong) == 1
    assert "1 lines cannot be read" in wrong[0]
    (folder / "other.jsonl").write_bytes(line)
    assert any("no file of progress" in each for each in read_folder(folder)[1])
    assert all("\n" not in each for each in read_folder(folder)[1])


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(UserError, match="holds no file of progress"):
        read_folder(tmp_path)


def test_a_huge_file_is_refused_by_its_size(folder: Path) -> None:
    with (folder / "huge.jsonl").open("wb") as file:
        file.truncate(10**9)
    assert "larger than any" in read_folder(folder)[1][0]


def test_a_name_with_controls_stays_on_its_line(folder: Path) -> None:
    (folder / "x.jsonl").write_text(json.dumps({"learner": "a\x1b[2J\nb\u202e", "time": "2026-01-01T10:00"}))
    (name,) = [each.name for each in read_folder(folder)[0] if each.name.startswith("a")]
    assert name.isprintable()


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    lines, result = told(capsys, "course", "--progress", str(folder), "--out", str(out))
    assert result["learners"]["Ada"] == 1
    assert str(out) in "\n".join(lines)
    assert "Progress of a course" in out.read_text(encoding="utf-8")
    assert "is no folder" in refused(capsys, "course", "--progress", str(tmp_path / "none"))


def test_the_command_opens_exercises_and_begins_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []

    class Done:
        returncode = 0

    def run(command: list[str], **_: object) -> Done:
        words.extend(command)
        return Done()

    monkeypatch.setattr("workbench.cli.lab.subprocess.run", run)
    own = tmp_path / "mine"
    told(capsys, "course", "--dir", str(own), "--name", "Ada", "--no-browser")
    assert words[-3:] == ["--notebook-dir", str(own), "--no-browser"]

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    told(capsys, "course", "--dir", str(tmp_path / "container"), "--no-browser")
    assert "learner" in json.loads((tmp_path / "container" / "progress.jsonl").read_text().splitlines()[0])["learner"]
    assert json.loads((own / "progress.jsonl").read_text().splitlines()[0])["learner"] == "Ada"
    text = (own / "01_see_importance.ipynb").read_text(encoding="utf-8")
    assert "01.1" in text
    assert "blank.select(" not in text
