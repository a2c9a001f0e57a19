"""What the error browser shows, as HTML and lines of text: the rules, the list, an opened answer, the exported page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from workbench.evals import RULES
from workbench.view.html import NOT_AVAILABLE, Definitions, answer_lines, marked, number, render, shortened, visible

QUESTION = 60  # characters of a question in the list
HEAD = (" ", "set", "outcome", "probability", "question")


def list_lines(rows: pd.DataFrame) -> tuple[str, list[str]]:
    """The heads of the list's columns, and a line for each answer, aligned in a font of one width.

    An asterisk marks answers that have tags or a note.
    """
    cells = [HEAD] + [
        (
            "*" if r.tags or r.note else " ",
            marked(r.probe_set),
            r.outcome,
            f"{number(r.p_before)} → {number(r.p_after)}",
            shortened(marked(" ".join((r.prompt or r.answer).split())), QUESTION),
        )
        for r in rows.itertuples()
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD) - 1)]
    head, *rest = (["  ".join(map(str.ljust, row[:-1], widths)), row[-1]] for row in cells)
    return "   ".join(head), [" · ".join(line) for line in rest]


def answers_html(rows: pd.DataFrame, shown: int, drawn: Sequence[Markup]) -> Markup:
    """How many of all answers each rule holds for, and those that are drawn of the `shown` that the filters leave."""
    counts = [(name, int(rows[name].sum()), rule) for name, rule in RULES.items()]
    body = render("errors.counts", rows=counts) + Markup().join(drawn)
    return body + render("errors.cut", drawn=len(drawn), shown=shown, total=len(rows)) if len(drawn) < shown else body


def answer_html(row: Mapping[str, Any], numbers: Markup | str = "") -> Markup:
    """One answer: outcome and why, question, reference, and the generations with the words that changed.

    `row` is one of `ErrorBrowser.rows`, and `numbers` its metrics, as `numbers_html` gives them.
    """
    probability = [number(row[name]) for name in ("p_before", "p_after")]
    known = set(probability) != {NOT_AVAILABLE}
    generated = pd.notna(row["right_before"]) or row["before"] or row["after"]
    lines = answer_lines(row["answer"], row["before"], row["after"])[: None if generated else 1]
    back = (line.partition(": ") for line in row.get("came_back", "").splitlines())
    lines += [(f"under {attack}", visible(text)) for attack, _, text in back]
    lines += [(name, visible(row[name])) for name in ("tags", "note") if row.get(name)]
    ranks = f"probability {' → '.join(probability) if known else NOT_AVAILABLE}"
    return render("errors.answer", row=row, ranks=ranks, lines=lines, numbers=numbers)


def numbers_html(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str], known: Definitions
) -> Markup:
    """An answer's metrics before → after, those that changed in bold; then the names of those without a value."""
    pairs = {name: (number(before[name]), number(after[name])) for name in names}
    missing = [name for name, pair in pairs.items() if set(pair) == {NOT_AVAILABLE}]
    shown = {name: pair for name, pair in pairs.items() if name not in missing}
    return render("errors.numbers", shown=shown, missing=missing, known=known)
