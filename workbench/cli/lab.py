"""The command that opens the notebooks in JupyterLab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import say
from workbench.cli.options import command
from workbench.files import resource, writable


@command
def lab(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTIONS", help="passed on to JupyterLab: --no-browser --port 8899")
    ] = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="where the notebooks are copied to")] = Path(
        "workbench-notebooks"
    ),
) -> dict[str, Any]:
    """Open copies of the notebooks in JupyterLab."""
    for name in copy_notebooks(folder):
        say(f"{folder / name} differs from the one in this version: left unchanged", error=True)
    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder), *(options or [])]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise typer.Exit(status)
    return {"exit": 0, "notebooks": str(folder)}


def copy_notebooks(folder: Path) -> list[str]:
    """Copy the notebooks into a folder; the names of those that were there and differ, which are left alone."""
    writable(folder, folder=True).mkdir(parents=True, exist_ok=True)
    changed = []
    for notebook in sorted(resource("notebooks").glob("*.ipynb")):
        copy = folder / notebook.name
        if not copy.exists():
            shutil.copyfile(notebook, copy)
        elif copy.read_bytes() != notebook.read_bytes():
            changed.append(copy.name)
    return changed
