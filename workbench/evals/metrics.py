"""Metrics: a value for one answer, how values make one number, and what direction is better.

Per-answer functions see numbers and text, never a model. Notation: l_t = -log p_t in nats, T answer tokens,
the end token included. Where a value differs from the reference framework's (open-unlearning), `differs` says how, and
the convention of that name gives theirs.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import Missing, NotAvailable, missing, unknown
from workbench.registry import Registry, Spec


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric of answers or of sets: which way is better, and what it is taken on.

    Attributes:
        better: "higher", "lower", "near 0", "near 0.5", or "see split".
        range: least and greatest value; None where there is no bound.
        unit: such as "nats"; "" for a share.
        split: the probe sets that it is taken on.
        aggregate: values (n,), token counts (n,) and the probe set -> the set's value; None for a metric of whole sets.
        differs: how it differs from the reference implementation.
    """

    better: str
    range: tuple[float | None, float | None]
    unit: str
    split: str
    aggregate: Callable[..., float] | None = None
    differs: str = ""


metric = Registry("metric", MetricSpec)

# Keyword options by metric (and by attack, see `membership`) that a convention sets.
CONVENTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "ours": {},
    "open-unlearning": {
        "exact_memorization": {"last": False},
        "extraction_strength": {"last": False, "floor": True},
        "probability_with_options": {"tiny": 1e-10},
        "rouge_l_f1": {"stem": True},
        "truth_ratio": {"tiny": 1e-10},
        "mia_min_k": {"last": False},
        "mia_min_k_pp": {"last": False},
        "mia_gradnorm": {"last": False, "total": False},
    },
}
ANSWERS, CHOICES = "any with questions", "any with wrong answers"  # the sets that a metric is meant for


def convention_options(convention: str, name: str) -> dict[str, Any]:
    """Options of a metric or an attack under a convention.

    Raises:
        UserError: no such convention.
    """
    if convention not in CONVENTIONS:
        raise unknown("convention", convention, list(CONVENTIONS))
    return CONVENTIONS[convention].get(name, {})


@dataclass(frozen=True)
class Answer:
    """One probed answer.

    Attributes:
        logp: (T,) log-probability of each answer token, teacher-forced, in nats.
        rank: (T,) tokens more probable than the right one; 0 is the argmax.
        text: the reference answer.
        values: the texts of its labelled spans; None without labels.
        generation: greedy continuation of the question; None for plain text.
        true_nll: mean NLL of the paraphrased (else the original) answer; None where no wrong answers exist.
        wrong_nlls: mean NLL of each wrong answer.
    """

    logp: np.ndarray
    rank: np.ndarray
    text: str
    values: tuple[str, ...] | None
    generation: str | None
    true_nll: float | None = None
    wrong_nlls: tuple[float, ...] = ()


def mean(values: np.ndarray, lengths: np.ndarray, split: str) -> float:
    """Plain mean over answers."""
    return float(values.mean())


def perplexity_of_set(values: np.ndarray, lengths: np.ndarray, split: str) -> float:
    """Exp of the mean NLL over all tokens of the set."""
    return float(np.exp((np.log(values) * lengths).sum() / lengths.sum()))


def truth_ratio_of_set(values: np.ndarray, lengths: np.ndarray, split: str) -> float:
    """Mean min(R, 1/R) on the forget set (1: a wrong answer is as likely), mean max(0, 1 - R) elsewhere."""
    nearness = np.minimum(values, 1 / np.maximum(values, 1e-300))
    return float((nearness if split == "forget" else np.maximum(0, 1 - values)).mean())


SHARE: dict[str, Any] = {"better": "higher", "range": (0, 1), "unit": "", "aggregate": mean}


