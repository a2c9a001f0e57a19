"""What is to be said of scores, as a plain HTML string: what was attributed to what, how exactly, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.view.html.layout import table
from workbench.view.html.markup import frame, plain

WORDS = {
    "answer": "log p of the answer",
    "mean": "mean log p of the answer's tokens",
    "contrast": "log p of the answer, less that of a wrong answer",
    "eos": "the end token",
    "pad": "the padding token",
    "zero": "the zero vector",
}


def notes_view(notes: Mapping[str, Mapping[str, Any]], *, title: str | None = None, css: bool = True) -> str:
    """Target, units, baseline and completeness delta of every attribution, and samples without scores; "" for none.

    Args:
        notes: scorer -> note, as a score table has them in `attrs["notes"]`.
        title: a heading.
        css: bring the style sheet along.
    """
    rows, missing = [], []
    for name, note in notes.items():
        for sample, reason in note.get("not_available", {}).items():
            missing.append(f"{plain(name)}: not available for “{plain(sample)}”: {plain(reason)}.")
        if "target" not in note and "baseline" not in note:
            continue
        target, baseline = str(note.get("target", "")), str(note.get("baseline", ""))
        baseline = "the mean embedding" if baseline == "mean" else WORDS.get(baseline, baseline)
        if target.startswith("token:"):
            target = f"log p of answer token {target.partition(':')[2]}"
        delta = note.get("completeness_delta")
        shown = f"{100 * delta['median']:.2g} % <small>at most {100 * delta['largest']:.2g} %</small>" if delta else ""
        cells = (WORDS.get(target, target), str(note.get("units", "token")) + "s", baseline)
        rows.append([plain(name), *map(plain, cells), shown])
    if not rows and not missing:
        return ""
    guide = (
        "Completeness delta: how far the scores of an answer are from adding up to the target's change from the "
        "baseline, as a share of that change; median over the answers."
    )
    foot = "<br>".join(([guide] if any(row[-1] for row in rows) else []) + missing)
    head = ["scorer", "what is attributed", "to", "taken away means", "completeness delta"]
    body = (table(head, rows) if rows else "") + (f'<div class="wb-foot">{foot}</div>' if foot else "")
    return frame(body, title=title, css=css)
