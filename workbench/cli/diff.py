"""The command that compares two models on one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import say
from workbench.cli.figure import FigureFile
from workbench.cli.heatmap import records, save, show, source
from workbench.cli.options import ColourBy, command, option
from workbench.runs import uninterrupted


@command
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="a model: built-in or hub name, directory, run")],
    b: Annotated[str, typer.Argument(metavar="B", help="another model")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="the text")] = None,
    file: Annotated[Path | None, option("FILE", "rows of text, or of questions and answers, instead of TEXT")] = None,
    question: Annotated[str | None, option("TEXT", "what the models are asked, instead of TEXT")] = None,
    answer: Annotated[str | None, option("TEXT", "and the answer to it")] = None,
    by: ColourBy = "value",
    html: Annotated[Path | None, option("FILE.html", "also write a page")] = None,
    figure: FigureFile = None,
) -> dict[str, Any]:
    """Compare two models on a text: which tokens B expects more than A, and which less."""
    with uninterrupted():
        from workbench.view.diff import diff as view_of
    shown = source(text, file, question, html, figure)
    view = view_of(a, b, shown, question=question, answer=answer, by=by)
    say(view.title)
    show(view)
    save(view, html, f"{view.names[1]} compared with {view.names[0]}", figure)
    return {"a": a, "b": b, "by_words": view.by_words, "tokens": records(view)}