@metric(
    "fact_accuracy",
    better="higher",
    range=(0, 1),
    unit="share of answers",
    aggregate=mean,
    split="any with questions and span labels",
    source="ours",
    certainty="ours",
)
def fact_accuracy(answer: Answer) -> float:
    """1 if the greedy answer contains every labelled value as whole words (letter case aside), else 0."""
    if answer.generation is None:
        raise NotAvailable("plain text has no question to answer")
    if not answer.values:
        raise NotAvailable("needs labelled spans")
    return float(all(contains(answer.generation, value) for value in answer.values))


def contains(text: str, value: str) -> bool:
    """Whether `text` has `value`, not inside a longer word or number ("male" is not in "female").

    Only cased letters and digits are held to make words: other scripts may write without spaces.
    """
    text, value = text.casefold(), value.casefold().strip()
    places = [i for i in range(len(text)) if text.startswith(value, i)]
    return any(not (_joined(text, i) or _joined(text, i + len(value))) for i in places)


def _joined(text: str, place: int) -> bool:
    """Whether a word or number goes on across `place`."""
    around = text[max(0, place - 1) : place + 1]
    return place > 0 and len(around) == 2 and all(c.isdigit() or c.upper() != c.lower() for c in around)


@metric(
    "probability",
    **SHARE,
    split="any",
    source="open-unlearning",
    certainty="sure",
)
def probability(answer: Answer) -> float:
    """exp(-mean l_t): the geometric mean probability of the answer's tokens."""
    return float(np.exp(answer.logp.mean()))


@metric(
    "probability_with_options",
    **SHARE,
    split=CHOICES,
    source="open-unlearning",
    certainty="sure",
    differs="they add 1e-10 to the denominator",
)
def probability_with_options(answer: Answer, *, tiny: float = 0.0) -> float:
    """p_right / (p_right + sum_j p_wrong_j), each p = exp(-mean NLL); right is the answer, not its paraphrase."""
    if not answer.wrong_nlls:
        raise NotAvailable("needs wrong answers")
    if tiny:
        right = math.exp(answer.logp.mean())
        return right / (right + sum(math.exp(-nll) for nll in answer.wrong_nlls) + tiny)
    gaps = answer.logp.mean() + np.array(answer.wrong_nlls)  # log p_right - log p_wrong: no underflow
    return float(1 / (1 + np.exp(np.minimum(-gaps, 700)).sum()))


@metric(
    "rouge_l_recall",
    **SHARE,
    split=ANSWERS,
    source="open-unlearning",
    certainty="sure",
    differs="they generate up to 200 tokens, which can only raise it",
)
def rouge_l_recall(answer: Answer) -> float:
    """ROUGE-L recall of the greedy continuation against the answer, stemmed (`rouge-score`)."""
    return float(_rouge(True).score(answer.text, _said(answer))["rougeL"].recall)


@metric(
    "rouge_l_f1",
    **SHARE,
    split=ANSWERS,
    source="MUSE, arXiv 2407.06460",
    certainty="sure",
    differs="they stem words, as for recall; MUSE's own evaluation does not",
)
def rouge_l_f1(answer: Answer, *, stem: bool = False) -> float:
    """ROUGE-L F1 of the greedy continuation against the answer (`rouge-score`), not stemmed."""
    return float(_rouge(stem).score(answer.text, _said(answer))["rougeL"].fmeasure)


def _said(answer: Answer) -> str:
    """The greedy continuation."""
    if answer.generation is None:
        raise NotAvailable("plain text has no question to answer")
    return answer.generation


@functools.cache
def _rouge(stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stem)


@metric(
    "fluency",
    better="higher",
    range=(0, None),
    unit="bits",
    aggregate=mean,
    split=ANSWERS,
    source="RWKU, arXiv 2406.10890, after ROME, arXiv 2202.05262",
    certainty="sure",
)
def fluency(answer: Answer) -> float:
    """(2/3 H_2 + 4/3 H_3) / 2, H_n the entropy in bits of the continuation's n-grams of words: low when it repeats.

    Words as by NLTK's tokenizer, without its splitter of sentences, which needs data to be fetched: a full stop inside
    the text stays with its word. No n-gram has entropy 0.
    """
    words = _words().tokenize(_said(answer))
    return (2 / 3 * _entropy(words, 2) + 4 / 3 * _entropy(words, 3)) / 2


