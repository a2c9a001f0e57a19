"""Labelled spans: the words that a person labels, and how far two sets of labels agree."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from workbench.errors import Missing, UserError, missing
from workbench.models import LanguageModel, encode
from workbench.tasks import UNSPACED, Sample, read_rows

Ranges = list[tuple[int, int]]
Labels = dict[tuple[str, str], tuple[tuple[int, int], ...]]
IN_WORD = rf"[^\W{UNSPACED}]"
# A word without the punctuation at its ends, a sign by itself; where scripts have no spaces, a character.
UNIT = re.compile(rf"{IN_WORD}(?:[^\s{UNSPACED}]*{IN_WORD})?|[{UNSPACED}]|[^\s\w]")


def label_words(text: str) -> Ranges:
    """Character ranges of what can be labelled: words as of `Al-Kuwaiti`, and each punctuation mark around them."""
    return [match.span() for match in UNIT.finditer(text)]


def labels_of(source: Any) -> Labels:
    """The spans of each (question, answer) that has been labelled; rows without spans are left out.

    The source is rows in any form, as `wb.read_rows` takes them.
    """
    samples = read_rows(source, say=lambda _: None)
    return {(s.question, s.answer): s.spans for s in samples if s.spans is not None}


def kappa(a: Any, b: Any, *, model: LanguageModel | None = None) -> dict[str, Any]:
    """How far two labellers agree on which words carry the fact, over the answers that both have labelled.

    `kappa` is Cohen's: (p_o - p_e) / (1 - p_e), where p_o is the share of words on which they agree, and p_e the share
    expected where each labels as many at random (Cohen 1960). 1 is agreement, 0 chance. `jaccard` is the share labelled
    by both of the words labelled by any: words that nobody labels do not count, so it is not lifted by them.

    Args:
        a: labels: the file of a `wb.LabelSpans`, or rows in any form, with `spans`; matched by question and answer.
        b: the other labeller's.
        model: count its tokens in place of words; a token is labelled if it overlaps a span.

    Returns:
        `kappa`, `jaccard`, `agreement` (p_o), `unit`, `units` (how many), `labelled` (by each of the two), `both`,
        `answers` (that both labelled). What is undefined is `errors.Missing`.

    Raises:
        UserError: they have no labelled answer in common.
    """
    first, second = labels_of(a), labels_of(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise UserError("the two have no labelled answer in common; they are matched by question and answer")
    units = [(key, place) for key in shared for place in _units(*key, model)]
    x, y = (np.array([_inside(place, labels[key]) for key, place in units], bool) for labels in (first, second))
    both, either = int((x & y).sum()), int((x | y).sum())
    agreement, chance = float((x == y).mean()), float(x.mean() * y.mean() + (~x).mean() * (~y).mean())
    nothing = missing("nobody labelled anything")
    value: float | Missing = missing("both labelled all, or nothing")
    if chance < 1:
        value = (agreement - chance) / (1 - chance)
    return {
        "kappa": value,
        "jaccard": both / either if either else nothing,
        "agreement": agreement,
        "unit": "word" if model is None else "token",
        "units": len(x),
        "labelled": [int(x.sum()), int(y.sum())],
        "both": both,
        "answers": len(shared),
    }


def _inside(place: tuple[int, int], spans: tuple[tuple[int, int], ...]) -> bool:
    return any(place[0] < end and start < place[1] for start, end in spans)


def _units(question: str, answer: str, model: LanguageModel | None) -> Ranges:
    """The words of an answer, or the model's tokens that stand for text."""
    if model is None:
        return label_words(answer)
    encoding = encode(model, Sample("answer", question, answer), any_length=True)
    ranges = [encoding.ranges[place] for place in encoding.answer_positions]
    return [(start, end) for start, end in ranges if start < end]
