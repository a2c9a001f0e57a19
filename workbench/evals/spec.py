"""What a metric is: its spec, the answer that it is taken of, how values make one number, and the conventions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.errors import NOT_FINITE, Missing, NotAvailable, check_known, missing
from workbench.registry import Registry, Spec

ASSESSED = "arXiv 2605.24614"  # the meta-evaluation of 150 models by the authors of UDS
# Faithfulness: AUC of telling models that had the knowledge from those that had not. Robustness: how little the number
# moves under quantisation and relearning. 1 is best; None where it is not there.
NOT_ASSESSED = "not assessed"
TRUST_SHORT = f"Trust: faithfulness / robustness as a measure of forgetting, 1 is best ({ASSESSED})"
TRUST: dict[str, tuple[float, float | None]] = {
    "uds": (0.971, 0.932),
    "truth_ratio": (0.947, 0.379),
    "mia_min_k": (0.907, None),
    "extraction_strength": (0.891, 0.859),
    "exact_memorization": (0.817, 0.750),
    "probability": (0.816, 0.757),
    "rouge_l_recall": (0.722, 0.333),
}


def trust_values(name: str) -> dict[str, Any] | Missing:
    """The two numbers of a metric or an attack and their `source`; a missing value where it was not assessed there."""
    if name not in TRUST:
        return missing(f"not assessed in {ASSESSED}")
    faithfulness, robustness = TRUST[name]
    other = missing(f"not assessed in {ASSESSED}") if robustness is None else robustness
    return {"faithfulness": faithfulness, "robustness": other, "source": ASSESSED}


def trust_of(name: str) -> str:
    """How far a metric or an attack was found to be believed, with the source; else that it was not assessed there."""
    if name not in TRUST:
        return f"not assessed in {ASSESSED}"
    faithfulness, robustness = TRUST[name]
    robust = NOT_ASSESSED if robustness is None else f"{robustness:.3f}"
    return f"faithfulness {faithfulness:.3f}, robustness {robust} ({ASSESSED})"


def trust_in_short(name: str) -> str:
    """Faithfulness / robustness of a metric or an attack, for a column; else that it was not assessed."""
    if name not in TRUST:
        return NOT_ASSESSED
    return " / ".join(NOT_ASSESSED if value is None else f"{value:.3f}" for value in TRUST[name])


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric of answers, or a summary of whole sets.

    Attributes:
        split: the probe sets that it is taken on.
        better: which way is better; "see split" where that depends on the set.
        range: least and greatest value; None where there is no bound.
        unit: such as "nats"; "" for a share.
        aggregate: values (n,), token counts (n,) and the probe set -> the set's value; None for a summary.
        differs: how it differs from the reference implementation, open-unlearning.
    """

    split: str
    better: Literal["higher", "lower", "near 0", "near 0.5", "see split"] = "higher"
    range: tuple[float | None, float | None] = (0, 1)
    unit: str = ""
    aggregate: Callable[[np.ndarray, np.ndarray, str], float] | None = None
    differs: str = ""

    @property
    def trust(self) -> str:
        """How far it was found to be believed as a measure of forgetting."""
        return trust_of(self.name)


metric = Registry("metric", MetricSpec)

# Keyword options of metrics and of membership attacks that a convention sets.
CONVENTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "ours": {},
    "open-unlearning": {
        "exact_memorization": {"include_eos": False},
        "extraction_strength": {"include_eos": False, "floor": True},
        "probability_with_options": {"eps": 1e-10},
        "rouge_l_recall": {"ascii": True},
        "rouge_l_f1": {"stem": True, "ascii": True},
        "fluency": {"characters": False},
        "truth_ratio": {"eps": 1e-10},
        "mia_zlib": {"decoded": True},
        "mia_min_k": {"include_eos": False},
        "mia_min_k_pp": {"include_eos": False},
        "mia_gradnorm": {"include_eos": False, "total": False},
    },
}


def convention_options(convention: str, name: str = "") -> dict[str, Any]:
    """Options of a metric or an attack under a convention; UserError for an unknown one."""
    check_known("convention", convention, CONVENTIONS)
    return CONVENTIONS[convention].get(name, {})


@dataclass(frozen=True)
class Answer:
    """One probed answer: everything that a metric may read.

    Attributes:
        logp: (T,) log-probability of each answer token, teacher-forced, in nats.
        rank: (T,) how many tokens are more probable than the right one; 0 is the argmax, -1 where that is not known.
        text: the reference answer.
        values: the texts of its labelled spans; None without labels.
        generation: greedy continuation of the question; None for plain text, and where it was `lost`.
        true_nll: mean NLL of the paraphrased (else the original) answer; None where no wrong answers exist.
        wrong_nlls: mean NLL of each wrong answer.
        lost: whether the continuation was lost to logits that are not finite.
    """

    logp: np.ndarray
    rank: np.ndarray
    text: str
    values: tuple[str, ...] | None
    generation: str | None
    true_nll: float | None = None
    wrong_nlls: tuple[float, ...] = ()
    lost: bool = False

    @property
    def broken(self) -> bool:
        """Whether one of the model's numbers is not finite, so that whatever is made of them would mislead."""
        nlls = [self.true_nll or 0.0, *self.wrong_nlls]
        return self.lost or not (np.isfinite(self.logp).all() and np.isfinite(nlls).all())

    def check(self) -> None:
        """Raise NotAvailable where the answer is broken."""
        if self.broken:
            raise NotAvailable(NOT_FINITE)


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


def aggregate(name: str, values: list[float], lengths: list[int], split: str, reason: str) -> float | Missing:
    """A metric's value over a set, of those answers that have one (not NaN); a missing value with a reason else."""
    known = [(value, length) for value, length in zip(values, lengths, strict=True) if not math.isnan(value)]
    if not known:
        return missing(reason or "no answer has a value")
    numbers, counts = np.array(list(zip(*known, strict=True)), dtype=float)
    over_set = metric[name].aggregate
    assert over_set is not None, name
    value = float(over_set(numbers, counts, split))
    return value if math.isfinite(value) else missing("the value is too large for a number")
