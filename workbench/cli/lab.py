"""The command that opens the notebooks in JupyterLab."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import say
from workbench.cli.options import command
from workbench.files import writable
from workbench.view.course import write_edition

Options = Annotated[
    list[str] | None, typer.Argument(metavar="OPTIONS", help="passed on to JupyterLab: --no-browser --port 8899")
]


@command
def lab(
    options: Options = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="where the notebooks are copied to")] = Path(
        "workbench-notebooks"
    ),
) -> dict[str, Any]:
    """Open the notebooks, with exercises and without solutions, in JupyterLab."""
    return open_edition(folder, "exercises", options)


def open_edition(folder: Path, edition: str, options: list[str] | None) -> dict[str, Any]:
    """Write an edition of the notebooks into a folder, but for files that are there, and open it in JupyterLab."""
    for path in write_edition(writable(folder, folder=True), edition):
        say(f"{path} differs from the one in this version: left unchanged", error=True)
    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder), *(options or [])]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise typer.Exit(status)
    return {"exit": 0, "notebooks": str(folder)}
