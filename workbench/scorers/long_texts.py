"""Scorers that look at whole samples, on texts longer than the model's context: piece by piece, shown whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError
from workbench.models import Encoding, LanguageModel, encode, windows
from workbench.scorers.base import TaskContext, check_reference, scorer
from workbench.scorers.score import score_plain
from workbench.scorers.table import in_order, score_table
from workbench.tasks import Sample

SPARE = 8  # tokens: cut out of its text, a piece may have other tokens at its ends


@dataclass(frozen=True)
class Piece:
    """A part of a plain text as a sample: what stands before it is the question that it continues.

    Attributes:
        sample: the piece.
        start: its first character in the whole text.
        ends: whether the text ends with it.
    """

    sample: Sample
    start: int
    ends: bool


def score_any_length(
    context: TaskContext, names: Iterable[str], *, options: dict[str, dict[str, Any]] | None = None
) -> pd.DataFrame:
    """The score table of answers of any length, by scorers of every kind but "live"; in the order of `names`.

    Scorers of one pass see every token with as much text before it as the model can take, and whatever they compare
    within an answer, they compare within all of it. Others score pieces, each with the text before it.

    Raises:
        UserError: a scorer that trains the model, or a question with a long answer where pieces are needed.
    """
    names, options = list(names), options or {}
    check_reference(context.lm, context.reference, names)
    lm, samples = context.lm, context.task.forget
    if live := [name for name in names if scorer[name].kind == "live"]:
        raise UserError(f"scorer '{live[0]}' trains the model, and a text is longer than its context; shorten the text")
    plain = [name for name in names if scorer[name].kind == "batch"]
    tables = []
    if plain:
        tables.append(score_plain(context, plain, options, context.progress, any_length=True))
    if not (others := [name for name in names if name not in plain]):
        return in_order(tables, names)
    encodings = [encode(lm, sample, any_length=True) for sample in samples]
    whole = [pieces(lm, encoding) for encoding in encodings]
    parts = [piece.sample for each in whole for piece in each]
    inner = replace(context, task=replace(context.task, sets={**context.task.sets, "forget": parts}))
    for name in others:
        values = scorer[name].function(inner, **options.get(name, {}))
        own = iter(zip(parts, values, strict=True))
        scores = []
        for encoding, each in zip(encodings, whole, strict=True):
            scores.append(joined(lm, encoding, [(piece, next(own)[1]) for piece in each]))
        tables.append(score_table(encodings, scores, task=context.task.name, scorer=name, step=0))
    return in_order(tables, names)


def pieces(lm: LanguageModel, encoding: Encoding) -> list[Piece]:
    """A sample as pieces that fit the model's context, or itself where it fits; UserError where it has a question."""
    sample = encoding.sample
    if len(encoding.ids) <= lm.context:
        return [Piece(sample, 0, True)]
    if sample.question:
        raise UserError(
            f"sample '{sample.id}' has {len(encoding.ids)} tokens and the context of {lm.name} holds {lm.context}; "
            "shorten it, or choose surprisal or another scorer of one pass"
        )
    out, done = [], 0
    for number, window in enumerate(windows(encoding, lm.context - SPARE)):
        ranges = [window.ranges[place] for place in window.answer_positions]
        end = len(sample.answer) if window.ends else ranges[-1][1]
        first = min([*(a for a, b in window.ranges if a < b), done])
        before, own = sample.answer[first:done], sample.answer[done:end]
        part = replace(sample, id=f"{sample.id} part {number}", question=before, answer=own, spans=None)
        out.append(Piece(replace(part, continues=bool(before)), done, bool(window.ends)))
        done = end
    return out


def joined(lm: LanguageModel, encoding: Encoding, parts: list[tuple[Piece, np.ndarray]]) -> np.ndarray:
    """Scores of a whole answer's tokens, out of those of its pieces' tokens; a piece may have other tokens.

    A token gets the mean of the tokens that share characters with it; one without characters what the token before it
    has, and those that end the answer what ends the last piece.
    """
    size = len(encoding.sample.answer)
    sums, counts, last = np.zeros(size), np.zeros(size), np.nan
    for piece, values in parts:
        own = encode(lm, piece.sample)
        answer = own.answer_positions
        for place, value in zip(answer, values[len(values) - len(answer) :], strict=True):
            start, end = (each + piece.start for each in own.ranges[place])
            sums[start:end] += value
            counts[start:end] += 1
        last = float(values[-1]) if piece.ends and len(values) else last
    with np.errstate(invalid="ignore"):
        by_character = sums / counts
    out: list[float] = []
    answer = encoding.answer_positions
    for number, place in enumerate(answer):
        start, end = encoding.ranges[place]
        if number >= len(answer) - encoding.ends:
            out.append(last)
        elif start < end:
            out.append(float(by_character[start:end].mean()))
        else:
            out.append(out[-1] if out else np.nan)
    return np.array(out)
