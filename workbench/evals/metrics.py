"""The metrics: each gives the value of one answer, from its numbers and texts alone.

`spec` has the functions that make one number of a set's values. Notation: l_t = -log p_t in nats, T answer tokens, the
end token included. `differs` says where a value is not the reference framework's (open-unlearning); the convention of
that name gives theirs.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections import Counter
from typing import Any

import numpy as np

from workbench.errors import NotAvailable
from workbench.evals.spec import Answer, mean, metric, perplexity_of_set, truth_ratio_of_set
from workbench.evals.words import RougeWords, normal, spaced, words

# What most have in common: a set's value is the mean over its answers, and the definition is open-unlearning's.
COMMON: dict[str, Any] = {"aggregate": mean, "source": "open-unlearning", "certainty": "sure"}


@metric("fact_accuracy", split="any with questions and span labels", unit="share of answers", aggregate=mean,
        source="ours", certainty="ours")  # fmt: skip
def fact_accuracy(answer: Answer) -> float:
    """1 if the greedy answer contains every labelled value as whole words (letter case aside), else 0."""
    generation = _generation(answer)
    if not answer.values:
        raise NotAvailable("needs labelled spans")
    return float(all(contains(generation, value) for value in answer.values))


def contains(text: str, value: str) -> bool:
    """Whether `text` has `value`, both in `normal` form, not inside a longer word or number ("male" not in "female").

    Only cased letters and digits are taken to make words: other scripts write without spaces (Chinese, Thai), or join
    particles to a word (Korean, Arabic, Hebrew). A combining mark is never parted from its letter.
    """
    text, value = normal(text), normal(value).strip()
    starts = [i for i in range(len(text)) if text.startswith(value, i)]
    return any(not (_inside_word(text, i) or _inside_word(text, i + len(value))) for i in starts)


def _inside_word(text: str, index: int) -> bool:
    """Whether a word or number goes on across `index`."""
    around = text[max(0, index - 1) : index + 1]
    if index == 0 or len(around) < 2:
        return False
    return unicodedata.category(around[1])[0] == "M" or all(c.isdigit() or c.upper() != c.lower() for c in around)


@metric("probability", split="any", **COMMON)
def probability(answer: Answer) -> float:
    """exp(-mean l_t): the geometric mean probability of the answer's tokens."""
    return float(np.exp(answer.logp.mean()))


@metric(
    "probability_with_options", split="any with wrong answers", differs="they add 1e-10 to the denominator", **COMMON
)
def probability_with_options(answer: Answer, *, eps: float = 0.0) -> float:
    """p_right / (p_right + sum_j p_wrong_j), each p = exp(-mean NLL); right is the answer, not its paraphrase.

    `eps` is added to the denominator.
    """
    if not answer.wrong_nlls:
        raise NotAvailable("needs wrong answers")
    if eps:
        right = math.exp(answer.logp.mean())
        return right / (right + sum(math.exp(-nll) for nll in answer.wrong_nlls) + eps)
    gaps = answer.logp.mean() + np.array(answer.wrong_nlls)  # log p_right - log p_wrong: no underflow
    return float(1 / (1 + np.exp(np.minimum(-gaps, 700)).sum()))


@metric(
    "rouge_l_recall",
    split="any with questions",
    **COMMON,
    differs="they generate up to 200 tokens, which can only raise it, and know no word but of a-z and 0-9",
)
def rouge_l_recall(answer: Answer, *, ascii: bool = False) -> float:
    """ROUGE-L recall of the greedy continuation against the answer, stemmed (`rouge-score`).

    A word is a run of letters and digits, or one character where a script has no spaces. With `ascii` it is a run of
    a-z and 0-9, as in `rouge-score` itself; on ASCII text that is the same.
    """
    return float(_rouge_l(answer, True, ascii).recall)


@metric(
    "rouge_l_f1",
    split="any with questions",
    **COMMON | {"source": "MUSE, arXiv 2407.06460"},
    differs="they stem words, as for recall, which MUSE's own evaluation does not, and know no word but of a-z and 0-9",
)
def rouge_l_f1(answer: Answer, *, stem: bool = False, ascii: bool = False) -> float:
    """ROUGE-L F1 of the greedy continuation against the answer (`rouge-score`), not stemmed; words as in recall."""
    return float(_rouge_l(answer, stem, ascii).fmeasure)


