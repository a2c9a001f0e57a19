"""Scorers side by side as HTML: the same text under each, and token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from workbench.errors import unknown
from workbench.tasks import spread
from workbench.view.html.highlight import Choices, cuts, scored_row, token_title
from workbench.view.html.inputs import Samples, as_scores, as_texts
from workbench.view.html.layers import Layer, by_sample, layers_of
from workbench.view.html.render import Html, render
from workbench.view.html.scale import BY, By, Scale, check_by, colour
from workbench.view.html.text import NOT_AVAILABLE, number, shortened

MOST_TITLES = 12  # scorers that a token's title may list; with more, pages would grow by their square


@dataclass(frozen=True)
class Scored:
    """One scorer's scores of answers and, where there are any, of questions; both on one scale."""

    answer: Layer
    prompt: Layer | None = None

    @property
    def finite(self) -> np.ndarray:
        """All its scores."""
        layers = [layer for layer in (self.answer, self.prompt) if layer]
        return np.concatenate([layer.scores.to_numpy(dtype=float) for layer in layers])

    @property
    def power(self) -> int:
        """The power of ten of its unit in narrow cells: 0, or a multiple of 3."""
        largest = float(np.abs(self.finite).max(initial=0.0))
        return 0 if largest == 0 or 0.05 <= largest < 1000 else 3 * math.floor(math.log10(largest) / 3)


@dataclass(frozen=True)
class Comparison:
    """Tokens of answers and questions by sample, and each scorer's scores."""

    answers: dict[Any, pd.DataFrame]
    prompts: dict[Any, pd.DataFrame]
    scored: list[Scored]

    @classmethod
    def of(cls, scores: pd.DataFrame, scorers: Sequence[str] | None, by: By = "value") -> Comparison:
        """The comparison of `scorers` (all by default, in the table's order).

        Raises:
            UserError: for a table without answers or an unknown scorer.
        """
        known = list(dict.fromkeys(as_scores(scores)["scorer"]))
        for name in scorers or ():
            if name not in known:
                raise unknown("scorer", name, known)
        if scorers:
            scores = pd.concat([scores[scores["scorer"] == name] for name in dict.fromkeys(scorers)])
        tokens, layers, _ = layers_of(scores, by=check_by(by))
        questions = scores[scores["segment"] == "prompt"] if "segment" in scores else scores.iloc[:0]
        if questions.empty:
            return cls(by_sample(tokens), {}, [Scored(layer) for layer in layers])
        prompt, over, _ = layers_of(questions[questions["end"] > questions["start"]], segment="prompt", by=by)
        prompts = {layer.name: replace(layer, threshold=None) for layer in over}
        names = {layer.name for layer in layers}
        layers += [replace(p, scores=p.scores.iloc[:0]) for name, p in prompts.items() if name not in names]
        return cls(by_sample(tokens), by_sample(prompt), [_shared(x, prompts.get(x.name)) for x in layers])

    def sample(self, identity: Any) -> Any:
        """The id of a sample in the table; raises UserError for another."""
        if identity not in self.answers:
            raise unknown("sample", str(identity), [str(i) for i in self.answers])
        return identity


def _shared(answer: Layer, prompt: Layer | None) -> Scored:
    by = answer.scale.by if answer.scale else "value"
    scale = Scale.of(Scored(answer, prompt).finite, by, scorer=answer.scorer)
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
    by: By = "value",
    css: bool = True,
) -> Html:
    """Each answer once for every scorer, one below the other, coloured on that scorer's own scale.

    Where a scorer has scores for question tokens, the question is coloured too, above its answer.

    Args:
        scores: a score table, or its file.
        samples: a task, its samples, or sample id -> (question, answer); a missing one is drawn from its tokens.
        scorers: which, and in which order; by default all.
        max_samples: at most so many samples: spread evenly, or the first of `order`.
        order: sample ids in the order to show, such as by disagreement.
        title: a heading.
        by: what colour goes by at first, for all scorers: "value", "rank" or "logarithm"; the reader chooses.
        css: bring the style sheet along.

    Raises:
        UserError: for a table without answers, an unknown scorer, sample or choice of colour.
    """
    comparison, texts, choices = Comparison.of(as_scores(scores), scorers, by), as_texts(samples), Choices()
    ids = spread(list(comparison.answers), max_samples) if order is None else list(order)[:max_samples]
    rows = []
    for sample in ids:
        question, answer = texts.get(comparison.sample(sample), ("", None))
        rows.append((question, _blocks(comparison, sample, question or None, answer, choices), f"sample {sample}"))
    rules = {s.answer.rule: None for s in comparison.scored if s.answer.threshold is not None}
    total = len(comparison.answers)
    notes = [
        f"Showing {len(ids)} of {total} samples." if len(ids) < total else "",
        f"Underlined: a scorer's highest answer tokens ({' or '.join(rules)})." if rules else "",
        "Dotted line above: labelled span." if any(comparison.answers[i]["span"].notna().any() for i in ids) else "",
        "Hover over a token for its numbers.",
    ]
    notes = [note for note in notes if note]
    parts = {"rows": rows, "scored": comparison.scored, "notes": notes, "title": title, "css": css}
    return render("scores.compare", **parts, choices=BY, by=by, choices_css=choices.css(1))


