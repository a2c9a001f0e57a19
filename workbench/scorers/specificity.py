"""The scorer we recommend: what the model would be unsure of, and answers to like questions do not say."""

from __future__ import annotations

import math
import string

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import LanguageModel, encode
from workbench.scorers.amortised import fit_map, other_text
from workbench.scorers.base import TaskContext, scorer
from workbench.tasks import Sample

NEAREST = 20  # answers that a token is compared with
COPIED = 0.5  # what a token that stands in the question counts


def token_ids(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of a text, as they are inside a sentence."""
    return list(lm.tokenizer(" " + text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)


def answer_ids(lm: LanguageModel, sample: Sample) -> list[int]:
    """Token ids of a sample's answer, the end token included."""
    encoding = encode(lm, sample)
    return [encoding.ids[position] for position in encoding.answer_positions]


def rarity(lm: LanguageModel, samples: list[Sample], others: list[Sample]) -> list[np.ndarray]:
    """How rare each answer token is in the answers to the most similar questions: 1 in none of them, near 0 in all.

    log((k + 1) / (n + 1/2)) / log((k + 1) / (1/2)), where n of the k nearest samples of `others` (20, or all where
    there are fewer) have the token in their answer; near by the cosine of TF-IDF vectors of the questions' tokens (of
    the answers' where there is no question).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    asked = [token_ids(lm, s.question or s.answer) for s in [*others, *samples]]
    vectors = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True).fit(asked[: len(others)])
    likeness = (vectors.transform(asked[len(others) :]) @ vectors.transform(asked[: len(others)]).T).toarray()
    said = [set(answer_ids(lm, s)) for s in others]
    k = min(NEAREST, len(others))
    found = []
    for row, sample in zip(likeness, samples, strict=True):
        nearest = np.argsort(-row, kind="stable")[:k]
        n = np.array([sum(token in said[i] for i in nearest) for token in answer_ids(lm, sample)])
        found.append(np.log((k + 1) / (n + 0.5)) / np.log((k + 1) / 0.5))
    return found


def words(text: str) -> list[str]:
    """The words of a text without the punctuation around them."""
    return [word.strip(string.punctuation) for word in text.split()]


def copied(lm: LanguageModel, sample: Sample) -> np.ndarray:
    """For each answer token, whether the question has it too (a name that only has to be copied).

    The first word of an answer is compared as a word: after a chat template it has no space before it, and so other
    tokens than in the question.
    """
    question = set(token_ids(lm, sample.question)) if sample.question else set()
    opening = next(iter(words(sample.answer)), "")
    end = sample.answer.find(opening) + len(opening) if opening and opening in words(sample.question) else 0
    encoding = encode(lm, sample)
    return np.array(
        [encoding.ids[p] in question or 0 < encoding.ranges[p][1] <= end for p in encoding.answer_positions]
    )


@torch.no_grad()
def unsureness(given: TaskContext, lm: LanguageModel, rows: int) -> list[np.ndarray]:
    """How unsure a model would be of each forget token had it not memorised it, as a quantile of other text."""
    fitted = fit_map(given, lm, other_text(given, rows), signal="alternatives")

    def values(stats: object) -> Tensor:
        return fitted.quantile(fitted.scores(stats))  # type: ignore[arg-type]

    return given.per_sample(lm, values, extras=False, hidden="token")


def _specificity(given: TaskContext, models: list[LanguageModel], rows: int, power: float) -> list[np.ndarray]:
    if not (power > 0 and math.isfinite(power)):
        raise UserError(f"specificity: power must be above 0 and finite, not {power}")
    unsure = [np.mean(each, axis=0) for each in zip(*(unsureness(given, lm, rows) for lm in models), strict=True)]
    others = [*given.task.retain, *given.task.sets.get("unlabelled", [])]
    rare = rarity(given.lm, given.task.forget, others)
    counts = [np.where(copied(given.lm, s), COPIED, 1.0) for s in given.task.forget]
    return [(u * np.sqrt(r * c)) ** power for u, r, c in zip(unsure, rare, counts, strict=True)]


@scorer("specificity", range=(0, 1), kind="task", source="ours", certainty="ours")
def specificity(given: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """(q sqrt(r c))^power: q unsure without memory, r rare in answers to like questions, c = 1/2 where copied.

    q is the amortised number of alternatives exp(H) as a quantile of the text the map was fitted on; r is in [0, 1]; a
    token that the question has too counts half. Needs no labels and no second model.

    Args:
        given: the task.
        rows: samples to fit on, at most.
        power: contrast: as weights, the scores gather on the few highest tokens; their order is the same for any power.
    """
    return _specificity(given, [given.lm], rows, power)


@scorer("specificity_ref", range=(0, 1), kind="task", needs=("reference",), source="ours", certainty="ours")
def specificity_ref(given: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """`specificity` with q the mean over the model and a reference model (before fine-tuning, or retain-only)."""
    if given.reference is None:
        raise UserError("scorer 'specificity_ref' needs a reference model; name one as reference (--reference)")
    return _specificity(given, [given.lm, given.reference], rows, power)
