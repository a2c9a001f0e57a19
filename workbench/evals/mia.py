"""Membership inference attacks: does a model betray that it was trained on a text? Scores of samples, AUC of two sets.

A higher score says "not a member". The AUC has label 0 for the forget set and 1 for nonmembers, text that the model
never saw: near 1 the forget set is recognised as learned, near 0.5 nothing tells the two apart, and below it the forget
set is conspicuously absent. Notation as in `metrics`: l_t = -log p_t in nats, T answer tokens with the end token.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import NOT_FINITE, NotAvailable
from workbench.evals.ranking import auroc
from workbench.evals.spec import convention_options
from workbench.models import Encoding, LanguageModel, collate, encode, in_sample_order, split, token_stats
from workbench.registry import Registry, Spec
from workbench.scorers import passes
from workbench.tasks import Sample, Task, spread


@dataclass(frozen=True, kw_only=True)
class AttackSpec(Spec):
    """A membership inference attack; `differs` says how it differs from the reference implementation."""

    differs: str = ""


attack = Registry("membership attack", AttackSpec)


@dataclass(frozen=True)
class TextStats:
    """What a model's predictions say of one text: everything that an attack may read.

    Attributes:
        text: the answer, or the plain text.
        decoded: the same from its tokens, so that it has the space that a plain prompt puts before an answer.
        logp: (T,) log-probability of each of its tokens, in nats.
        mean: (T,) mean of the log-probability under the predictive distribution.
        std: (T,) its standard deviation there.
        reference_nll: mean l_t under the reference model; None without one.
        gradient_norms: include_eos -> L2 norm of the gradient of mean l_t by parameter tensor.
    """

    text: str
    decoded: str
    logp: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    reference_nll: float | None = None
    gradient_norms: Callable[[bool], np.ndarray] = lambda include_eos: np.empty(0)


@attack("mia_loss", source="open-unlearning", certainty="sure")
def mia_loss(stats: TextStats) -> float:
    """Mean l_t."""
    return float(-stats.logp.mean())


@attack(
    "mia_zlib",
    source="Carlini et al. 2021, open-unlearning",
    certainty="sure",
    differs="they compress the decoded tokens, which after a plain prompt begin with a space",
)
def mia_zlib(stats: TextStats, *, decoded: bool = False) -> float:
    """Mean l_t over the bytes of the zlib-compressed text; with `decoded` the text is that of its tokens."""
    text = stats.decoded if decoded else stats.text
    return mia_loss(stats) / len(zlib.compress(text.encode(errors="surrogatepass")))


@attack(
    "mia_min_k", source="arXiv 2310.16789, open-unlearning", certainty="sure", differs="they leave the end token out"
)
def mia_min_k(stats: TextStats, *, k: float = 0.4, include_eos: bool = True) -> float:
    """Mean l_t of the share k of tokens that are least probable; with `include_eos` the end token counts too."""
    return -_lowest(stats.logp, k, include_eos)


@attack(
    "mia_min_k_pp", source="arXiv 2404.02936, open-unlearning", certainty="sure", differs="they leave the end token out"
)
def mia_min_k_pp(stats: TextStats, *, k: float = 0.4, include_eos: bool = True) -> float:
    """-mean of (log p_t - mean) / std over the share k of lowest; mean and std of log p under the prediction.

    A std below 0.001 counts as 0.001.
    """
    return -_lowest((stats.logp - stats.mean) / np.maximum(stats.std, 1e-3), k, include_eos)


def _lowest(values: np.ndarray, k: float, include_eos: bool) -> float:
    """Mean of the share k of lowest values, one at least; NaN where one of them is."""
    values = values if include_eos or len(values) == 1 else values[:-1]
    lowest = np.sort(values)[: max(1, int(len(values) * k))]
    return float(lowest.mean()) if np.isfinite(values).all() else math.nan  # sorting puts NaN last, out of sight


@attack("mia_reference", source="open-unlearning", certainty="sure", needs=("reference",))
def mia_reference(stats: TextStats) -> float:
    """Mean l_t less mean l_t of a reference model that did not learn the text."""
    if stats.reference_nll is None:
        raise NotAvailable("needs a reference model")
    return mia_loss(stats) - stats.reference_nll


@attack(
    "mia_gradnorm",
    source="arXiv 2402.17012, open-unlearning",
    certainty="sure",
    needs=("gradient",),
    differs="their score is the mean of the norms of the parameter tensors, and they leave the end token out",
)
def mia_gradnorm(stats: TextStats, *, include_eos: bool = True, total: bool = True) -> float:
    """L2 norm of the gradient of mean l_t with respect to all parameters; a backward pass a sample.

    Without `total` it is the mean of the parameter tensors' norms.
    """
    norms = stats.gradient_norms(include_eos)
    return float(np.sqrt((norms**2).sum())) if total else float(norms.mean())


def members(task: Task) -> list[Sample]:
    """The forget texts that are compared with nonmembers: a benchmark's own choice of them, else the forget set."""
    return task.sets.get("privleak_forget") or task.forget