def _blocks(
    comparison: Comparison, sample: Any, question: str | None, answer: str | None, choices: Choices
) -> list[dict[str, Any]]:
    """The sample once for every scorer: name, highlighted question where it is scored, highlighted answer."""
    layers = [s.answer for s in comparison.scored]
    prompts = [s.prompt for s in comparison.scored if s.prompt]
    questions, blocks = comparison.prompts.get(sample), []

    def row(tokens: pd.DataFrame, layer: Layer, every: list[Layer], text: str | None) -> Markup:
        beside = every if len(every) <= MOST_TITLES else [layer]
        return scored_row(tokens, beside, beside.index(layer), text, choices)

    for scored in comparison.scored:
        prompt = None
        if scored.prompt and questions is not None and scored.prompt.scores.index.isin(questions.index).any():
            prompt = row(questions, scored.prompt, prompts, question)
        own = row(comparison.answers[sample], scored.answer, layers, answer)
        blocks.append({"name": scored.answer.name, "prompt": prompt, "answer": own})
    return blocks


# Tokens in columns --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A token as a column: its segment, text without the space before it, title, and score by each scorer."""

    segment: str
    text: str
    title: str
    span: bool
    scores: list[float]


def columns(comparison: Comparison, sample: Any) -> list[Column]:
    """The tokens of a sample that are drawn, question first; where a scorer has no score, nan."""
    out: list[Column] = []
    for segment, groups in (("question", comparison.prompts), ("answer", comparison.answers)):
        tokens = groups.get(sample)
        if tokens is None:
            continue
        layers = [s.answer if segment == "answer" else s.prompt for s in comparison.scored]
        values = [x.scores.reindex(tokens.index).to_numpy(dtype=float) if x else None for x in layers]
        spans = tokens["span"].tolist()
        for i, _, raw in cuts(tokens, None):
            text = (raw.strip(" ") or "␣") if raw else "∎"
            title = token_title(raw or "end of the answer", i, len(tokens), spans[i])
            title += " · question" if segment == "question" else ""
            row = [math.nan if v is None else float(v[i]) for v in values]
            out.append(Column(segment, text, title, spans[i] is True, row))
    return out


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
    by: By = "value",
    css: bool = True,
) -> Html:
    """One sample as a table: a row for each scorer on its own scale, a column for each token, question tokens first.

    Raises:
        UserError: for a table without answers, an unknown scorer, sample or choice of colour.
    """
    comparison = Comparison.of(as_scores(scores), scorers, by)
    tokens = columns(comparison, comparison.sample(sample_id))
    questions = sum(c.segment == "question" for c in tokens)
    cut = ["wb-cut" if 0 < i == questions else "" for i in range(len(tokens))]
    heads = [
        {"classes": " ".join(filter(None, ("wb-s" * c.span, edge))), "title": c.title, "text": shortened(c.text, 20)}
        for c, edge in zip(tokens, cut, strict=True)
    ]
    lines = []
    for i, scored in enumerate(comparison.scored):
        cells = [_cell(c.scores[i], c, scored, edge) for c, edge in zip(tokens, cut, strict=True)]
        lines.append({"name": scored.answer.name, "power": scored.power, "cells": cells})
    notes = ["Dotted line above: labelled span."] if any(c.span for c in tokens) else []
    if any(math.isnan(x) for c in tokens for x in c.scores):
        notes.append(f"Hatched: {NOT_AVAILABLE}.")
    notes.append("Hover over a cell for its number.")
    parts = {"columns": heads, "questions": questions, "lines": lines, "scored": comparison.scored, "notes": notes}
    return render("scores.matrix", **parts, title=title, css=css)


def _cell(score: float, column: Column, scored: Scored, edge: str) -> dict[str, Any]:
    known, scale = math.isfinite(score), scored.answer.scale
    level = scale.level(score) if scale else 0
    return {
        "classes": " ".join(filter(None, (edge, "" if known else "wb-na"))),
        "title": [column.title, f"{scored.answer.name} {number(score, 4)}"],
        "colour": colour(level) if level else "",
        "text": brief(score, scored.power) if known else "",
    }
