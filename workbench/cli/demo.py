"""The command that runs the whole story once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from workbench.cli.console import number, say, table_line
from workbench.cli.options import command, flag, option
from workbench.errors import UserError
from workbench.runs import uninterrupted


@command
def demo(
    real: Annotated[bool, flag("--real", "TOFU forget01 and SmolLM2-135M (fetched once)")] = False,
    out: Annotated[Path, option("DIR", "directory of the report, the scores and the run")] = Path("demo"),
    data_dir: Annotated[str | None, option("DIR", "with --real: the official TOFU files, instead of the hub")] = None,
    spans: Annotated[str | None, option("FILE", "with --real: span labels of the forget rows (JSONL)")] = None,
) -> dict[str, Any]:
    """Run a complete example on embedded data.

    With --real: on TOFU and SmolLM2-135M.
    """
    if not real and (data_dir or spans):
        raise UserError("--data-dir and --spans go with --real; the embedded data need neither")
    with uninterrupted():
        from workbench.cli.story import tell
        from workbench.files import writable
    writable(out / "report.html")
    result = tell(out, real=real, data_dir=data_dir, spans=spans)
    rows = [["", "before", "after"]]
    for name, key in result["headline"]:
        rows.append([f"{name} {key}", number(result["before"][name][key]), number(result["after"][name][key])])
    table_line(rows)
    say(f"{result['seconds']:.0f} s; the report is at {result['report']}")
    return result