def nonmembers(task: Task) -> list[Sample]:
    """Text of the same kind that the model has not seen: `nonmembers`, else `unlabelled`; NotAvailable for neither."""
    samples = task.sets.get("nonmembers") or task.sets.get("unlabelled")
    if not samples:
        raise NotAvailable("needs nonmember text")
    return samples


def membership_scores(
    lm: LanguageModel,
    samples: list[Sample],
    names: list[str] | None = None,
    *,
    reference: LanguageModel | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    convention: str = "ours",
) -> pd.DataFrame:
    """The scores of attacks, one row a sample: `sample_id` and a column an attack. The model is unchanged.

    By default of all attacks that are available; `mia_reference` needs a reference model that did not learn the texts.
    With a `limit` of so many samples at most, spread evenly. The convention "open-unlearning" gives that framework's
    values (the attacks' `differs`).

    Raises:
        NotAvailable: an attack in `names` needs a reference model, and there is none.
    """
    if names is None:
        names = [n for n in attack if reference is not None or "reference" not in attack[n].needs]
    samples = spread(samples, limit)
    stats = _text_stats(lm, [encode(lm, s) for s in samples], batch_size)
    if reference is not None and "mia_reference" in names:
        others = _text_stats(reference, [encode(reference, s) for s in samples], batch_size)
        stats = [replace(own, reference_nll=mia_loss(other)) for own, other in zip(stats, others, strict=True)]
    table: dict[str, list[Any]] = {"sample_id": [s.id for s in samples]}
    for name in names:
        options = convention_options(convention, name)
        table[name] = [attack[name].function(each, **options) for each in stats]
    return pd.DataFrame(table)


@torch.no_grad()
def _text_stats(lm: LanguageModel, encodings: list[Encoding], batch_size: int) -> list[TextStats]:
    parts = []
    for indices, batch, stats in passes(lm, encodings, batch_size, extras=False, deviation=True):
        assert stats.entropy is not None
        assert stats.deviation is not None
        each = [split(values, stats) for values in (stats.logp, -stats.entropy, stats.deviation)]
        own = []
        for encoding, logp, expected, deviation in zip(batch.encodings, *each, strict=True):
            ids = [encoding.ids[p] for p in encoding.answer_positions]
            texts = encoding.sample.answer, lm.tokenizer.decode(ids, skip_special_tokens=True)
            norms = functools.partial(gradient_norms, lm, encoding)
            own.append(TextStats(*texts, logp, expected, deviation, gradient_norms=norms))
        parts.append((indices, own))
    return in_sample_order(parts)


@torch.enable_grad()
def gradient_norms(lm: LanguageModel, encoding: Encoding, include_eos: bool = True) -> np.ndarray:
    """L2 norm of the gradient of mean l_t for each parameter tensor that the answer depends on."""
    parameters = list(lm.module.parameters())
    trainable = [p.requires_grad for p in parameters]
    lm.module.requires_grad_(True)
    try:
        nll = token_stats(lm, collate(lm, [encoding]), extras=False, recompute=True).nll
        loss = nll.mean() if include_eos or len(nll) == 1 else nll[:-1].mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for parameter, before in zip(parameters, trainable, strict=True):
            parameter.requires_grad_(before)
    return np.array([float(g.double().norm()) for g in gradients if g is not None])


def auc(forget: pd.Series | np.ndarray, unseen: pd.Series | np.ndarray) -> float:
    """Area under the ROC curve of scores that should be higher for nonmembers: label forget 0, nonmembers 1.

    Raises:
        NotAvailable: all scores are equal, or one is not finite.
    """
    values = np.concatenate([np.asarray(forget, dtype=float), np.asarray(unseen, dtype=float)])
    if not np.isfinite(values).all():
        raise NotAvailable(f"a score is not finite: {NOT_FINITE}")
    if (values == values[0]).all():
        raise NotAvailable("all scores are equal")
    return auroc(np.arange(len(values)) >= len(forget), values)
