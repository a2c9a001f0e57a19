"""The command that lists what can be loaded, and fetches what is not here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from workbench.cli.console import say, table_line
from workbench.cli.options import command
from workbench.errors import UserError, unknown
from workbench.runs import uninterrupted


@command
def models(
    action: Annotated[Literal["list", "get"], typer.Argument(metavar="ACTION")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="the model to get")] = None,
) -> dict[str, Any]:
    """List what can be loaded here, or fetch it."""
    from workbench.models import SMOLLM2, available

    if action == "list":
        rows = available()
        table_line([[row["name"], "here" if row["here"] else "not here", row["path"]] for row in rows])
        say("also: a directory, FILE.gguf, or a hub name (owner/name)")
        return {"models": rows}
    if not name:
        raise UserError(f"`workbench models get` needs a name: {SMOLLM2}")
    if name != SMOLLM2:
        raise unknown("model to fetch", name, [SMOLLM2])
    with uninterrupted():
        from workbench.models import get_smollm2
    path = get_smollm2(log=lambda line: say(line, error=True))
    say(path)
    return {"name": name, "path": str(path)}
