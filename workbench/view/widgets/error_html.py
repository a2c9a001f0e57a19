"""What the error browser shows, as plain HTML strings and lines of text: the rules, a list, an opened answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.evals import RULES
from workbench.view.html import (
    NOT_AVAILABLE,
    Definitions,
    arrow,
    frame,
    label,
    lines,
    number,
    parts,
    plain,
    shortened,
    table,
    visible,
    word_diff,
)

ASKED = 60  # characters of a question in the list
HEAD = (" ", "set", "outcome", "probability", "question")


def list_lines(rows: pd.DataFrame) -> tuple[str, list[str]]:
    """The heads of the list's columns, and a line an answer: columns, in a font of one width.

    An asterisk stands before what has tags or a note.
    """
    cells = [HEAD] + [
        (
            "*" if r.tags or r.note else " ",
            r.probe_set,
            r.outcome,
            f"{number(r.p_before)} → {number(r.p_after)}",
            shortened("".join(parts(" ".join((r.prompt or r.answer).split()))), ASKED),
        )
        for r in rows.itertuples()
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD) - 1)]
    head, *rest = (["  ".join(map(str.ljust, row[:-1], widths)), row[-1]] for row in cells)
    return "   ".join(head), [" · ".join(line) for line in rest]


def rules_html() -> str:
    """Every rule's definition; it folds."""
    said = "".join(f"<dt>{name}</dt><dd>{plain(text)}</dd>" for name, text in RULES.items())
    return f'<details class="wb-rules"><summary>The rules</summary><dl>{said}</dl></details>'


def counts_html(rows: pd.DataFrame) -> str:
    """How many answers each rule holds of, with its definition."""
    wraps = 'style="display:block;white-space:normal;text-align:left"'
    counts = [
        [plain(name), str(int(rows[name].sum())), f"<span {wraps}>{plain(said)}</span>"] for name, said in RULES.items()
    ]
    return frame(table(["outcome", "answers", f"<span {wraps}>rule</span>"], counts), css=False)


def answer_html(row: Mapping[str, Any], numbers: str = "") -> str:
    """One answer: outcome and why, question, reference, what was said before and after with the words that changed.

    Args:
        row: of `ErrorBrowser.rows`.
        numbers: its metrics, as `numbers_html` gives them.
    """
    known = [number(row[name]) for name in ("p_before", "p_after")]
    ranks = "probability " + (NOT_AVAILABLE if set(known) == {NOT_AVAILABLE} else " → ".join(known))
    name = f"{row['probe_set']}, {visible(str(row['sample_id']))}"
    why = f"<span>{plain(row['why'])}</span>" if row["why"] else ""
    bar = f"<span><b>{plain(row['outcome'])}</b></span>{why}<span>{ranks}</span><span class=wb-last>{name}</span>"
    said = [("reference", visible(row["answer"]))]
    if pd.notna(row["right_before"]) or row["before"] or row["after"]:
        old, new = word_diff(row["before"], row["after"])
        same = row["before"] == row["after"]
        said += [("before, after", old or "∅")] if same else [("before", old or "∅"), ("after", new or "∅")]
    said += [(name, visible(row[name])) for name in ("tags", "note") if row.get(name)]
    ask = f'<div class="wb-q" dir="auto">{visible(" ".join(row["prompt"].split()))}</div>' if row["prompt"] else ""
    body = "".join(f'<div class="wb-pair"><span>{n}</span><div dir="auto">{text}</div></div>' for n, text in said)
    return frame(f'<div class="wb-bar">{bar}</div><div class="wb-row">{ask}{body}</div>{numbers}', css=False)


def numbers_html(before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str], known: Definitions) -> str:
    """An answer's metrics before → after, those that changed in bold; then the names of those that have no value."""
    shown, none = [], []
    for name in names:
        old, new = number(before[name]), number(after[name])
        if {old, new} == {NOT_AVAILABLE}:
            none.append(label(name))
            continue
        value = new if old == new else f"<b>{old} → {new}</b>"
        told = "&#10;".join(map(plain, lines(known.get(name, {}))))
        shown.append(
            f'<span style="white-space:nowrap" title="{told}">{label(name)}{arrow(known.get(name, {}))} {value}</span>'
        )
    shown += [f"{NOT_AVAILABLE}: {', '.join(none)}"] if none else []
    return f'<div class="wb-foot">{" · ".join(shown)}</div>'
