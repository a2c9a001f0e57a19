"""Metrics: a value for one answer, how values make one number, and what direction is better.

Per-answer functions see numbers and text, never a model. Notation: l_t = -log p_t in nats, T answer tokens,
the end token included.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.registry import NotAvailable, Registry

metric = Registry("metric")


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
    return float((np.minimum(values, 1 / values) if split == "forget" else np.maximum(0, 1 - values)).mean())


@metric("fact_accuracy", better="higher", range=(0, 1), unit="share of answers", aggregate=mean, source="ours")
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


@metric("probability", better="higher", range=(0, 1), unit="", aggregate=mean, source="open-unlearning; sure")
def probability(answer: Answer) -> float:
    """exp(-mean l_t): the geometric mean probability of the answer's tokens."""
    return float(np.exp(answer.logp.mean()))


@metric("rouge_l_recall", better="higher", range=(0, 1), unit="", aggregate=mean, source="open-unlearning; sure")
def rouge_l_recall(answer: Answer) -> float:
    """ROUGE-L recall of the greedy continuation against the answer, stemmed (`rouge-score`)."""
    if answer.generation is None:
        raise NotAvailable("plain text has no question to answer")
    return float(_rouge().score(answer.text, answer.generation)["rougeL"].recall)


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


@metric("exact_memorization", better="higher", range=(0, 1), unit="", aggregate=mean, source="open-unlearning; sure")
def exact_memorization(answer: Answer) -> float:
    """Share of answer positions whose argmax is the right token."""
    return float((answer.rank == 0).mean())


@metric("extraction_strength", better="higher", range=(0, 1), unit="", aggregate=mean, source="after open-unlearning")
def extraction_strength(answer: Answer) -> float:
    """1 - k/T, k the shortest prefix after which every argmax is right; 0 if the last token is wrong.

    The reference framework floors at 1/T; this does not.
    """
    wrong = np.flatnonzero(answer.rank != 0)
    return 1.0 if not len(wrong) else 1 - (int(wrong[-1]) + 1) / len(answer.rank)


@metric(
    "truth_ratio",
    better="see split",
    range=(0, 1),
    unit="",
    aggregate=truth_ratio_of_set,
    source="open-unlearning; sure",
)
def truth_ratio(answer: Answer) -> float:
    """R = exp(-mean_j L_wrong_j) / exp(-L_true), L = mean NLL; the true answer is the paraphrase where there is one.

    The set's value is mean min(R, 1/R) on forget (higher: forgotten) and mean max(0, 1 - R) elsewhere (higher: known).
    """
    if answer.true_nll is None or not answer.wrong_nlls:
        raise NotAvailable("needs wrong answers")
    return math.exp(answer.true_nll - float(np.mean(answer.wrong_nlls)))


@metric("perplexity", better="lower", range=(1, None), unit="", aggregate=perplexity_of_set, source="standard; sure")
def perplexity(answer: Answer) -> float:
    """exp(mean l_t); over a set, the mean runs over all its tokens."""
    return float(np.exp(-answer.logp.mean()))


def aggregate(name: str, values: list[float], lengths: list[int], split: str, reason: str) -> float | dict[str, Any]:
    """The set's value, or `{"value": None, "reason": why}` where no answer has one."""
    found = [(v, n) for v, n in zip(values, lengths, strict=True) if math.isfinite(v)]
    if not found:
        return {"value": None, "reason": reason or "no finite value"}
    kept, counts = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    return float(metric[name].facts["aggregate"](kept, counts, split))
