"""A token view as a figure: what one sees of it, at a scorer, step, threshold and unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError, unknown
from workbench.view.figures.text_figure import Piece, Row, TextFigure, scale_key
from workbench.view.figures.texts import END, NOT_SCORED, SPANNED, highlighted, question_row
from workbench.view.html import By, Scale, check_by, marked, number, plain_text

if TYPE_CHECKING:
    from workbench.view.widgets.token_payload import Payload

UNITS = ("token", "word")


def tokens_figure(
    data: Payload,
    *,
    scorer: str | None = None,
    step: int | None = None,
    threshold: float | str | None = "default",
    unit: str = "token",
    by: By = "value",
    sample_ids: Sequence[Any] | None = None,
    max_samples: int = 6,
    title: str = "",
) -> TextFigure:
    """Answers coloured by one scorer.

    A scorer, by default the first, has its newest scores up to `step`, by default the last. Those at or above
    `threshold` are underlined; None is for no line, and by default it is the view's own. `unit` is "token" or "word",
    whose score is the mean of its tokens. Without `sample_ids`, the first `max_samples` answers are shown.

    Raises:
        UserError: a scorer, sample or unit that there is not.
    """
    layers = {layer["name"]: layer for layer in data.head["layers"]}
    if scorer is not None and scorer not in layers:
        raise unknown("scorer", scorer, list(layers))
    if unit not in UNITS:
        raise unknown("unit", unit, list(UNITS))
    layer = layers[scorer] if scorer is not None else next(iter(layers.values()))
    row, own_step = data.row(layer["name"], step)
    limit = layer["threshold"] if isinstance(threshold, str) else threshold
    values = _values(data, row, unit)
    scale = None if layer["scale"] is None else Scale(**layer["scale"], by=check_by(by))
    levels = [None if np.isnan(v) else scale.level(float(v)) if scale else 0 for v in values]
    under = [limit is not None and bool(v <= limit if layer["falls"] else v >= limit) for v in values]
    rows, spanned = list[Row](), False
    for sample in _samples(data, sample_ids, max_samples):
        question, pieces = question_row(plain_text(sample["ask"]), ruled=bool(rows)), list[Piece]()
        for i, text in enumerate(sample["texts"]):
            token = sample["first"] + i
            pieces.append(Piece(plain_text(sample["gaps"].get(str(i), ""))))
            if text is not None:
                span = data.head["spans"][token] == "1"
                spanned |= span
                pieces += highlighted(plain_text(text) or f" {END}", levels[token], under=under[token], span=span)
        pieces.append(Piece(plain_text(sample["gaps"].get("-1", ""))))
        rows += [*question, Row([p for p in pieces if p.text], ruled=not question and bool(rows))]
    side = "below" if layer["falls"] else "above"
    notes = [] if limit is None else [f"Underlined: at or {side} {number(limit)}."]
    notes += [SPANNED] * spanned
    notes += [NOT_SCORED] if None in levels else []
    notes += ["A word has the mean score of its tokens."] if unit == "word" else []
    name = f"{layer['name']}, step {own_step}" if len(layer["steps"]) > 1 else layer["name"]
    return TextFigure(rows, [scale_key(marked(name), scale, limit)], [" ".join(notes)] if notes else [], title)


def _values(data: Payload, row: int, unit: str) -> np.ndarray:
    """A score a token; of words, their mean for each of their tokens."""
    values = np.asarray(data.scores[row], dtype=float)
    if unit == "token":
        return values
    begins = np.array([i == 0 or flag == "1" for s in data.head["samples"] for i, flag in enumerate(s["words"])])
    word, known = np.cumsum(begins) - 1, np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(word, np.where(known, values, 0.0)) / np.bincount(word, known)
    return means[word]


def _samples(data: Payload, ids: Sequence[Any] | None, count: int) -> list[dict[str, Any]]:
    samples = {sample["id"]: sample for sample in data.head["samples"]}
    if ids is None:
        return list(samples.values())[:count]
    for name in ids:
        if str(name) not in samples:
            raise unknown("sample", str(name), list(samples))
    if not ids:
        raise UserError("a figure needs at least one answer; no sample is shown")
    return [samples[str(name)] for name in ids]


def visible(data: Payload, search: str, sort: str, scorer: str, step: int) -> list[str]:
    """The ids of the samples that a token view shows, in its order."""
    words, values = search.strip().lower(), np.asarray(data.scores_at(scorer, step), dtype=float)
    means: dict[str, float] = {}  # of the scores of the samples that are left
    for sample in data.head["samples"]:
        texts = [
            plain_text(sample["gaps"].get(str(i), "")) + plain_text(t or "") for i, t in enumerate(sample["texts"])
        ]
        own = values[sample["first"] : sample["first"] + len(texts)]
        if words in f"{plain_text(sample['ask'])}\n{''.join(texts)}".lower() and np.isfinite(own).any():
            means[sample["id"]] = float(np.nanmean(own))
    if sort == "order":
        return list(means)
    order = means if sort == "score" else data.head["orders"].get(sort, {})
    sign = -1.0 if sort == "damage" else 1.0
    return sorted(means, key=lambda name: np.inf if order.get(name) is None else -sign * order[name])
