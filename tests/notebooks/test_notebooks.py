"""Every notebook runs from top to bottom, leaves rich output, and is committed without any."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from runs_of import few_rows
from sizes import SMALL

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
    """One kernel for all notebooks, one after the other: to load the libraries takes as long as a notebook."""
    manager, client = start_new_kernel(kernel_name="python3")
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def check_runs(notebook: nbformat.NotebookNode, folder: Path, kernel: KernelManager | None = None) -> None:
    """Run all cells: none fails, and some show more than text. A kernel that has run others forgets their names."""
    if kernel is not None:
        fresh = f"%reset -f\n__import__('os').chdir({str(folder)!r})"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert any("text/html" in o.get("data", {}) for o in outputs)
    assert len(nbformat.writes(notebook)) < 5_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert max(len(cell["source"]) for cell in cells if cell["cell_type"] == "code") <= 15


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, kernel: KernelManager) -> None:
    """With few rows and steps in the settings cell; the whole of the cell is run before them."""
    notebook = nbformat.read(path, as_version=4)
    cell = settings_of(notebook)
    assert assigned(SMALL[path.stem]) <= assigned(cell.source)
    cell.source += f"\n{SMALL[path.stem]}\nTASK = wb.TaskSpec('biographies', data_dir={str(few_rows(tmp_path))!r})"
    check_runs(notebook, tmp_path, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_in_full_size(path: Path, tmp_path: Path) -> None:
    check_runs(nbformat.read(path, as_version=4), tmp_path)
