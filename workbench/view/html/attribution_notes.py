"""Notes on attribution scores, as HTML: what was attributed to what, how exactly, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from workbench.view.html.render import render

WORDS = {
    "answer": "log p of the answer",
    "mean": "mean log p of the answer's tokens",
    "contrast": "log p of the answer, less that of a wrong answer",
    "eos": "the end token",
    "pad": "the padding token",
    "zero": "the zero vector",
}


def notes_view(notes: Mapping[str, Mapping[str, Any]], *, title: str | None = None, css: bool = True) -> Markup:
    """Target, units, baseline and completeness delta of every attribution, and samples without scores; "" for none.

    `notes` are by scorer, as a score table has them in `attrs["notes"]`.
    """
    rows, missing = [], []
    for name, note in notes.items():
        missing += [(name, sample, reason) for sample, reason in note.get("not_available", {}).items()]
        if "target" not in note and "baseline" not in note:
            continue
        target, baseline = str(note.get("target", "")), str(note.get("baseline", ""))
        baseline = "the mean embedding" if baseline == "mean" else WORDS.get(baseline, baseline)
        if target.startswith("token:"):
            target = f"log p of answer token {target.partition(':')[2]}"
        units = str(note.get("units", "token")) + "s"
        rows.append((name, WORDS.get(target, target), units, baseline, note.get("completeness_delta")))
    return render("tables.notes", rows=rows, missing=missing, title=title, css=css) if rows or missing else Markup()
