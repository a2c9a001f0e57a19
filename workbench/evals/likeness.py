"""How alike groups of samples are by their texts alone: shared names and rare words, and syntax."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from workbench.tasks import Sample

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
PIECE = re.compile(rf"{WORD.pattern}|\d+|[^\w\s]")
RARE = 0.05  # share of the rows up to which a word is rare
GRAM = 3  # longest n-gram of shapes
RUN = 4  # a run of characters of one kind is cut to so many
Group = Sequence[Sample]


def text_of(sample: Sample) -> str:
    """Question and answer."""
    return f"{sample.question} {sample.answer}".strip()


def words_in(sample: Sample) -> set[str]:
    """The words of question and answer, in small letters."""
    return {word.casefold() for word in WORD.findall(text_of(sample))}


def rarities(samples: Sequence[Sample]) -> dict[str, float]:
    """Word -> ln(rows / rows that have it), of the words that at most one row in twenty has (always those of one row).

    The samples are all rows among which a word is rare or not.
    """
    counts = Counter(word for sample in samples for word in words_in(sample))
    most = max(1.0, RARE * len(samples))
    return {word: math.log(len(samples) / n) for word, n in counts.items() if n <= most}


def names_in(samples: Sequence[Sample]) -> dict[str, float]:
    """Word -> 1, of the names that are asked about: words in questions that are not first there, nor small anywhere.

    Of a plain text without a question, its own words.
    """
    small = {w.casefold() for s in samples for w in WORD.findall(text_of(s)) if not w[0].isupper()}
    asked = {w.casefold() for s in samples for w in WORD.findall(s.question or s.answer)[1:] if w[0].isupper()}
    return dict.fromkeys(sorted(asked - small), 1.0)


def shared_words(forgotten: Sequence[Group], measured: Sequence[Group], weights: dict[str, float]) -> np.ndarray:
    """(I, J): the weights of the words that two groups share, over sqrt(weight of one's words x of the other's).

    The weights, word -> weight, are `rarities` or `names_in` of all rows.
    """

    def once(group: Group) -> Counter[str]:
        return Counter(dict.fromkeys((w for s in group for w in words_in(s) if w in weights), 1))

    return _cosines(list(map(once, forgotten)), list(map(once, measured)), weights)


def _cosines(left: list[Counter[str]], right: list[Counter[str]], weights: dict[str, float] | None) -> np.ndarray:
    """(I, J) cosines of counts, each feature with its weight (1 by default)."""
    places = {feature: n for n, feature in enumerate(dict.fromkeys(f for counts in (*left, *right) for f in counts))}
    scale = np.array([1.0 if weights is None else weights[feature] for feature in places])

    def matrix(groups: list[Counter[str]]) -> np.ndarray:
        values = np.zeros((len(groups), len(places)))
        for row, counts in enumerate(groups):
            for feature, n in counts.items():
                values[row, places[feature]] = n
        values *= np.sqrt(scale)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)

    return np.asarray(matrix(left) @ matrix(right).T)


def shape(word: str) -> str:
    """The kinds of a word's characters: X for a capital, x for a small letter, d for a digit, anything else itself.

    A run of one kind is cut to four, as spaCy's `shape_` is: "Quillon" is Xxxxx, "the" is xxx.
    """
    kinds = ["d" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word]
    return "".join("".join(run)[:RUN] for _, run in groupby(kinds))


def shape_grams(sample: Sample) -> Counter[str]:
    """How often each n-gram (n = 1, 2, 3) of word shapes occurs in the question and in the answer."""
    counts: Counter[str] = Counter()
    for text in (sample.question, sample.answer):
        shapes = [shape(piece) for piece in PIECE.findall(text)]
        for n in range(1, GRAM + 1):
            counts.update(" ".join(shapes[i : i + n]) for i in range(len(shapes) - n + 1))
    return counts


def alike_in_syntax(forgotten: Sequence[Group], measured: Sequence[Group]) -> np.ndarray:
    """(I, J): the cosine of two groups' counts of n-grams of word shapes."""
    left, right = ([sum(map(shape_grams, group), Counter()) for group in groups] for groups in (forgotten, measured))
    return _cosines(left, right, None)
