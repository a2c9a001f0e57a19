"""The command that measures which domain hurts which, and the one that says beforehand who is at risk."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.console import Progress, number, say, table_line
from workbench.cli.options import ModelOptions, TaskOptions, command, count, option, settings
from workbench.cli.sweep import seeds_of
from workbench.errors import UserError
from workbench.files import writable, write_text
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.evals import Interference


@command
def interference(
    task: TaskOptions,
    model: ModelOptions,
    by: Annotated[str, option("FIELD", "whose values are the domains: person, attribute, phrasing, author, kind, ...")],
    objective: Annotated[str, option("X", "the forget loss")] = "wga",
    weights: Annotated[str, option("Y", "the token weights, by a scorer's name")] = "uniform",
    level: Annotated[str, option("SET.METRIC<=X", "each run ends at the first probe that reaches this level")] = (
        "forget.fact_accuracy<=0.2"
    ),
    seeds: Annotated[str, option("A,B,C")] = "0",
    sets: Annotated[str, option("A,B", "sets whose domains are measured")] = "forget,neighbours",
    most: Annotated[int | None, count("forget at most N domains")] = None,
    answers: Annotated[int, count("show the tokens of N answers of each domain")] = 3,
    pairs: Annotated[list[str], settings("e.g. steps=240 lr=3e-4")] = [],  # noqa: B006
    html: Annotated[Path | None, option("FILE.html", "also write the maps as a page")] = None,
    out: Annotated[Path, option("DIR", "the directory of the runs and of the result")] = Path("interference"),
) -> dict[str, Any]:
    """Forget each domain of a task alone, and measure what that does to the others, beside what was predicted.

    If it was interrupted, the same command again does what is missing.
    """
    if html:
        writable(html)
    with uninterrupted():
        from workbench.runs import Config, interfere
        from workbench.runs.interference import configured
    config = configured(task.spec(), model.model, objective, weights, pairs, level)
    config = Config(**{**dict(config), **asdict(model)})
    result = interfere(
        config,
        by,
        seeds=seeds_of(seeds),
        sets=[name.strip() for name in sets.split(",")],
        most=most,
        answers=answers,
        out=out,
        progress=Progress(),
    )
    show(result)
    if html:
        from workbench.view.html import interference_view, page

        write_text(html, page("Which domain hurts which", interference_view(result, css=False), subtitle=result.task))
        say(html)
    say(f"every pair and seed: {out / 'pairs.parquet'}; run the same command again to do what is missing")
    return result.as_dict() | {"directory": str(out)}


def show(result: Interference) -> None:
    """Print in words what was found, the pairs that are hurt most, and how well each predictor foretold it."""
    from workbench.evals import PREDICTORS, in_range, written

    for line in result.summary():
        say(line)
    rows = [["forgotten", "measured", "damage", "facts lost", *result.predicted]]
    for i, j in result.pairs(count=8):
        a, b = result.forgotten.index(i), result.measured.index(j)
        cells = [written(result.mean(name)[a, b], name) for name in ("logp", "accuracy")]
        rows.append([i, j, cells[0], cells[1], *(number(values[a, b]) for values in result.predicted.values())])
    table_line(rows)
    rows = [["predictor", *(f"Spearman with {name}" for name in result.damage)]]
    found = {name: result.correlations(name) for name in result.damage}
    for name in result.predicted:
        each = [found[metric][name] for metric in result.damage]
        rows.append([PREDICTORS[name], *map(in_range, each)])
    table_line(rows)


@command
def at_risk(
    task: TaskOptions,
    model: Annotated[str | None, option("M", "the model; only --predictor gradient and states need it")] = None,
    predictor: Annotated[str, option("P", "ranked by names, words, gradient, states or syntax")] = "names",
    most: Annotated[int, count("show the first N rows")] = 20,
    out: Annotated[Path | None, option("FILE", "write the ids of those not in the retain set, for --keep")] = None,
) -> dict[str, Any]:
    """Rank the rows to be kept by how likely forgetting is to hurt them, before any run."""
    if out:
        writable(out)
    with uninterrupted():
        from workbench.runs import at_risk as ranked
    if predictor in ("gradient", "states") and not model:
        raise UserError(f"--predictor {predictor} needs --model")
    risk = ranked(task.spec(), model, predictor=predictor, progress=Progress())
    rows = risk.rows.head(most)
    cells = [[r["sample_id"], r["set"], number(r["risk"]), r["question"]] for r in rows.to_dict("records")]
    table_line([["row", "set", "risk", "question"], *cells])
    say(f"by {predictor}: {risk.note}")
    ids = risk.first(most)
    if out:
        write_text(out, "".join(f"{name}\n" for name in ids))
        say(f"{len(ids)} rows that a run would not rehearse: {out}; add them with --keep {out}")
    return {"predictor": predictor, "note": risk.note, "rows": json.loads(rows.to_json(orient="records")), "keep": ids}
