"""The editions that show what was computed before, the talk and the demonstrations, run as JupyterLab does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import course
import nbformat
import pytest
from nbclient import NotebookClient
from runs_of import few_rows
from sizes import SMALL

from workbench.view.course import editions, masters
from workbench.view.course.editions import DEMOS, TALK, tags


@pytest.fixture(scope="module")
def small_masters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The masters with few rows and steps in their settings cells."""
    rows, notebooks = few_rows(tmp_path_factory.mktemp("rows")), masters()
    for stem, master in notebooks.items():
        (cell,) = (cell for cell in master["cells"] if "settings" in tags(cell))
        sizes = f"\n{SMALL[stem]}\nTASK = wb.TaskSpec('biographies', data_dir={str(rows)!r})"
        cell["source"] = [*cell["source"], sizes]
    return notebooks


def outputs(path: Path) -> list[Any]:
    """What the cells of a notebook show, run from top to bottom in its folder."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output.text for output in shown if output.get("name") == "stderr"]
    return shown


@pytest.mark.slow
def test_the_talk_and_the_demonstrations_run(
    small_masters: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (course, editions):
        monkeypatch.setattr(module, "masters", lambda: json.loads(json.dumps(small_masters)))
    course.write_demos(tmp_path)
    assert {path.stem for path in (tmp_path / "computed").glob("*.done")} == {*DEMOS, *TALK}
    for name in (*DEMOS, "talk"):
        shown = outputs(tmp_path / f"{name}.ipynb")
        dated = [output.text for output in shown if "computed on 20" in output.get("text", "")]
        assert len(dated) == 1, name
        widgets = [output for output in shown if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
        assert widgets, name


def test_the_talk_comes_with_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make course` computes it too, once, and clears away notebooks of an earlier version."""
    computed: list[tuple[str, Path]] = []
    monkeypatch.setattr(course, "compute", lambda stem, folder: computed.append((stem, folder)))
    for _ in range(2):
        (tmp_path / "exercises").mkdir(exist_ok=True)
        (tmp_path / "exercises" / "08_of_an_earlier_version.ipynb").touch()
        course.write_all(tmp_path)
    assert computed == [(stem, tmp_path / "talk") for stem in TALK]
    assert {path.stem for path in (tmp_path / "exercises").glob("*.ipynb")} == set(masters())
    assert [path.name for path in (tmp_path / "talk").glob("*.ipynb")] == ["talk.ipynb"]
