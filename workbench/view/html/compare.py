"""Scorers side by side as plain HTML strings: the same text under each, and token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import unknown
from workbench.tasks import spread
from workbench.view.html.highlight import Layer, by_sample, layers_of, pieces, sample_row, scored_row, token_title
from workbench.view.html.markup import NOT_AVAILABLE, Samples, frame, number, plain, shortened, visible, wrapping
from workbench.view.html.scale import Scale, colour

MOST_TITLES = 12  # scorers that a token's title may list; with more, pages would grow by their square


@dataclass(frozen=True)
class Scored:
    """One scorer's scores of answers and, where it has any, of questions; both on one scale."""

    answer: Layer
    prompt: Layer | None = None

    @property
    def finite(self) -> np.ndarray:
        """All its scores."""
        layers = [layer for layer in (self.answer, self.prompt) if layer]
        return np.concatenate([layer.scores.to_numpy(dtype=float) for layer in layers])

    @property
    def power(self) -> int:
        """The power of ten that its numbers are given in where cells are narrow: 0, or a multiple of 3."""
        largest = float(np.abs(self.finite).max(initial=0.0))
        return 0 if largest == 0 or 0.05 <= largest < 1000 else 3 * math.floor(math.log10(largest) / 3)

    @property
    def key(self) -> str:
        """Name and scale, as the foot of a view shows them."""
        scale, name = self.answer.scale, f"<b>{plain(self.answer.name)}</b>"
        if scale is None:
            return f'<span class="wb-key">{name} {NOT_AVAILABLE}</span>'
        ramp = f"all {number(self.finite[0])}" if scale.flat else scale.legend(self.answer.threshold)
        return f'<span class="wb-key">{name} {ramp}</span>'


@dataclass(frozen=True)
class Comparison:
    """Tokens of answers and questions by sample, and what each scorer says of them."""

    answers: dict[Any, pd.DataFrame]
    prompts: dict[Any, pd.DataFrame]
    scored: list[Scored]

    @classmethod
    def of(cls, scores: pd.DataFrame, scorers: Sequence[str] | None) -> Comparison:
        """The comparison of `scorers` (all by default, in the table's order).

        Raises:
            UserError: for a table without answers or an unknown scorer.
        """
        known = list(dict.fromkeys(scores["scorer"]))
        for name in scorers or ():
            if name not in known:
                raise unknown("scorer", name, known)
        if scorers:
            scores = pd.concat([scores[scores["scorer"] == name] for name in dict.fromkeys(scorers)])
        tokens, layers, _ = layers_of(scores)
        asked = scores[scores["segment"] == "prompt"] if "segment" in scores else scores.iloc[:0]
        if asked.empty:
            return cls(by_sample(tokens), {}, [Scored(layer) for layer in layers])
        prompt, over, _ = layers_of(asked[asked["end"] > asked["start"]], segment="prompt")
        prompts = {layer.name: replace(layer, threshold=None) for layer in over}
        names = {layer.name for layer in layers}
        layers += [replace(p, scores=p.scores.iloc[:0]) for name, p in prompts.items() if name not in names]
        return cls(by_sample(tokens), by_sample(prompt), [_shared(x, prompts.get(x.name)) for x in layers])

    def sample(self, identity: Any) -> Any:
        """The id of a sample in the table; raises UserError for another."""
        if identity not in self.answers:
            raise unknown("sample", str(identity), [str(i) for i in self.answers])
        return identity

    def foot(self, note: str) -> str:
        """Every scorer's scale, then `note`."""
        return f'<div class="wb-foot"><div class="wb-keys">{" ".join(s.key for s in self.scored)}</div>{note}</div>'


def _shared(answer: Layer, prompt: Layer | None) -> Scored:
    scale = Scale.of(Scored(answer, prompt).finite)
    return Scored(replace(answer, scale=scale), replace(prompt, scale=scale) if prompt else None)


# The same text under each scorer ------------------------------------------------------------------------------------


def compare_view(
    scores: pd.DataFrame,
    samples: Samples,
    *,
    scorers: Sequence[str] | None = None,
    max_samples: int = 6,
    order: Sequence[Any] | None = None,
    title: str | None = None,
    css: bool = True,
) -> str:
    """Each answer once a scorer, one below the other, coloured on that scorer's own scale.

    Where a scorer has scores for question tokens, the question is coloured too, above its answer.

    Args:
        scores: a score table.
        samples: sample id -> (question, answer); a missing one is drawn from its tokens.
        scorers: which, and in which order; by default all.
        max_samples: at most so many samples: spread evenly, or the first of `order`.
        order: sample ids in the order to show, such as by disagreement.
        title: a heading.
        css: bring the style sheet along.

    Raises:
        UserError: for a table without answers, an unknown scorer or an unknown sample.
    """
    comparison = Comparison.of(scores, scorers)
    ids = spread(list(comparison.answers), max_samples) if order is None else list(order)[:max_samples]
    rows = []
    for sample in ids:
        question, answer = samples.get(comparison.sample(sample), ("", None))
        blocks = "".join(_blocks(comparison, sample, question or None, answer))
        rows.append(sample_row(question, blocks, f"sample {sample}"))
    some = [s.answer for s in comparison.scored if s.answer.threshold is not None]
    rules = " or ".join(dict.fromkeys(x.rule.strip(" ()") for x in some))
    total = len(comparison.answers)
    notes = [
        f"Showing {len(ids)} of {total} samples." if len(ids) < total else "",
        f"Underlined: a scorer's highest answer tokens ({rules})." if some else "",
        "Dotted line above: labelled span." if any(_labelled(comparison.answers[i]) for i in ids) else "",
        "Hover a token for its numbers.",
    ]
    body = "".join(rows) + comparison.foot(" ".join(filter(None, notes)))
    return frame(body, title=title, attributes='class="wb wb-cmp"', css=css)


