"""The command that puts runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import number, say, table_line
from workbench.cli.options import command, option
from workbench.runs import uninterrupted


@command
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...")],
    html: Annotated[Path | None, option("FILE.html", "also write a page, with the answers")] = None,
    metric: Annotated[
        str | None, option("METRIC", "metric of the plot; default: fact_accuracy if the runs have it")
    ] = None,
) -> dict[str, Any]:
    """Compare runs side by side.

    Metrics, costs, the settings that differ, and with --html the answers.
    """
    with uninterrupted():
        from workbench.files import writable, write_text
        from workbench.view.compared_html import compared_page
        from workbench.view.compared_runs import differing_settings, measured, plotted_metric, read_runs
    compared = read_runs(runs)
    plotted_metric(compared, metric)  # an unknown one ends the command here
    if html:
        writable(html)
    for run in compared:
        say(f"{run.letter}: {run.name}{'' if run.state == 'finished' else f' ({run.state})'}")
        for problem in run.problems:
            say(f"   {problem}")
    rows = [["after the run", *(run.letter for run in compared)]]
    for probe_set, name in measured(compared):
        values = [run.value("after", probe_set, name)[0] for run in compared]
        if any(value is not None for value in values):
            rows.append([f"{probe_set} {name}", *("-" if value is None else number(value) for value in values)])
    for name in ("seconds", "flops"):
        spent = [run.cost.get("total", {}).get(name) for run in compared]
        rows.append([name, *("-" if value is None else f"{value:.3g}" for value in spent)])
    table_line(rows)
    differing = differing_settings(compared)
    if differing:
        say("settings that differ:")
        table_line([[name, *("-" if v is None else str(v) for v in values)] for name, values in differing.items()])
    if html:
        write_text(html, compared_page(compared, metric=metric))
        say(html)
    return {
        "runs": [
            {"letter": r.letter, "run": r.name, "state": r.state, "problems": list(r.problems), "metrics": r.metrics,
             "cost": r.cost or None, "attacks": r.attacks}
            for r in compared
        ],
        "differing_settings": differing,
        "html": str(html) if html else None,
    }  # fmt: skip
