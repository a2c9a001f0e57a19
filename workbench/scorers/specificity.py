"""The scorer we recommend: high on words that only memory can supply and that answers to similar questions lack."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import Encoding, LanguageModel, TokenStats, encode
from workbench.scorers.amortised import LinearMap, Reading, other_text, read
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.confidence import Confidence, agreement, known_share, ranks, times_longer
from workbench.scorers.words import Words, is_number, unspaced, word_spans
from workbench.tasks import Sample

NEAREST = 20  # samples whose answers are searched for a token
DEPTHS = (0.5, 0.75, 1.0)  # of the layers whose states are read, as shares of all
RIDGE = 30.0  # per token; so strong that it holds for memorised text too, of which no held-out text could tell


def token_ids(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of a text as it would be tokenised inside a sentence."""
    return list(lm.tokenizer(" " + text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)


def answer_ids(encoding: Encoding) -> list[int]:
    """Token ids of a sample's answer, the end token included."""
    return [encoding.ids[position] for position in encoding.answer_positions]


def rarity(lm: LanguageModel, encodings: list[Encoding], others: list[Encoding]) -> list[np.ndarray]:
    """How rare each answer token's word is in the answers to the most similar questions: 1 if none has it, 0 if all do.

    sqrt(1 - s^2), where s is the share of the 20 nearest of `others` (or of all, if there are fewer) that have
    the word in their answer. Nearness is the cosine of TF-IDF vectors of the questions' tokens, or of the answers'
    where there is no question.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ([e.sample.question or e.sample.answer for e in group] for group in (others, encodings))
    known, new = ([token_ids(lm, text) for text in group] for group in texts)
    vectors = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True).fit(known)
    similarity = (vectors.transform(new) @ vectors.transform(known).T).toarray()
    answers = [set(Words.of(e).texts) for e in others]
    k = min(NEAREST, len(others))
    out = []
    for row, encoding in zip(similarity, encodings, strict=True):
        nearest, own = np.argsort(-row, kind="stable")[:k], Words.of(encoding)
        share = own.per_token({word: sum(word in answers[i] for i in nearest) / k for word in own.texts})
        out.append(np.sqrt(1 - share**2))
    return out


def copied(encoding: Encoding) -> np.ndarray:
    """For each answer token, whether its word is among those that were `supplied`."""
    own = Words.of(encoding)
    known = supplied(encoding.sample, own)
    return own.per_token({word: word in known for word in own.texts})


def supplied(sample: Sample, answer: Words) -> set[str]:
    """The words of an answer that its question has too; of a text without a question the first two, its subject's name.

    None of an answer that continues a text: that is no question, and what is in it is part of what is to be forgotten.
    """
    if sample.continues:
        return set()
    if not sample.question:
        return set([word for word in answer.texts if word[:1].isalnum()][:2])
    known = {sample.question[start:end] for start, end in word_spans(sample.question)}
    return {word for word in answer.texts if word in known or (word and unspaced(word[0]) and word in sample.question)}


def novelty(encodings: list[Encoding], others: list[Encoding]) -> list[np.ndarray]:
    """1 - p^4 for each token of a word that was `supplied`, else 1: 0 for a name that is only copied.

    p is the share of the answers with that word (of both lists, its own among them) that were supplied with it. What
    answers elsewhere say unasked, such as a place or a genre, is a fact although this question has it. A text without a
    question has 1 - p.
    """
    each = [(own := Words.of(e), supplied(e.sample, own)) for e in (*encodings, *others)]
    have = Counter(word for own, _ in each for word in set(own.texts))
    copies = Counter(word for _, marked in each for word in marked)
    out = []
    for encoding, (own, marked) in zip(encodings, each, strict=False):
        power = 4 if encoding.sample.question else 1
        values = {word: 1 - (copies[word] / have[word]) ** power * (word in marked) for word in own.texts}
        out.append(own.per_token(values))
    return out


def by_word(encoding: Encoding, logs: np.ndarray) -> np.ndarray:
    """(T, 2, ...) log alternatives of each token's word, in two views: as its pieces' mean, and as their sum.

    How many alternatives a word has is the product of its pieces': this is the sum of the logarithms. But most of a
    word's pieces follow from those before it, and a map that sees them one by one takes long words for rare ones.
    The mean does not. A number's digits do not follow from each other, so it has the sum in both views.
    """
    own = Words.of(encoding)
    total = own.sums(logs)
    count = own.sums(np.ones(len(logs)))
    count[own.per_token({word: is_number(word) for word in own.texts})] = 1
    return np.stack([total / count.reshape(-1, *[1] * (logs.ndim - 1)), total], axis=1)


@torch.no_grad()
def unsureness(context: TaskContext, lm: LanguageModel, samples: list[Sample]) -> tuple[list[np.ndarray], float]:
    """How unsure the model would be of each forget token's word without memory of it, as a quantile of `samples`.

    The mean over three layers (in the middle, after three quarters, and the last) and the two views of `by_word`. Also
    how well two maps agree on it, each fitted on half of `samples`; see `Confidence.stable`.
    """
    layers = tuple(dict.fromkeys(-1 if d == 1 else round(d * lm.config.num_hidden_layers) for d in DEPTHS))
    text = read(context, lm, samples, "breadth", "token", layers)
    parts = [slice(None), *(slice(i, None, 2) for i in (0, 1) if len(samples) >= 4)]
    by_layer = list(zip(*(states.chunk(len(layers), dim=1) for states in text.states), strict=True))
    each = [Reading(list(states[part]), text.signal[part]) for part in parts for states in by_layer]
    maps = [LinearMap(half.fit([0] * len(half.signal), RIDGE)[0], str(lm.device)) for half in each]

    def logs(states: Tensor) -> Tensor:  # (N, maps)
        own = states.chunk(len(layers), dim=1)
        return torch.stack([m.predict(own[i % len(layers)]).clamp(min=1).log() for i, m in enumerate(maps)], dim=1)

    def from_stats(stats: TokenStats) -> Tensor:
        assert stats.hidden is not None
        return logs(stats.hidden)

    scores = context.per_sample(lm, from_stats, extras=False, hidden="token", layer=layers)
    own, other = (
        [by_word(encode(lm, s), values) for s, values in zip(group, logarithms, strict=True)]
        for group, logarithms in (
            (context.task.forget, scores),
            (samples, [logs(states).double().cpu().numpy() for states in text.states]),
        )
    )
    q = quantiles(np.concatenate(own), np.concatenate(other)).reshape(-1, 2, len(parts), len(layers)).mean((1, 3))
    stable = agreement(*q[:, 1:].T) if len(parts) > 1 else float("nan")
    return np.split(q[:, 0], np.cumsum([len(each) for each in own])[:-1]), stable


def quantiles(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of `others` that is lower than each of `values`, column by column (both (T, ...)); NaN stays NaN."""
    columns = zip(values.reshape(len(values), -1).T, others.reshape(len(others), -1).T, strict=True)
    shares = np.stack([np.searchsorted(np.sort(b), a) / len(b) for a, b in columns], axis=1).reshape(values.shape)
    return np.where(np.isnan(values), np.nan, shares)


def _specificity(
    context: TaskContext, name: str, models: list[LanguageModel], rows: int, power: float
) -> list[np.ndarray]:
    if not (power > 0 and math.isfinite(power)):
        raise UserError(f"{name}: power must be above 0 and finite, not {power}")
    lm, text = context.lm, other_text(context, rows)
    unsure, stable = zip(*(unsureness(context, m, text) for m in models), strict=True)
    q = [np.mean(each, axis=0) for each in zip(*unsure, strict=True)]
    own = [encode(lm, s) for s in context.task.forget]
    others = [encode(lm, s) for s in (*context.task.retain, *context.task.sets.get("unlabelled", []))]
    scores = [a * b * c for a, b, c in zip(q, rarity(lm, own, others), novelty(own, others), strict=True)]
    ids = [answer_ids(e) for e in own], [answer_ids(encode(lm, s)) for s in text]
    confidence = Confidence(len(text), known_share(*ids), stable[0], times_longer(*ids))
    scores = trusted(context, name, scores, confidence)
    return [each**power for each in scores]


def trusted(context: TaskContext, name: str, scores: list[np.ndarray], confidence: Confidence) -> list[np.ndarray]:
    """The scores as far as they can be trusted, and surprisal, as a quantile, for the rest; notes the confidence."""
    context.notes.setdefault(name, {})["confidence"] = confidence.note()
    if not confidence.low:
        return scores
    surprisal = ranks(context.per_sample(context.lm, lambda stats: stats.nll, extras=False))
    return [confidence.weight * a + (1 - confidence.weight) * b for a, b in zip(scores, surprisal, strict=True)]


@scorer("specificity", range=(0, 1), kind="task", needs=("text",), source="ours", certainty="ours")
def specificity(context: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """(q r c)^power of a word: unsure without memory (q), rare in similar answers (r), not copied (c).

    q is the amortised number of the word's alternatives (`breadth`), as a quantile of the text that the maps were
    fitted on; see `unsureness`. r in [0, 1] is `rarity`; c in [0, 1] is `novelty`. Where that text is too little, or
    of another kind, part of the score is surprisal, as a quantile: see `Confidence`. Needs no labels and no second
    model.

    Args:
        context: the task.
        rows: samples to fit on, at most.
        power: contrast. A higher power puts more weight on the highest tokens; their order does not change. 4, since
            the mean fourth power of a quantile is 1/5, the share of tokens that ATWU's authors allow.
    """
    return _specificity(context, "specificity", [context.lm], rows, power)


@scorer("specificity_ref", range=(0, 1), kind="task", needs=("reference", "text"), source="ours", certainty="ours")
def specificity_ref(context: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """`specificity` with q the mean over the model and a reference model (before fine-tuning, or retain-only)."""
    if context.reference is None:
        raise UserError("scorer 'specificity_ref' needs a reference model; name one as reference (--reference)")
    return _specificity(context, "specificity_ref", [context.lm, context.reference], rows, power)
