"""Pages as sections: a heading, a line that says what to look at, and a view below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from workbench.view.html import Samples, alignment_table, page, render, token_view

READING = "The darker a token, the higher its score. ∎ is the end of the answer, a token like the others."


class Section(NamedTuple):
    """A heading, a line that says what to look at, and the HTML below."""

    heading: str
    note: str
    body: Markup


def sections_page(title: str, sections: Sequence[Section], *, intro: Markup | str = "", subtitle: str = "") -> str:
    """A page of headings, notes and bodies one after the other, below an introduction."""
    return page(title, render("report.sections", intro=intro, sections=sections), subtitle=subtitle)


def importance(scores: pd.DataFrame, samples: Samples, alignment: Mapping[str, Any] | None, count: int) -> Section:
    """The answers coloured by a score table and, where it is given, the scorers' alignment with the labels."""
    body = token_view(scores, samples, alignment=alignment, max_samples=count, css=False)
    if alignment:
        body += alignment_table(alignment, title="Do the scores find the labelled facts?", css=False)
    note = f"The answers to forget, coloured by how much each token matters for forgetting. {READING}"
    choose = " Choose a scorer above the text." if scores["scorer"].nunique() > 1 else ""
    return Section("Which tokens matter", note + choose, body)