def _entropy(words: list[str], n: int) -> float:
    """Entropy in bits of the n-grams of a text."""
    counts = np.array(list(Counter(zip(*(words[i:] for i in range(n)), strict=False)).values()), dtype=float)
    shares = counts / counts.sum() if len(counts) else counts
    return float(-(shares * np.log2(shares)).sum()) + 0.0


@functools.cache
def _words() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@metric(
    "exact_memorization",
    **SHARE,
    split="any",
    source="open-unlearning",
    certainty="sure",
    differs="they leave the end token out",
)
def exact_memorization(answer: Answer, *, last: bool = True) -> float:
    """Share of answer positions whose argmax is the right token; `last`: the last one, the end token, counts too."""
    return float((_ranks(answer, last) == 0).mean())


@metric(
    "extraction_strength",
    **SHARE,
    split="any",
    source="after open-unlearning",
    certainty="sure",
    differs="they leave the end token out, and the lowest value is 1/T",
)
def extraction_strength(answer: Answer, *, floor: bool = False, last: bool = True) -> float:
    """1 - k/T, k the shortest prefix after which every argmax is right; 0 if the last token is wrong.

    The reference floors at 1/T (`floor`) and leaves the last token, the end token, out (`last` False); this does not.
    """
    ranks = _ranks(answer, last)
    wrong = np.flatnonzero(ranks != 0)
    value = 1.0 if not len(wrong) else 1 - (int(wrong[-1]) + 1) / len(ranks)
    return max(value, 1 / len(ranks)) if floor else value


def _ranks(answer: Answer, last: bool) -> np.ndarray:
    """Ranks of the answer's tokens, with or without the last."""
    ranks = answer.rank if last else answer.rank[:-1]
    if not len(ranks):
        raise NotAvailable("the answer has no token but the last")
    return ranks


@metric(
    "truth_ratio",
    better="see split",
    range=(0, 1),
    unit="",
    aggregate=truth_ratio_of_set,
    split=CHOICES,
    source="open-unlearning",
    certainty="sure",
    differs="they add 1e-10 to the denominators, which shows where the true answer has become improbable",
)
def truth_ratio(answer: Answer, *, tiny: float = 0.0) -> float:
    """R = exp(-mean_j L_wrong_j) / exp(-L_true), L = mean NLL; the true answer is the paraphrase where there is one.

    The set's value is mean min(R, 1/R) on forget (higher: forgotten) and mean max(0, 1 - R) elsewhere (higher: known).
    `tiny` is added to the denominator.
    """
    if answer.true_nll is None or not answer.wrong_nlls:
        raise NotAvailable("needs wrong answers")
    wrong = float(np.mean(answer.wrong_nlls))
    if tiny:
        return math.exp(-wrong) / (math.exp(-answer.true_nll) + tiny)
    return math.exp(min(answer.true_nll - wrong, 700))


@metric(
    "perplexity",
    better="lower",
    range=(1, None),
    unit="",
    aggregate=perplexity_of_set,
    split="any; plain text above all",
    source="standard",
    certainty="sure",
)
def perplexity(answer: Answer) -> float:
    """exp(mean l_t); over a set, the mean runs over all its tokens."""
    return float(np.exp(-answer.logp.mean()))


def aggregate(name: str, values: list[float], lengths: list[int], split: str, reason: str) -> float | Missing:
    """The set's value, or `{"value": None, "reason": why}` where no answer has one."""
    found = [(v, n) for v, n in zip(values, lengths, strict=True) if math.isfinite(v)]
    if not found:
        return missing(reason or "no finite value")
    kept, counts = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    how = metric[name].aggregate
    assert how is not None, name
    return float(how(kept, counts, split))
