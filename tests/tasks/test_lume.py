"""LUME in its official format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from official_files import ids_are_unique, load, one_line, sizes

from workbench.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_lume_from_a_directory(lume_dir: Path) -> None:
    task = load("lume/task1", lume_dir)
    assert (task.name, sizes(task)) == ("lume/task1", {"forget": 2, "retain": 1})
    assert [(s.id, s.continues) for s in task.forget] == [("a-1sc0", True), ("a-1qa0", False)]
    whole = load("lume", lume_dir)
    assert (whole.name, sizes(whole)) == ("lume", {"forget": 3, "retain": 2})
    with pytest.raises(UserError, match="'lume/task3': the forget set is empty"):
        load("lume/task3", lume_dir)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "input": "a", "output": "b"}, "needs 'id', 'input', 'output', 'task'; found id, input, output"),
        ({"id": "xzz1", "input": "a", "output": "b", "task": "Task1"}, "'id' must end in sc or qa and a number"),
        ({"id": "xsc1", "input": "a", "output": "b", "task": "Task9"}, "'task' must be one of Task1, Task2, Task3"),
        ({"id": "xsc1", "input": "a", "output": "", "task": "Task1"}, "'output' must be a non-empty string"),
        ({"id": "a-1sc0", "input": "a", "output": "b", "task": "Task1"}, "id 'a-1sc0' is used twice"),
    ],
)
def test_lume_errors_name_file_and_line(lume_dir: Path, row: dict[str, str], message: str) -> None:
    with (lume_dir / "forget.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message) as error:
        load("lume", lume_dir)
    assert f"{lume_dir / 'forget.jsonl'}:4" in one_line(error)


def test_lume_on_the_real_files() -> None:
    folder = SHARED / "lume"
    if not (folder / "forget.jsonl").exists():
        pytest.skip("the official LUME files are not beside the repository (shared/data/lume)")
    found = {name: load(f"lume/{name}", folder) for name in ("task1", "task2", "task3")}
    assert [sizes(task) for task in found.values()] == [
        {"forget": 486, "retain": 492}, {"forget": 1500, "retain": 1500}, {"forget": 746, "retain": 742},
    ]  # fmt: skip
    whole = load("lume", folder)
    assert sizes(whole) == {"forget": 2732, "retain": 2734}
    assert ids_are_unique(whole)
    assert sum(s.continues for s in whole.forget) == 243 + 250 + 373
