"""The command that makes the page of a run, or of a sequence of requests."""

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
    """Write one self-contained HTML page about a run or a sequence of requests."""
    with uninterrupted():
        from workbench.files import writable, write_text
        from workbench.runs import RunDirectory, is_sequence
        from workbench.view import run_report, sequence_page
    writable(out)
    if is_sequence(run):
        write_text(out, sequence_page(run))
    else:
        run_report(RunDirectory(run).path, out=out)
    say(out)
    return {"report": str(out)}
