"""Pages of score tables alone: one table, or how far its scorers agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from workbench import evals
from workbench.view.html import (
    Samples,
    agreement_view,
    alignment_table,
    as_scores,
    as_texts,
    compare_view,
    disagreement_view,
    label,
    notes_view,
)
from workbench.view.sections import Section, importance, sections_page


def scores_page(
    scores: pd.DataFrame, samples: Samples, alignment: Mapping[str, Any] | None = None, *, max_samples: int = 48
) -> str:
    """A whole page for a score table alone."""
    scores = as_scores(scores)
    sections = [importance(scores, samples, alignment, max_samples)]
    names = ", ".join(map(label, dict.fromkeys(scores["scorer"])))
    if notes := notes_view(scores.attrs.get("notes", {}), css=False):
        sections.append(Section("What was attributed", "For the scorers that explain a prediction.", notes))
    return sections_page("Token importance", sections, subtitle=f"scorers: {names}")


def comparison_page(
    scores: pd.DataFrame,
    samples: Samples,
    *,
    agreement: Mapping[str, Any] | None = None,
    measure: str = "spearman",
    level: str = "pooled",
) -> str:
    """A whole page of how alike the scorers of a table are, and the answers where they disagree most.

    A question or answer that `samples` lack is put together from its tokens. `agreement` is that of the table, where it
    is computed already; `measure` and `level` are as of `agreement_view`.
    """
    scores = as_scores(scores)
    texts = _texts(scores) | as_texts(samples)
    disputed = evals.disagreement(scores)
    ids = disputed["sample_id"].tolist()
    agreement = evals.agreement(scores) if agreement is None else agreement
    sections = [
        Section(
            "Do the scorers agree?",
            "1: two scorers rank the tokens alike.",
            agreement_view(agreement, measure=measure, level=level, css=False),
        ),
        Section(
            "Where they disagree most",
            "The answers that the scorers rank least alike, then the first of them under every scorer.",
            disagreement_view(disputed, texts, css=False) + compare_view(scores, texts, order=ids, css=False),
        ),
    ]
    if scores["span"].notna().any():
        labels = alignment_table(evals.alignment(scores), css=False)
        sections.append(Section("Do the scores find the labelled facts?", "Each scorer against the labels.", labels))
    return sections_page("Scorers compared", sections, subtitle=", ".join(map(label, agreement["scorers"])))


def _texts(scores: pd.DataFrame) -> dict[Any, tuple[str, str]]:
    """Question and answer by sample id, out of the tokens that tile them; the question is empty without its tokens."""
    tokens = scores.drop_duplicates(["segment", "sample_id", "position"]).sort_values("position", kind="stable")
    joined = {part: rows.groupby("sample_id")["token"].agg("".join) for part, rows in tokens.groupby("segment")}
    questions = joined.get("prompt", {})
    return {sample: (questions.get(sample, ""), answer) for sample, answer in joined["answer"].items()}
