"""The command that compares scores with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.cli.console import say, table_line
from workbench.cli.options import command, flag, option
from workbench.errors import is_missing, missing
from workbench.runs import uninterrupted


@command
def agree(
    file: Annotated[Path, typer.Argument(metavar="FILE.parquet")],
    measure: Annotated[Literal["spearman", "kendall", "top_k_overlap"], typer.Option()] = "spearman",
    per_sample: Annotated[bool, flag("--per-sample", "average over answers, instead of pooling all tokens")] = False,
    top: Annotated[float, option("SHARE", "share of the tokens, for top_k_overlap")] = 0.2,
    html: Annotated[Path | None, option("FILE.html", "write the matrix and the most disputed answers")] = None,
) -> dict[str, Any]:
    """Compare scorers with each other.

    Which scorers rank the tokens alike, and where they disagree most.
    """
    with uninterrupted():
        from workbench.evals import agreement, disagreement
        from workbench.files import writable, write_text
        from workbench.scorers import read_scores
        from workbench.view import comparison_page
    table = read_scores(file)
    if html:
        writable(html)
    level = "per_sample" if per_sample else "pooled"
    agreed = agreement(table, top=top)
    disputed = disagreement(table)
    matrix = agreed[measure][level]
    rows = [[measure, *matrix]]
    for name, values in matrix.items():
        rows.append([name, *("-" if is_missing(value) else f"{value:.3f}" for value in values.values())])
    table_line(rows)
    say(f"{level.replace('_', ' ')}: {agreed['samples']} answers, {agreed['tokens']} tokens")
    undefined = [value["reason"] for values in matrix.values() for value in values.values() if is_missing(value)]
    for reason in dict.fromkeys(undefined):
        say(f"-: not available: {reason}")
    if disputed["pairs"].any():
        first = disputed.iloc[0]
        say(f"most disputed answer: {first['sample_id']}, most apart: {first['most_apart']}")
    if html:
        write_text(html, comparison_page(table, samples={}, agreement=agreed, measure=measure, level=level))
        say(html)
    none = missing("no two scorers can be compared in this answer")
    columns = (disputed[key].tolist() for key in ("sample_id", "disagreement", "most_apart"))
    return agreed | {
        "disagreement": [
            {"sample_id": sample, "disagreement": value if pair else none, "most_apart": pair}
            for sample, value, pair in zip(*columns, strict=True)
        ]
    }
