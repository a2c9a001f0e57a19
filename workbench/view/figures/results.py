"""Results as figures: the answers of the error browser, and a run's metrics before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from workbench.view.figures.text_figure import MUTED, Piece, Row, TextFigure
from workbench.view.figures.texts import DIFFERENCES, answer_rows, question_row
from workbench.view.html import NOT_AVAILABLE, arrow, label, marked, number, value_of


def outcomes_figure(answers: pd.DataFrame) -> TextFigure:
    """Answers with their outcome: question, reference, what the model said before and after, what attacks brought back.

    The answers are rows of `workbench.evals.outcomes`, with `tags` and `note` where they have some.
    """
    rows = list[Row]()
    for row in answers.to_dict("records"):
        probability = " → ".join(number(row[name]) for name in ("p_before", "p_after"))
        about = f"{row['outcome']} · probability {probability} · {row['probe_set']}, {row['sample_id']}"
        rows.append(Row([Piece(marked(about), bold=True)], small=True, ruled=bool(rows)))
        rows += question_row(row["prompt"])
        answers = {"before": row["before"], "after": row["after"]}
        if not row["before"] and not row["after"] and pd.isna(row["right_before"]):
            answers = {}  # none was generated
        elif row["before"] == row["after"]:
            answers = {"before, after": row["after"]}
        rows += answer_rows(str(row["answer"]), answers)
        for line in (row.get("came_back") or "").splitlines():
            attack, _, text = line.partition(": ")
            rows.append(Row([Piece(marked(text))], marked(f"under {attack}")))
        rows += [Row([Piece(marked(row[n]), ink=MUTED)], n) for n in ("tags", "note") if row.get(n)]
    return TextFigure(rows, notes=[DIFFERENCES])


def metrics_figure(metrics: Mapping[str, Any], known: Mapping[str, Any], *, title: str = "") -> TextFigure:
    """Every metric of every probe set, before → after.

    `metrics` is the content of `metrics.json`, and `known` the definition of each, as `view.html.definitions` gives
    them.
    """
    phases, rows = [metrics.get(phase, {}) for phase in ("before", "after")], list[Row]()
    sets = list(dict.fromkeys(name for phase in phases for name in phase))
    for metric in dict.fromkeys(metric for phase in phases for values in phase.values() for metric in values):
        pieces = [Piece(marked(f"{label(metric)}{arrow(known.get(metric, {}))}"), bold=True)]
        for name in sets:
            values = [value_of(phase.get(name, {}).get(metric))[0] for phase in phases]
            text = NOT_AVAILABLE if values == [None, None] else " → ".join(number(value) for value in values)
            pieces += [Piece(f"   {marked(label(name))} ", ink=MUTED), Piece(text)]
        rows.append(Row(pieces, ruled=bool(rows)))
    directed = any(arrow(each) for each in known.values())
    note = "↑ higher, ↓ lower: better on sets to keep; reversed on the forget set." if directed else ""
    return TextFigure(rows, notes=[note] if note else [], title=marked(title))
