"""The command that opens the course with progress kept, and makes the page of a class."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.cli.console import say
from workbench.cli.lab import Options, open_edition
from workbench.cli.options import command, option
from workbench.files import writable, write_text
from workbench.view.course import begin, class_page, read_folder

Shown = Literal["exercises", "solutions"]


@command
def course(
    options: Options = None,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="the learner's folder: notebooks and progress")
    ] = Path("course"),
    name: Annotated[
        str | None, option("NAME", help="the learner's name, for the teacher's page; by default the user name")
    ] = None,
    edition: Annotated[Shown, typer.Option(help="with or without the solutions")] = "exercises",
    progress: Annotated[
        Path | None,
        option("FOLDER", help="make the page of a class, from learners' files (NAME.jsonl, or NAME/progress.jsonl)"),
    ] = None,
    out: Annotated[Path, option("FILE.html", help="where --progress writes the page")] = Path("progress.html"),
) -> dict[str, Any]:
    """Open the course in JupyterLab and record progress in its folder, or make a teacher's page of a class."""
    if progress is None:
        begin(writable(folder, folder=True), name or user())
        return open_edition(folder, edition, options)
    learners, wrong = read_folder(progress)
    for line in wrong:
        say(line, error=True)
    write_text(writable(out), class_page(learners, wrong))
    say(out)
    return {"learners": {each.name: len(each.solved) for each in learners}, "wrong": len(wrong), "page": str(out)}


def user() -> str:
    """The user's name; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "learner"
