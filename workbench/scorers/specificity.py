"""The scorer we recommend: high on words that only memory can supply and that answers to similar questions lack."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import Encoding, LanguageModel, TokenStats, encode
from workbench.scorers.amortised import fit_layers, other_text
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.confidence import Confidence, agreement, known_share, ranks, times_longer
from workbench.tasks import Sample

NEAREST = 20  # samples whose answers are searched for a token
DEPTHS = (0.5, 0.75, 1.0)  # of the layers whose states are read, as shares of all
RIDGE = 30.0  # per token; so strong that it holds for memorised text too, of which no held-out text could tell
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")  # no space between words


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
    answers = [set(word_texts(e)) for e in others]
    k = min(NEAREST, len(others))
    out = []
    for row, encoding in zip(similarity, encodings, strict=True):
        nearest = np.argsort(-row, kind="stable")[:k]
        share = np.array([sum(word in answers[i] for i in nearest) / k for word in word_texts(encoding)])
        out.append(np.sqrt(1 - share**2))
    return out


def words(text: str) -> list[str]:
    """The words of a text without the punctuation and symbols around them."""
    return [word.strip("".join(c for c in word if unicodedata.category(c)[0] in "PS")) for word in text.split()]


def copied(lm: LanguageModel, encoding: Encoding) -> np.ndarray:
    """For each answer token, whether the question has it too.

    The first word of an answer is compared as a word: after a chat template no space precedes it, so that its tokens
    differ from those in the question.
    """
    sample = encoding.sample
    question = set(token_ids(lm, sample.question)) if sample.question else set()
    opening = next(iter(words(sample.answer)), "")
    end = sample.answer.find(opening) + len(opening) if opening and opening in words(sample.question) else 0
    return np.array(
        [encoding.ids[p] in question or 0 < encoding.ranges[p][1] <= end for p in encoding.answer_positions]
    )


def novelty(lm: LanguageModel, encodings: list[Encoding], others: list[Encoding]) -> list[np.ndarray]:
    """1 - p^4 for each answer token that the question has too, else 1: 0 for a name that is never more than copied.

    p = c / (n + 1), where n samples (of both lists) have the token in their answer, c of them in their
    question too. What answers elsewhere say unasked, such as a place or a genre, is a fact although this question has
    it.
    """
    each = [(answer_ids(e), copied(lm, e)) for e in (*encodings, *others)]
    have = Counter(token for ids, _ in each for token in set(ids))
    copies = Counter(token for ids, mark in each for token in {t for t, same in zip(ids, mark, strict=True) if same})
    shares = [np.array([copies[t] / (have[t] + 1) for t in ids]) for ids, _ in each[: len(encodings)]]
    return [np.where(mark, 1 - share**4, 1.0) for share, (_, mark) in zip(shares, each, strict=False)]


def word_numbers(encoding: Encoding) -> np.ndarray:
    """The number of the word that each answer token is part of; a mark of punctuation is a word of its own.

    In a script without spaces between words, a word is one token, or the tokens of one character.
    """
    text, out = encoding.sample.answer, [-1]
    answer = encoding.answer_positions
    for place, position in enumerate(answer):
        start, end = encoding.ranges[position]
        piece = start == end and place < len(answer) - encoding.ends  # of a character that began in the token before
        inside = 0 < start < end and all(_letter(c) for c in text[start - 1 : start + 1])
        out.append(out[-1] + (not (piece or inside) or not place))
    return np.array(out[1:])


def _letter(character: str) -> bool:
    """Whether it is a letter or a digit of a script that puts spaces between words."""
    return character.isalnum() and not unicodedata.name(character, "").startswith(UNSPACED)


def word_texts(encoding: Encoding) -> list[str]:
    """For each answer token the word that it is part of, without spaces; empty for those that end the turn."""
    numbers = word_numbers(encoding)
    pieces = [""] * (int(numbers[-1]) + 1)
    for number, position in zip(numbers, encoding.answer_positions, strict=True):
        pieces[number] += encoding.text_of(position).strip()
    return [pieces[number] for number in numbers]


def over_words(encoding: Encoding, scores: np.ndarray) -> np.ndarray:
    """Each token's score replaced by the mean over its word."""
    numbers = word_numbers(encoding)
    return (np.bincount(numbers, scores) / np.bincount(numbers))[numbers]


@torch.no_grad()
def unsureness(context: TaskContext, lm: LanguageModel, samples: list[Sample]) -> tuple[list[np.ndarray], float]:
    """How unsure the model would be of each forget token without having memorised it, as a quantile of other text.

    The mean over three layers: in the middle, after three quarters, and the last. Also how well two maps agree on it,
    each fitted on half of `samples`; see `Confidence.stable`.
    """
    layers = tuple(dict.fromkeys(-1 if d == 1 else round(d * lm.config.num_hidden_layers) for d in DEPTHS))
    maps = fit_layers(context, lm, samples, layers, "breadth", RIDGE)

    def values(stats: TokenStats) -> Tensor:
        assert stats.hidden is not None
        states = stats.hidden.chunk(len(layers), dim=1)
        by_layer = [torch.stack([m.quantile(m.predict(h)) for m in each]) for each, h in zip(maps, states, strict=True)]
        return torch.stack(by_layer).mean(0).T

    scores = context.per_sample(lm, values, extras=False, hidden="token", layer=layers)
    halves = np.concatenate(scores)[:, 1:]
    return [each[:, 0] for each in scores], agreement(*halves.T) if halves.size else float("nan")


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
    factors = zip(own, q, rarity(lm, own, others), novelty(lm, own, others), strict=True)
    scores = [over_words(encoding, a * b * c) for encoding, a, b, c in factors]
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
    """(q r c)^power, q r c a mean over the word: unsure without memory (q), rare in similar answers (r), no copy (c).

    q is the amortised `breadth` of the prediction, as a quantile of the text that the maps were fitted on, the mean
    over three layers; r in [0, 1] is `rarity`; c in [0, 1] is `novelty`. Where that text is too little, or of another
    kind, part of the score is surprisal, as a quantile: see `Confidence`. Needs no labels and no second model.

    Args:
        context: the task.
        rows: samples to fit on, at most.
        power: contrast. A higher power puts more weight on the highest tokens; their order does not change.
    """
    return _specificity(context, "specificity", [context.lm], rows, power)


@scorer("specificity_ref", range=(0, 1), kind="task", needs=("reference", "text"), source="ours", certainty="ours")
def specificity_ref(context: TaskContext, *, rows: int = 500, power: float = 4.0) -> list[np.ndarray]:
    """`specificity` with q the mean over the model and a reference model (before fine-tuning, or retain-only)."""
    if context.reference is None:
        raise UserError("scorer 'specificity_ref' needs a reference model; name one as reference (--reference)")
    return _specificity(context, "specificity_ref", [context.lm, context.reference], rows, power)
