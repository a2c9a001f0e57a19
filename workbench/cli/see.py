"""The command that colours any text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import Progress, say
from workbench.cli.figure import FigureFile
from workbench.cli.heatmap import records, save, show, source
from workbench.cli.options import ColourBy, ModelOptions, Reference, command, option
from workbench.runs import uninterrupted


@command
def see(
    model: ModelOptions,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="what is coloured")] = None,
    file: Annotated[Path | None, option("FILE", "rows of text, or of questions and answers, instead of TEXT")] = None,
    question: Annotated[str | None, option("TEXT", "what the model is asked, instead of TEXT")] = None,
    answer: Annotated[str | None, option("TEXT", "and its answer")] = None,
    scorers: Annotated[str | None, option("A,B,C", "default: surprisal,entropy,wga")] = None,
    unlabelled: Annotated[Path | None, option("FILE", "text that the model has not seen, where needed")] = None,
    reference: Reference = None,
    by: ColourBy = "value",
    html: Annotated[Path | None, option("FILE.html", "also write a page")] = None,
    figure: FigureFile = None,
) -> dict[str, Any]:
    """Colour the tokens of any text by how much they matter to a model."""
    with uninterrupted():
        from workbench.view.see import see as view_of
    shown = source(text, file, question, html, figure)
    view = view_of(
        shown,
        model.load(),
        question=question,
        answer=answer,
        scorers=scorers.split(",") if scorers else None,
        unlabelled=unlabelled,
        reference=reference,
        by=by,
        progress=Progress(),
    )
    show(view)
    for layer in view.head["layers"]:
        if layer["trust"]:
            say(f"{layer['name']}: {layer['trust']}")
    save(view, html, "Token importance", figure)
    return {"model": model.model, "tokens": records(view)}
