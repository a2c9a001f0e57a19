"""The command that runs a grid of objectives, token weights and seeds."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cli.console import Progress, table_line
from workbench.cli.options import spec
from workbench.cli.scores import seeds_of
from workbench.runs import Config, grid, settings_for
from workbench.runs import sweep as run_all


def sweep(given: Namespace) -> dict[str, Any]:
    """Every objective with every token weight and seed."""
    objectives, weights = given.objective.split(","), given.weights.split(",")
    base = Config(
        task=spec(given),
        model=given.model,
        reference=given.reference,
        prompt=given.prompt,
        device=given.device,
        precision=given.precision,
        probe_limit=given.probe_limit,
    )
    settings_for(given.set, objectives, weights)  # refuses what none of them takes
    configs = grid(
        base, objectives, weights, seeds_of(given.seeds),
        settings=lambda name, chosen: settings_for(given.set, [name], [chosen], others_too=True),
    )  # fmt: skip
    base.task.load()
    bar = Progress()
    table = run_all(
        configs,
        Path(given.out),
        engine=given.engine,
        workers=given.workers,
        address=given.address,
        progress=bar.tell,
    )
    table_line(summary(table))
    for row in table[table["status"] != "finished"].to_dict("records"):
        print(f"{row['objective']} {row['weights']} seed {row['seed']}: {row['status']}: {row['reason']}")
    print(f"the whole table: {Path(given.out) / 'sweep.parquet'}; the same command again goes on with what is missing")
    return {"runs": json.loads(table.to_json(orient="records")), "table": str(Path(given.out) / "sweep.parquet")}


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
