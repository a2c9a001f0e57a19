"""The scorer we recommend: high on tokens that only memory can supply and that answers to similar questions lack."""

from __future__ import annotations

import math
import unicodedata

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import LanguageModel, encode
from workbench.scorers.amortised import fit_map, other_text
from workbench.scorers.base import TaskContext, scorer
from workbench.tasks import Sample

NEAREST = 20  # samples whose answers are searched for a token
COPIED = 0.5  # factor for a token that the question has too


def token_ids(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of a text as it would be tokenised inside a sentence."""
    return list(lm.tokenizer(" " + text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)


def answer_ids(lm: LanguageModel, sample: Sample) -> list[int]:
    """Token ids of a sample's answer, the end token included."""
    encoding = encode(lm, sample)
    return [encoding.ids[position] for position in encoding.answer_positions]


def rarity(lm: LanguageModel, samples: list[Sample], others: list[Sample]) -> list[np.ndarray]:
    """How rare each answer token is in the answers to the most similar questions: 1 if none has it, near 0 if all do.

    log((k + 1) / (n + 1/2)) / log((k + 1) / (1/2)), where n of the k = 20 nearest samples of `others` (or all, if there
    are fewer) have the token in their answer. Nearness is the cosine of TF-IDF vectors of the questions' tokens, or of
    the answers' where there is no question.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known, new = ([token_ids(lm, s.question or s.answer) for s in group] for group in (others, samples))
    vectors = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True).fit(known)
    similarity = (vectors.transform(new) @ vectors.transform(known).T).toarray()
    answers = [set(answer_ids(lm, s)) for s in others]
    k = min(NEAREST, len(others))
    out = []
    for row, sample in zip(similarity, samples, strict=True):
        nearest = np.argsort(-row, kind="stable")[:k]
        n = np.array([sum(token in answers[i] for i in nearest) for token in answer_ids(lm, sample)])
        out.append(np.log((k + 1) / (n + 0.5)) / np.log((k + 1) / 0.5))
    return out


def words(text: str) -> list[str]:
    """The words of a text without the punctuation and symbols around them."""
    return [word.strip("".join(c for c in word if unicodedata.category(c)[0] in "PS")) for word in text.split()]


def copied(lm: LanguageModel, sample: Sample) -> np.ndarray:
    """For each answer token, whether the question has it too (a name that only has to be copied).

    The first word of an answer is compared as a word: after a chat template no space precedes it, so that its tokens
    differ from those in the question.
    """
    question = set(token_ids(lm, sample.question)) if sample.question else set()
    opening = next(iter(words(sample.answer)), "")
    end = sample.answer.find(opening) + len(opening) if opening and opening in words(sample.question) else 0
    encoding = encode(lm, sample)
    return np.array(
        [encoding.ids[p] in question or 0 < encoding.ranges[p][1] <= end for p in encoding.answer_positions]
    )


@torch.no_grad()
def unsureness(context: TaskContext, lm: LanguageModel, rows: int) -> list[np.ndarray]:
    """How unsure the model would be of each forget token without having memorised it, as a quantile of other text."""
    fitted = fit_map(context, lm, other_text(context, rows), signal="alternatives")

    def values(stats: object) -> Tensor:
        return fitted.quantile(fitted.scores(stats))  # type: ignore[arg-type]

    return context.per_sample(lm, values, extras=False, hidden="token")


def _specificity(context: TaskContext, models: list[LanguageModel], rows: int, power: float) -> list[np.ndarray]:
    if not (power > 0 and math.isfinite(power)):
        raise UserError(f"specificity: power must be above 0 and finite, not {power}")
    unsure = [np.mean(each, axis=0) for each in zip(*(unsureness(context, lm, rows) for lm in models), strict=True)]
    others = [*context.task.retain, *context.task.sets.get("unlabelled", [])]
    rare = rarity(context.lm, context.task.forget, others)
    counts = [np.where(copied(context.lm, s), COPIED, 1.0) for s in context.task.forget]
    return [(u * np.sqrt(r * c)) ** power for u, r, c in zip(unsure, rare, counts, strict=True)]


@scorer("specificity", range=(0, 1), kind="task", needs=("text",), source="ours", certainty="ours")
def specificity(context: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """(q sqrt(r c))^power: unsure without memory (q), rare in answers to similar questions (r), not copied (c).

    q is the amortised number of alternatives exp(H), as a quantile of the text that the map was fitted on; r in [0, 1]
    is `rarity`; c is 1/2 for a token that the question has too, else 1. Needs no labels and no second model.

    Args:
        context: the task.
        rows: samples to fit on, at most.
        power: contrast. A higher power puts more weight on the highest tokens; their order does not change.
    """
    return _specificity(context, [context.lm], rows, power)


@scorer("specificity_ref", range=(0, 1), kind="task", needs=("reference", "text"), source="ours", certainty="ours")
def specificity_ref(context: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """`specificity` with q the mean over the model and a reference model (before fine-tuning, or retain-only)."""
    if context.reference is None:
        raise UserError("scorer 'specificity_ref' needs a reference model; name one as reference (--reference)")
    return _specificity(context, [context.lm, context.reference], rows, power)
