"""The command that compares scores with span labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import number, say, table_line
from workbench.cli.options import command, option
from workbench.errors import is_missing
from workbench.runs import uninterrupted


@command
def align(
    file: Annotated[Path, typer.Argument(metavar="FILE.parquet")],
    spans: Annotated[Path | None, option("FILE.jsonl", "labels, if the table has none")] = None,
) -> dict[str, Any]:
    """Compare scores with span labels.

    AUROC, average precision, and precision of the highest fifth, over how many answers and tokens.
    """
    with uninterrupted():
        from workbench.evals import alignment, label, made_of
        from workbench.scorers import read_columns

        if spans:  # this loads pandas, which takes longer than all the rest
            from workbench.scorers import read_scores
    aligned = alignment(label(read_scores(file), spans) if spans else read_columns(file))
    rows = [["scorer", "auroc", "per sample", "ap", "precision"]]
    for name, values in aligned.items():
        keys = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")
        rows.append([name, *(number(values[key]) for key in keys)])
    table_line(rows)
    counts = made_of(aligned)
    for line, names in counts.items():
        say(line if len(counts) == 1 else f"{', '.join(names)}: {line}")
    for name, values in aligned.items():
        if is_missing(values["auroc"]):
            say(f"{name}: not available: {values['auroc']['reason']}")
        if "left_out" in values:
            say(f"{name}: {values['left_out']} tokens without a score left out")
    return aligned
