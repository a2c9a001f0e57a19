"""How far scorers agree, and on which samples they do not, as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from workbench.errors import unknown
from workbench.view.html.definitions import stated
from workbench.view.html.inputs import Samples, as_texts
from workbench.view.html.render import render
from workbench.view.html.scale import Scale, colour
from workbench.view.html.text import number, shortened, value_of

MEASURES = {
    "spearman": ("Spearman rank correlation", "1: the same order of tokens, 0: unrelated, below 0: reversed"),
    "kendall": (
        "Kendall tau-b",
        "over pairs of tokens: the share in the same order less the share in reverse; 1: all alike, 0: as many of each",
    ),
    "top_k_overlap": ("overlap of the highest tokens", "how much of one scorer's highest {top} is in the other's"),
}
CORRELATION = "−1 to 1, chance 0"  # noqa: RUF001
DEFINITIONS = {
    "spearman": stated(
        "Pearson correlation of the tokens' ranks, ties at their mean rank", CORRELATION, "Spearman 1904"
    ),
    "kendall": stated(
        "(concordant - discordant) / sqrt(n_a n_b), n the pairs of tokens that a scorer does not tie",
        CORRELATION,
        "tau-b, Kendall 1945",
    ),
    "top_k_overlap": stated(
        "the share of the k = ceil(top T) highest of T tokens that both scorers have in common; ties at the limit "
        "share the places left",
        "0 to 1",
    ),
    "disagreement": stated(
        "1 - the mean Spearman rank correlation of two scorers, over the pairs of scorers where it is defined in the "
        "sample",
        "0 to 2",
        direction="",
    ),
}
POOLING = {"pooled": "over all tokens at once", "per_sample": "mean over samples, each ranked for itself"}


def agreement_of(agreement: Mapping[str, Any], measure: str, level: str) -> Mapping[str, Mapping[str, Any]]:
    """The scorer x scorer values of one measure; raises UserError for an unknown measure or level."""
    if measure not in MEASURES:
        raise unknown("measure", measure, list(MEASURES))
    if level not in POOLING:
        raise unknown("level", level, list(POOLING))
    return agreement[measure][level]


def agreement_view(
    agreement: Mapping[str, Any],
    *,
    measure: str = "spearman",
    level: str = "pooled",
    title: str | None = None,
    css: bool = True,
) -> Markup:
    """How far scorers agree, scorer by scorer; a dash where there is no value, with the reason below.

    `agreement` is what `evals.agreement` gives, `measure` "spearman", "kendall" or "top_k_overlap", and `level`
    "pooled" over all tokens or "per_sample", the mean over samples.

    Raises:
        UserError: for an unknown measure or level.
    """
    values, names = agreement_of(agreement, measure, level), [str(n) for n in agreement["scorers"]]
    overlap, top = measure == "top_k_overlap", float(agreement.get("top", math.nan))
    scale = Scale(0.0, 1.0) if overlap else Scale(-1.0, 1.0)
    reasons: dict[str, list[str]] = {}
    rows = []
    for i, a in enumerate(names):
        cells = []
        for j, b in enumerate(names):
            value, why = value_of(values[a][b])
            pair = a if i == j else f"{a} / {b}"
            if value is None and i <= j:
                reasons.setdefault(why, []).append(pair)
            shade = None if value is None or i == j else colour(scale.level(value))
            cells.append({"pair": pair, "value": value, "why": why, "colour": shade})
        rows.append((a, cells))
    name, meaning = MEASURES[measure]
    share = "share" if math.isnan(top) else f"{100 * top:.0f} %"
    guide = f"↑ higher: more alike. {name[0].upper()}{name[1:]}: {meaning.format(top=share)}"
    notes = [f"{guide}{f'; chance gives {number(top)}' if overlap else ''}."]
    notes += [f"– {why}: {', '.join(_few(pairs))}." for why, pairs in reasons.items()]  # noqa: RUF001
    return render(
        "agreement.agreement",
        measure=measure,
        name=name,
        known=DEFINITIONS,
        legend=scale.legend(top if overlap else None),
        count=f"{POOLING[level]} · {agreement['tokens']:,} tokens of {agreement['samples']:,} samples",
        names=names,
        rows=rows,
        notes=notes,
        title=title,
        css=css,
    )


def _few(pairs: list[str], limit: int = 4) -> list[str]:
    if len(pairs) <= limit:
        return pairs
    return [*pairs[: limit - 1], f"{pairs[limit - 1]} and {len(pairs) - limit} more"]


def disagreement_view(
    table: pd.DataFrame, samples: Samples, *, limit: int = 12, title: str | None = None, css: bool = True
) -> Markup:
    """Samples by how much the scorers disagree on them, most first, and which two are furthest apart.

    `table` is what `evals.disagreement` gives; `samples` are a task, its samples, or sample id -> (question, answer).
    """
    shown, texts, rows = table.head(limit), as_texts(samples), []
    for row in shown.to_dict("records"):
        question, answer = texts.get(row["sample_id"], ("", ""))
        text = " ".join((question if question.strip() else answer or str(row["sample_id"])).split())
        value = float(row["disagreement"])
        rows.append(
            {
                "text": text,
                "short": shortened(text),
                "value": value if math.isfinite(value) else None,
                "share": max(value, 0.0) / 2,  # the range is 0 to 2
                "pairs": row.get("pairs"),
                "apart": row.get("most_apart") if isinstance(row.get("most_apart"), str) else "",
            }
        )
    return render("agreement.disagreement", rows=rows, total=len(table), known=DEFINITIONS, title=title, css=css)
