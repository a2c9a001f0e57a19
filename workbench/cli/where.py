"""The command that looks where in a model a fact still is: in which layers, at which token."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import finite, say, table_line
from workbench.cli.figure import check_figure
from workbench.cli.options import PromptOptions, command, option
from workbench.cli.probe import ProbedTask
from workbench.files import writable, write_text
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.evals import Where


@command
def where(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL")],
    task: ProbedTask,
    style: PromptOptions,
    answer: Annotated[
        str | None, option("N", "answer of the forget set, by number from 1 or by id; default: the first")
    ] = None,
    reference: Annotated[str | None, option("RUN_OR_MODEL", "a retain-only model, which UDS needs")] = None,
    before: Annotated[str | None, option("RUN_OR_MODEL", "default: the model the run started from")] = None,
    html: Annotated[Path | None, option("FILE.html", "also write the maps of layers and tokens")] = None,
    figure: Annotated[Path | None, option("FILE.svg", "save the first map as a figure: .svg, .pdf or .png")] = None,
) -> dict[str, Any]:
    """Show in which layers a fact survives, token by token, next to the model before and a retain-only model."""
    if html:
        writable(html)
    check_figure(figure, text=False)
    with uninterrupted():
        from workbench.runs import where_maps
        from workbench.view.html import page, where_view
    spec = task.spec()
    maps = where_maps(
        model, answer, reference=reference, before=before, style=asdict(style),
        task=spec if spec.name or spec.forget or spec.retain else None,
    )[: None if answer else 1]  # fmt: skip
    for each in maps:
        show(each)
    if html:
        write_text(html, page("Where it still is", where_view(maps, css=False), subtitle=model))
        say(html)
    if figure:
        from workbench.view.charts import where_chart

        say(where_chart(maps[0]).save(figure))
    return {"answers": [record_of(each) for each in maps]}


def show(where: Where) -> None:
    """Print in words where the fact is, and its layers as a table."""
    from workbench.evals import NAMES

    say(f"{where.sample_id}: {where.prompt} {where.answer}")
    say(" ".join(where.summary()))
    columns: dict[str, list[str]] = {}
    for model, lens in where.lenses.items():
        columns[f"log p {NAMES[model]}"] = [f"{round(x, 2) + 0.0:.2f}" for x in where.fact_mean(lens.logp).tolist()]
    for model, lens in where.lenses.items():
        columns[f"rank {NAMES[model]}"] = [str(x + 1) for x in lens.rank[:, where.facts].max(axis=1)]
    for model in where.drops:
        depths = where.depths_of_layers(model)
        columns[f"UDS {NAMES[model]}"] = ["none" if math.isnan(x) else f"{x:.2f}" for x in depths]
    cells = enumerate(zip_longest(*columns.values(), fillvalue=""), 1)
    table_line([["layer", *columns], *([str(layer), *row] for layer, row in cells)])
    for name, reason in where.reasons.items():
        say(f"{NAMES.get(name, 'UDS')}: not available: {reason}")


def record_of(where: Where) -> dict[str, Any]:
    """All of one answer's maps, a list a layer and model; what has no value is null."""
    maps: dict[str, dict[str, Any]] = {model: {} for model in where.models}
    for model in where.models:
        if model in where.lenses:
            lens = where.lenses[model]
            maps[model] |= {"logp": lens.logp.tolist(), "rank": lens.rank.tolist()}
        if (depths := where.depths(model)) is not None:
            maps[model] |= {"uds": depths.tolist(), "drop": where.drops[model].tolist()}
    about = {name: getattr(where, name) for name in ("sample_id", "prompt", "answer", "positions", "tokens", "facts")}
    first = {model: where.first_choice(model) for model in where.lenses}
    about |= {"survives": where.survives(), "uds": where.score(), "first_choice": first}
    return finite(about | {"summary": where.summary(), "maps": maps, "not_available": where.reasons})