def _rouge_l(answer: Answer, stem: bool, ascii: bool) -> Any:
    """ROUGE-L's recall, precision and F1."""
    generation = _generation(answer)
    if not (ascii or answer.text.isascii() or words(answer.text)):
        raise NotAvailable("the answer has no word to compare")
    return _rouge(stem, ascii).score(answer.text, generation)["rougeL"]


def _generation(answer: Answer) -> str:
    """The greedy continuation."""
    answer.check()
    if answer.generation is None:
        raise NotAvailable("plain text has no question to answer")
    return answer.generation


@functools.cache
def _rouge(stem: bool, ascii: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stem, tokenizer=None if ascii else RougeWords(stem))


@metric(
    "fluency",
    split="any with questions",
    range=(0, None),
    unit="bits",
    **COMMON | {"source": "RWKU, arXiv 2406.10890, after ROME, arXiv 2202.05262"},
    differs="they have no such metric; RWKU takes a text in a script without spaces as one word",
)
def fluency(answer: Answer, *, characters: bool = True) -> float:
    """(2/3 H_2 + 4/3 H_3) / 2, H_n the entropy in bits of the continuation's n-grams of words: low when it repeats.

    Words are those of NLTK's tokenizer, without its sentence splitter, which needs data to be downloaded: a full stop
    inside the text stays with its word. With `characters` each character of a script without spaces is a word. No
    n-gram has entropy 0.
    """
    text = _generation(answer)
    tokens = _words().tokenize(spaced(text) if characters else text)
    return (2 / 3 * _entropy(tokens, 2) + 4 / 3 * _entropy(tokens, 3)) / 2


def _entropy(words: list[str], n: int) -> float:
    """Entropy in bits of the n-grams of a text."""
    counts = np.array(list(Counter(zip(*(words[i:] for i in range(n)), strict=False)).values()), dtype=float)
    shares = counts / counts.sum() if len(counts) else counts
    return float(-(shares * np.log2(shares)).sum()) + 0.0


@functools.cache
def _words() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@metric("exact_memorization", split="any", differs="they leave the end token out", **COMMON)
def exact_memorization(answer: Answer, *, include_eos: bool = True) -> float:
    """Share of answer positions whose argmax is the right token; with `include_eos` the end token counts too."""
    return float((_ranks(answer, include_eos) == 0).mean())


@metric(
    "extraction_strength",
    split="any",
    **COMMON | {"source": "after open-unlearning"},
    differs="they leave the end token out, and the lowest value is 1/T",
)
def extraction_strength(answer: Answer, *, floor: bool = False, include_eos: bool = True) -> float:
    """1 - k/T, k the shortest prefix after which every argmax is right; 0 if the last token is wrong.

    With `floor` the lowest value is 1/T; without `include_eos` the end token does not count. The reference does both.
    """
    ranks = _ranks(answer, include_eos)
    wrong = np.flatnonzero(ranks != 0)
    value = 1.0 if not len(wrong) else 1 - (int(wrong[-1]) + 1) / len(ranks)
    return max(value, 1 / len(ranks)) if floor else value


def _ranks(answer: Answer, include_eos: bool) -> np.ndarray:
    """Ranks of the answer's tokens, with or without the end token."""
    answer.check()
    ranks = answer.rank if include_eos else answer.rank[:-1]
    if not len(ranks):
        raise NotAvailable("the answer has no token but the last")
    return ranks


@metric(
    "truth_ratio",
    split="any with wrong answers",
    better="see split",
    **COMMON | {"aggregate": truth_ratio_of_set},
    differs="they add 1e-10 to the denominators, which shows where the true answer has become improbable",
)
def truth_ratio(answer: Answer, *, eps: float = 0.0) -> float:
    """R = exp(-mean_j L_wrong_j) / exp(-L_true), L = mean NLL; the true answer is the paraphrase where there is one.

    The set's value is mean min(R, 1/R) on forget (higher: forgotten) and mean max(0, 1 - R) elsewhere (higher: known).
    `eps` is added to the denominator.
    """
    if answer.true_nll is None or not answer.wrong_nlls:
        raise NotAvailable("needs wrong answers")
    wrong = float(np.mean(answer.wrong_nlls))
    if eps:
        return math.exp(-wrong) / (math.exp(-answer.true_nll) + eps)
    return math.exp(min(answer.true_nll - wrong, 700))


@metric("perplexity", split="any; plain text above all", better="lower", range=(1, None), aggregate=perplexity_of_set,
        source="standard", certainty="sure")  # fmt: skip
def perplexity(answer: Answer) -> float:
    """exp(mean l_t); over a set, the mean runs over all its tokens."""
    return float(np.exp(-answer.logp.mean()))