def _labelled(tokens: pd.DataFrame) -> bool:
    return "span" in tokens and bool(tokens["span"].notna().any())


def _blocks(comparison: Comparison, sample: Any, question: str | None, answer: str | None) -> list[str]:
    """The sample once a scorer: name, highlighted question where there is one, highlighted answer."""
    layers = [s.answer for s in comparison.scored]
    prompts = [s.prompt for s in comparison.scored if s.prompt]
    asked, blocks = comparison.prompts.get(sample), []

    def row(tokens: pd.DataFrame, layer: Layer, every: list[Layer], text: str | None) -> str:
        beside = every if len(every) <= MOST_TITLES else [layer]
        return scored_row(tokens, beside, beside.index(layer), text)

    for scored in comparison.scored:
        text = ""
        if scored.prompt is not None and asked is not None and scored.prompt.scores.index.isin(asked.index).any():
            text = f'<div class="wb-a wb-ask" dir="auto">{row(asked, scored.prompt, prompts, question)}</div>'
        own = row(comparison.answers[sample], scored.answer, layers, answer)
        text += f'<div class="wb-a" dir="auto">{own}</div>'
        blocks.append(f'<div class="wb-pair"><span>{wrapping(scored.answer.name)}</span><div>{text}</div></div>')
    return blocks


# Tokens in columns --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A token as a column: its segment, its text without the space before it, a title, and its score a scorer."""

    segment: str
    text: str
    title: str
    span: bool
    scores: list[float]


def columns(comparison: Comparison, sample: Any) -> list[Column]:
    """The tokens of a sample that are drawn, question first; a scorer without a score for one has nan there."""
    found: list[Column] = []
    for segment, groups in (("question", comparison.prompts), ("answer", comparison.answers)):
        tokens = groups.get(sample)
        if tokens is None:
            continue
        layers = [s.answer if segment == "answer" else s.prompt for s in comparison.scored]
        values = [x.scores.reindex(tokens.index).to_numpy(dtype=float) if x else None for x in layers]
        spans = tokens["span"].tolist() if "span" in tokens else [None] * len(tokens)
        for i, _, drawn, raw in pieces(tokens, None):
            text = "∎" if drawn.endswith("∎</i>") else raw.strip(" ") or "␣"
            title = token_title(raw, i, len(tokens), spans[i]) + (" · question" if segment == "question" else "")
            row = [math.nan if v is None else float(v[i]) for v in values]
            found.append(Column(segment, text, title, spans[i] is True, row))
    return found


def brief(value: float, power: int = 0) -> str:
    """A number of at most five characters for a narrow cell, in units of a power of ten."""
    value /= 10.0**power
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # noqa: RUF001


def token_matrix(
    scores: pd.DataFrame,
    sample_id: Any,
    *,
    scorers: Sequence[str] | None = None,
    title: str | None = None,
    css: bool = True,
) -> str:
    """One sample as a table: a row a scorer on its own scale, a column a token, question tokens first.

    Raises:
        UserError: for a table without answers, an unknown scorer or an unknown sample.
    """
    comparison = Comparison.of(scores, scorers)
    found = columns(comparison, comparison.sample(sample_id))
    first = sum(c.segment == "question" for c in found)
    marks = [
        " ".join(n for n, yes in (("wb-s", c.span), ("wb-cut", 0 < i == first)) if yes) for i, c in enumerate(found)
    ]
    heads = "".join(
        f'<th scope="col" class="{mark}" title="{c.title}"><span>{visible(shortened(c.text, 20))}</span></th>'
        for c, mark in zip(found, marks, strict=True)
    )
    over = ""
    if first:
        over = f'<tr class="wb-over"><th></th><th colspan="{first}">question</th>'
        over += f'<th class="wb-cut" colspan="{len(found) - first}">answer</th></tr>'
    lines = []
    for i, scored in enumerate(comparison.scored):
        cells = [_cell(c.scores[i], c, scored, mark) for c, mark in zip(found, marks, strict=True)]
        unit = f" <small>×10<sup>{number(scored.power, 0)}</sup></small>" if scored.power else ""  # noqa: RUF001
        lines.append(f'<tr><th scope="row">{plain(scored.answer.name)}{unit}</th>{"".join(cells)}</tr>')
    grid = f"<table><thead>{over}<tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    notes = ["Dotted line above: labelled span."] if any(c.span for c in found) else []
    if any(math.isnan(x) for c in found for x in c.scores):
        notes.append(f"Hatched: {NOT_AVAILABLE}.")
    notes.append("Hover a cell for its number.")
    body = f'<div class="wb-scroll">{grid}</div>{comparison.foot(" ".join(notes))}'
    return frame(body, title=title, attributes='class="wb wb-mx wb-tok"', css=css)


def _cell(score: float, column: Column, scored: Scored, mark: str) -> str:
    known, scale = math.isfinite(score), scored.answer.scale
    names = " ".join(n for n in (mark.replace("wb-s", "").strip(), "" if known else "wb-na") if n)
    level = scale.level(score) if scale else 0
    klass = f' class="{names}"' if names else ""
    style = f' style="background-color:{colour(level)}"' if level else ""
    about = f"{column.title}&#10;{plain(scored.answer.name)} {number(score, 4)}"
    return f'<td{klass} title="{about}"{style}>{brief(score, scored.power) if known else ""}</td>'
