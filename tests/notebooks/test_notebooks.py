"""Every notebook runs from top to bottom, leaves rich output, and is committed without any."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from runs_of import few_rows
from sizes import SMALL

from workbench.view.course import edition
from workbench.view.course.editions import tags

FORKED = f"""
import sys
sys.path.append({str(Path(__file__).resolve().parents[1])!r})
import forked
from workbench.runs import scheduler
scheduler.subprocess = forked
"""
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def settings_of(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The one cell that holds the sizes."""
    (cell,) = [cell for cell in notebook.cells if "settings" in cell.metadata.get("tags", ())]
    return cell


def assigned(source: str) -> set[str]:
    """The names that a cell assigns."""
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all notebooks, one after the other: to load the libraries takes as long as a notebook.

    So it is for the jobs that they start, which have them loaded.
    """
    manager, client = start_new_kernel(kernel_name="python3")
    assert client.execute_interactive(FORKED, timeout=120)["content"]["status"] == "ok"
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def master(path: Path) -> nbformat.NotebookNode:
    """A notebook with all its cells, but for those that stand in a demonstration in the place of others."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "demo" not in cell.metadata.get("tags", ())]
    return notebook


def check_runs(notebook: nbformat.NotebookNode, folder: Path, kernel: KernelManager | None = None) -> None:
    """Run all cells: none fails or prints in red, some show more than text, dots are no answer, solutions are right.

    A kernel that has run other notebooks forgets their names.
    """
    if kernel is not None:
        fresh = f"%reset -f\n__import__('os').chdir({str(folder)!r})"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [o for cell in code for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]  # Jupyter paints it red, as what went wrong
    shown = [o.get("data", {}) for o in outputs]
    assert any("text/html" in data for data in shown)
    charts = [data for data in shown if "application/vnd.plotly.v1+json" in data]
    assert all("image/svg+xml" in data for data in charts)  # a picture, for where nothing draws the chart
    assert len(nbformat.writes(notebook)) < 5_000_000
    for cell in code:
        if "wb.check(" in cell.source:
            said = [o.data.get("text/plain", "") for o in cell.outputs if "data" in o]
            expected = " right: " if "solution" in tags(cell) else " no answer yet: "
            assert sum(expected in text for text in said) == 1, (cell.id, said)


def small(notebook: nbformat.NotebookNode, stem: str, folder: Path) -> nbformat.NotebookNode:
    """With few rows and steps in the settings cell, and without the claims, which hold in full size."""
    cell = settings_of(notebook)
    assert assigned(SMALL[stem]) <= assigned(cell.source)
    cell.source += f"\n{SMALL[stem]}\nTASK = wb.TaskSpec('biographies', data_dir={str(few_rows(folder))!r})"
    notebook.cells = [cell for cell in notebook.cells if "claim" not in cell.metadata.get("tags", ())]
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert max(len(cell["source"]) for cell in cells if cell["cell_type"] == "code") <= 16


def test_charts_made_by_hand_have_the_look_of_the_others() -> None:
    """A bare plotly figure has grey text, which is too faint on white."""
    sources = [cell.source for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    assert sum(len(re.findall(r"Chart\(px\.", source)) for source in sources) > 4
    assert not [source for source in sources if re.search(r"(?<!Chart\()\bpx\.\w+\(|go\.Figure\(", source)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, kernel: KernelManager) -> None:
    """The whole of the settings cell is run before the small sizes."""
    check_runs(small(master(path), path.stem, tmp_path), tmp_path, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exercises", "solutions"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_editions_run(path: Path, name: str, tmp_path: Path) -> None:
    made = nbformat.from_dict(edition(json.loads(path.read_text(encoding="utf-8")), name))
    made = nbformat.reads(nbformat.writes(made), as_version=4)
    check_runs(small(made, path.stem, tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_in_full_size(path: Path, tmp_path: Path) -> None:
    """With the cells that compute what the text says one will notice."""
    check_runs(master(path), tmp_path)
