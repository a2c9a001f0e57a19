"""The command that makes the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import say
from workbench.cli.options import command, option
from workbench.runs import uninterrupted


@command
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    out: Annotated[Path, option("FILE.html")] = Path("report.html"),
) -> dict[str, Any]:
    """Write one self-contained HTML page about a run."""
    with uninterrupted():
        from workbench.files import writable
        from workbench.runs import RunDirectory
        from workbench.view import run_report
    writable(out)
    run_report(RunDirectory(run).path, out=out)
    say(out)
    return {"report": str(out)}
