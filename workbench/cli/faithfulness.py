"""The command that tests scores by what they do: masking, and forgetting with them as weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import Progress, number, say, table_line
from workbench.cli.options import ModelOptions, TaskOptions, command, flag, option, settings
from workbench.cli.sweep import seeds_of
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    import pandas as pd


@command
def faithfulness(
    file: Annotated[Path, typer.Argument(metavar="FILE.parquet")],
    task: TaskOptions,
    model: ModelOptions,
    top: Annotated[float, option("SHARE", "share of an answer's tokens")] = 0.2,
    baseline: Annotated[str, option("B", "what masks a token: eos, pad, mean or zero")] = "eos",
    unlearn: Annotated[bool, flag("--unlearn", "also do a short run with each scorer as weights")] = False,
    objective: Annotated[str, option("X", "with --unlearn")] = "wga",
    seeds: Annotated[str, option("A,B", "with --unlearn: one run for each seed")] = "0,1,2",
    pairs: Annotated[list[str], settings("settings of the runs, e.g. steps=60 lr=3e-4")] = [],  # noqa: B006
) -> dict[str, Any]:
    """Test whether scores are faithful.

    Tested by masking the highest tokens, and by forgetting with the scores as weights.
    """
    with uninterrupted():
        from workbench import evals
        from workbench.evals import RUN, faithfulness_by_unlearning
        from workbench.objectives import objective as objectives
        from workbench.runs import settings_from
        from workbench.scorers import read_scores
    table, loaded = read_scores(file), task.spec().load()
    defaults = {name: value for name, value in vars(RUN).items() if name != "options"}
    chosen = settings_from(pairs, {"objective": objectives[objective].options}, **defaults)
    numbers = seeds_of(seeds)
    lm = model.load()
    progress = Progress()
    masking = evals.faithfulness(lm, loaded, table, top=top, baseline=baseline, progress=progress)
    rows = [["scorer", "comprehensiveness", "sufficiency", "answers"]]
    for name, value in masking.items():
        rows.append([name, number(value["comprehensiveness"]), number(value["sufficiency"]), str(value["samples"])])
    table_line(rows)
    say(f"nats per token; highest {top:.0%} of an answer's tokens, replaced by: {baseline}")
    if not unlearn:
        return {"masking": masking}
    runs = faithfulness_by_unlearning(
        lm, loaded, table, objective=objective, settings=chosen, seeds=numbers, progress=progress
    )
    table_line(runs_table(runs))
    for name, reason in runs.loc[runs["reason"] != "", ["weights", "reason"]].drop_duplicates().itertuples(index=False):
        say(f"{name}: not available: {reason}")
    return {"masking": masking, "runs": json.loads(runs.to_json(orient="records"))}


def runs_table(runs: pd.DataFrame) -> list[list[str]]:
    """Mean and range over the seeds of what runs reached, a line per weights."""
    names = [name for name in runs.columns if name not in {"weights", "seed", "reason"}]
    rows = [["weights", *(name.replace("_", " ") for name in names)]]
    for weights, part in runs[runs["reason"] == ""].groupby("weights", sort=False):
        means, least, most = (getattr(part[names], how)() for how in ("mean", "min", "max"))
        rows.append([str(weights), *(f"{means[n]:.2f} ({least[n]:.2f}-{most[n]:.2f})" for n in names)])
    return rows
