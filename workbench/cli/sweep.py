"""The command that runs a grid of objectives, token weights and seeds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.console import Progress, say, table_line
from workbench.cli.options import ModelOptions, ProbeLimit, Reference, TaskOptions, command, count, option, settings
from workbench.errors import UserError
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    import pandas as pd


@command
def sweep(
    task: TaskOptions,
    model: ModelOptions,
    objective: Annotated[str, option("A,B")],
    weights: Annotated[str, option("C,D", "names of scorers, or files")],
    seeds: Annotated[str, option("A,B,C")] = "0",
    reference: Reference = None,
    pairs: Annotated[list[str], settings("settings of all runs, or options of those that take them")] = [],  # noqa: B006
    probe_limit: ProbeLimit = None,
    engine: Annotated[str, option("E", "local (a pool of processes), or ray")] = "local",
    workers: Annotated[int, count("number of runs at a time, with --engine local")] = 1,
    address: Annotated[str | None, option("ADDRESS", "of a Ray cluster")] = None,
    out: Annotated[Path, option("DIR", "the directory of the runs and their table")] = Path("sweep"),
) -> dict[str, Any]:
    """Do many runs and write one table.

    A grid of objectives, token weights and seeds.
    """
    with uninterrupted():
        from workbench.runs import Config, grid, settings_for
        from workbench.runs import sweep as run_all
    objectives, scorers = objective.split(","), weights.split(",")
    base = Config(task=task.spec(), **asdict(model), reference=reference, probe_limit=probe_limit)
    settings_for(pairs, objectives, scorers)  # refuses what none of them takes
    configs = grid(
        base, objectives, scorers, seeds_of(seeds),
        settings=lambda name, scorer: settings_for(pairs, [name], [scorer], others_too=True),
    )  # fmt: skip
    base.task.load()
    table = run_all(configs, out, engine=engine, workers=workers, address=address, progress=Progress())
    table_line(summary(table))
    for row in table[table["status"] != "finished"].to_dict("records"):
        say(f"{row['objective']} {row['weights']} seed {row['seed']}: {row['status']}: {row['reason']}")
    say(f"the whole table: {out / 'sweep.parquet'}; run the same command again to do what is missing")
    return {"runs": json.loads(table.to_json(orient="records")), "table": str(out / "sweep.parquet")}


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds written as 0,1,2."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds takes whole numbers as 0,1,2, not {text}") from None


def summary(table: pd.DataFrame) -> list[list[str]]:
    """Mean and range over the seeds of what is left of the forget and the retain set."""
    names = [f"after.{name}.{key}" for name in ("forget", "retain") for key in ("fact_accuracy", "rouge_l_recall")]
    names = [name for name in names if name in table and table[name].notna().any()]
    rows = [["objective", "weights", "runs", *(name.removeprefix("after.") for name in names), "seconds"]]
    for (objective, weights), part in table.groupby(["objective", "weights"], sort=False):
        done = part[part["status"] == "finished"]
        cells = [
            f"{done[n].mean():.2f} ({done[n].min():.2f}-{done[n].max():.2f})" if len(done) else "not available"
            for n in [*names, "seconds"]
        ]
        rows.append([str(objective), str(weights), f"{len(done)}/{len(part)}", *cells])
    return rows
