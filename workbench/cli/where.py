"""The command that looks where in a model a fact still is: in which layers, at which token."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import say, table_line
from workbench.cli.figure import check_figure
from workbench.cli.options import PromptOptions, command, option
from workbench.cli.probe import ProbedTask
from workbench.files import writable, write_text
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    import numpy as np

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
    return {"answers": [as_json(each) for each in maps]}


def show(where: Where) -> None:
    """Print in words where the fact is, and its layers as a table."""
    from workbench.evals import NAMES

    say(f"{where.sample_id}: {where.prompt} {where.answer}")
    say(" ".join(where.summary()))
    rows = [["layer", *(f"{what} {NAMES[m]}" for what in ("log p", "rank", "UDS") for m in _models(where, what))]]
    for layer in range(max(where.layers(m) for m in where.models)):
        rows.append([str(layer + 1), *_cells(where, layer)])
    table_line(rows)
    for name, reason in where.reasons.items():
        say(f"{NAMES.get(name, 'UDS')}: not available: {reason}")


def _models(where: Where, what: str) -> list[str]:
    return list(where.drops) if what == "UDS" else list(where.lenses)


def _cells(where: Where, layer: int) -> list[str]:
    """Over the fact's tokens at a layer: the mean log p, the highest rank, UDS."""
    cells = []
    for lens in where.lenses.values():
        cells.append(
            f"{round(float(where.fact_mean(lens.logp)[layer]), 2) + 0.0:.2f}" if layer < len(lens.logp) else ""
        )
    for lens in where.lenses.values():
        cells.append(f"{lens.rank[layer, where.facts].max() + 1}" if layer < len(lens.rank) else "")
    for model in where.drops:
        value = where.depths_of_layers(model)[layer]
        cells.append("none" if math.isnan(value) else f"{value:.2f}")
    return cells


def as_json(where: Where) -> dict[str, Any]:
    """All of one answer's maps, a list a layer and model; what has no value is null."""
    maps: dict[str, dict[str, Any]] = {model: {} for model in where.models}
    for model in where.models:
        if model in where.lenses:
            lens = where.lenses[model]
            maps[model] |= {"logp": _lists(lens.logp), "rank": lens.rank.tolist()}
        if (depths := where.depths(model)) is not None:
            maps[model] |= {"uds": _lists(depths), "drop": _lists(where.drops[model])}
    score = where.score()
    about = {name: getattr(where, name) for name in ("sample_id", "prompt", "answer", "positions", "tokens", "facts")}
    first = {model: where.first_choice(model) for model in where.lenses}
    about |= {"survives": where.survives(), "uds": None if math.isnan(score) else score, "first_choice": first}
    return about | {"summary": where.summary(), "maps": maps, "not_available": where.reasons}


def _lists(values: np.ndarray) -> list[list[float | None]]:
    return [[float(x) if math.isfinite(x) else None for x in row] for row in values]
