"""Editions of the notebooks: one master each, whose tagged cells are left out of the editions they do not belong to.

| tag | cells that carry it |
|---|---|
| `exercise` | the text of an exercise, and the cell with dots for the learner's answer |
| `solution` | a right answer, and what is to be said about it |
| `live` | what one does rather than watches: starting a run, "run this cell" |
| `demo` | what takes the place of `live` where nobody runs cells |
| `slide` | the text of one screen of the talk |
| `talk` | code whose output the talk shows, or needs |
| `settings` | the sizes; the demo and the talk keep their runs in `computed` |
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import unknown
from workbench.files import resource, write_text

LEFT_OUT = {
    "exercises": {"solution", "demo", "slide", "claim"},
    "solutions": {"demo", "slide", "claim"},
    "demo": {"exercise", "solution", "live", "slide", "claim"},
    "talk": {"exercise", "solution", "live"},
}
EDITIONS = tuple(LEFT_OUT)
DEMOS = ("01_see_importance", "03_unlearn_and_probe")
TALK = ("01_see_importance", "06_is_it_forgotten")  # the masters that the talk is made of, in this order
COMPUTED = 'RUNS = Path("computed")  # what is slow was computed before'


def masters() -> dict[str, dict[str, Any]]:
    """The notebooks as they are edited: name -> content."""
    paths = sorted(resource("notebooks").glob("*.ipynb"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def tags(cell: dict[str, Any]) -> set[str]:
    """The tags of a cell."""
    return set(cell["metadata"].get("tags", ()))


def belongs(cell: dict[str, Any], name: str) -> bool:
    """Whether a cell of a master is part of an edition."""
    own = tags(cell)
    if name == "talk" and not own & {"talk", "slide"}:
        return False
    answered = name == "solutions" and cell["cell_type"] == "code" and "exercise" in own
    return not answered and not own & LEFT_OUT[name]


def edition(master: dict[str, Any], name: str) -> dict[str, Any]:
    """One edition of a notebook; UserError where there is none of that name."""
    if name not in LEFT_OUT:
        raise unknown("edition", name, list(EDITIONS))
    cells = [dict(cell) for cell in master["cells"] if belongs(cell, name)]
    if name in ("demo", "talk"):
        for cell in cells:
            if "settings" in tags(cell):
                cell["source"] = [*(line + "\n" for line in "".join(cell["source"]).split("\n")), COMPUTED]
    return {**master, "cells": cells}


def talk(notebooks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The talk: the screens of several masters, one after the other."""
    parts = [edition(notebooks[name], "talk") for name in TALK]
    cells = [{**cell, "id": f"{place}-{cell['id']}"} for place, part in enumerate(parts) for cell in part["cells"]]
    return {**parts[0], "cells": cells, "metadata": {**parts[0]["metadata"], "voila": {"template": "talk"}}}


def write_edition(folder: Path, name: str, stems: Iterable[str] | None = None) -> list[Path]:
    """Write an edition of all notebooks into a folder; a file that is there already is left as it is.

    Args:
        folder: made where it is missing.
        name: of the edition; the talk is one file, `talk.ipynb`.
        stems: of which notebooks; of all by default.

    Returns:
        the files that were there and differ from this edition.

    Raises:
        UserError: there is no such edition, or the folder cannot be written.
    """
    notebooks = masters()
    if name == "talk":
        contents = {"talk": talk(notebooks)}
    else:
        contents = {stem: edition(notebooks[stem], name) for stem in stems or notebooks}
    differing = []
    for stem, content in contents.items():
        path, text = folder / f"{stem}.ipynb", json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if not path.exists():
            write_text(path, text)
        elif path.read_text(encoding="utf-8", errors="replace") != text:
            differing.append(path)
    return differing
