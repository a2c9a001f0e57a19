"""How far scorers agree, and on which samples they do not, as plain HTML strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.errors import unknown
from workbench.view.html.definitions import definitions_list, heading
from workbench.view.html.layout import table as table_of
from workbench.view.html.layout import value_of
from workbench.view.html.markup import NOT_AVAILABLE, Samples, frame, number, plain, shortened, visible, wrapping
from workbench.view.html.scale import Scale, colour

MEASURES = {
    "spearman": ("Spearman rank correlation", "1: the same order of tokens, 0: unrelated, below 0: reversed"),
    "kendall": (
        "Kendall tau-b",
        "tokens in pairs: how many more stand in the same order than in reverse; 1: all, 0: none",
    ),
    "top_k_overlap": ("overlap of the highest tokens", "how much of one scorer's highest {top} is in the other's"),
}
DEFINITIONS: dict[str, dict[str, str]] = {
    "spearman": {
        "direction": "higher",
        "range": "−1 to 1, chance 0",  # noqa: RUF001
        "formula": "Pearson correlation of the tokens' ranks, ties at their mean rank",
        "source": "Spearman 1904",
    },
    "kendall": {
        "direction": "higher",
        "range": "−1 to 1, chance 0",  # noqa: RUF001
        "formula": "(concordant - discordant) / sqrt(n_a n_b), n the pairs of tokens that a scorer does not tie",
        "source": "tau-b, Kendall 1945",
    },
    "top_k_overlap": {
        "direction": "higher",
        "range": "0 to 1",
        "formula": "the share of the k = ceil(top T) highest of T tokens that both scorers have in common; ties at the "
        "limit share the places left",
        "source": "ours",
    },
    "disagreement": {
        "range": "0 to 2",
        "formula": "1 - the mean Spearman rank correlation of two scorers, over the pairs of scorers where it is "
        "defined in the sample",
        "source": "ours",
    },
}
POOLING = {"pooled": "over all tokens at once", "per_sample": "mean over samples, each ranked for itself"}


def agreement_of(agreement: Mapping[str, Any], measure: str, level: str) -> Mapping[str, Mapping[str, Any]]:
    """The scorer x scorer values of one measure; raises UserError for a measure or level there is not."""
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
) -> str:
    """How far scorers agree, scorer by scorer; where nothing can be said stands a dash, and below why.

    Args:
        agreement: as `workbench.compare.agreement` gives it.
        measure: "spearman", "kendall" or "top_k_overlap".
        level: "pooled" over all tokens, or "per_sample", the mean over samples.
        title: a heading.
        css: bring the style sheet along.

    Raises:
        UserError: for an unknown measure or level.
    """
    values, names = agreement_of(agreement, measure, level), [str(n) for n in agreement["scorers"]]
    overlap, top = measure == "top_k_overlap", float(agreement.get("top", math.nan))
    scale = Scale(0.0, 1.0) if overlap else Scale(-1.0, 1.0)
    reasons: dict[str, list[str]] = {}
    lines = []
    for i, a in enumerate(names):
        cells = []
        for j, b in enumerate(names):
            value, why = value_of(values[a][b])
            pair = plain(a if i == j else f"{a} / {b}")
            if value is None:
                cells.append(f'<td class="wb-none" title="{pair} {NOT_AVAILABLE}: {plain(why)}">–</td>')  # noqa: RUF001
                if i <= j:
                    reasons.setdefault(why, []).append(pair)
                continue
            step = 0 if i == j else scale.level(value)
            shown = 'class="wb-same"' if i == j else f'style="background-color:{colour(step)}"'
            cells.append(f'<td {shown} title="{pair} {number(value, 4)}">{number(value)}</td>')
        lines.append(f'<tr><th scope="row">{plain(a)}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{wrapping(n)}</th>' for n in names)
    grid = f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    name, meaning = MEASURES[measure]
    share = "share" if math.isnan(top) else f"{100 * top:.0f} %"
    guide = (
        f"{name[0].upper()}{name[1:]}: {meaning.format(top=share)}{f'; chance gives {number(top)}' if overlap else ''}."
    )
    count = f"{agreement['tokens']:,} tokens of {agreement['samples']:,} samples"
    shown = heading(measure, DEFINITIONS[measure], shown=f"<b>{name}</b>", ranged=False)
    bar = (
        f'<div class="wb-bar"><span>{shown}</span> {scale.legend(top if overlap else None)}'
        f'<span class="wb-last">{POOLING[level]} · {count}</span></div>'
    )
    notes = [f"↑ higher: more alike. {guide}", *(f"– {plain(why)}: {_few(pairs)}." for why, pairs in reasons.items())]  # noqa: RUF001
    foot = f'<div class="wb-foot">{"<br>".join(notes)}</div>'
    told = definitions_list([measure], DEFINITIONS, {measure: name})
    return frame(
        f'{bar}<div class="wb-scroll">{grid}</div>{foot}{told}',
        title=title,
        attributes='class="wb wb-mx wb-agr"',
        css=css,
    )


def _few(pairs: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(pairs) - limit} more" if len(pairs) > limit else ""
    return ", ".join(pairs[:limit]) + more


def disagreement_view(
    table: pd.DataFrame, samples: Samples, *, limit: int = 12, title: str | None = None, css: bool = True
) -> str:
    """Samples by how much the scorers disagree on them, most first, and which two are furthest apart.

    Args:
        table: as `workbench.compare.disagreement` gives it.
        samples: sample id -> (question, answer).
        limit: at most so many samples.
        title: a heading.
        css: bring the style sheet along.
    """
    largest, rows = table["disagreement"].head(limit).max(), []
    reach = largest if largest > 1 else 1.0
    for rank, row in enumerate(table.head(limit).to_dict("records"), 1):
        question, answer = samples.get(row["sample_id"], ("", ""))
        full = " ".join((question if question.strip() else answer or str(row["sample_id"])).split())
        value, pairs = float(row["disagreement"]), row.get("pairs")
        if math.isfinite(value):
            meter = f'<span class="wb-meter"><i style="width:{100 * max(value, 0.0) / reach:.0f}%"></i></span>'
            said = f'<span title="over {pairs} pairs of scorers">{number(value)}</span>{meter}'
        else:
            said = f'<span class="wb-none" title="no two scorers can be compared here">{NOT_AVAILABLE}</span>'
        apart = row.get("most_apart")
        cells = [
            f'<span title="{plain(full)}">{visible(shortened(full))}</span>',
            said,
            wrapping(apart) if isinstance(apart, str) else "",
        ]
        rows.append([str(rank), *cells])
    notes = [
        "Disagreement: 1 minus the mean Spearman rank correlation of two scorers within the sample; 0: all rank its "
        "tokens alike, 1: unrelated, above 1: rather in reverse."
    ]
    if len(rows) < len(table):
        notes.insert(0, f"Showing {len(rows)} of {len(table)} samples, most disagreement first.")
    foot = f'<div class="wb-foot">{" ".join(notes)}</div>'
    name = heading("disagreement", DEFINITIONS["disagreement"])
    body = table_of(["", "sample", name, "furthest apart"], rows)
    foot += definitions_list(["disagreement"], DEFINITIONS)
    return frame(body + foot, title=title, attributes='class="wb wb-dis"', css=css)
