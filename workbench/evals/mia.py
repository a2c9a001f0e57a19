"""Membership attacks: does a model betray that it was trained on a text? Scores by sample, and the AUC of two sets.

A higher score says "not a member". The AUC has label 0 for the forget set and 1 for text that the model never saw:
near 1 the forget set is recognised as learned, near 0.5 nothing tells the two apart, and below it is conspicuously
absent. Notation as of `metrics`: l_t = -log p_t in nats, T answer tokens with the end token.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import NotAvailable
from workbench.evals.metrics import convention_options
from workbench.models import Encoding, LanguageModel, batches, collate, encode, split, token_stats
from workbench.registry import Registry, Spec
from workbench.tasks import Sample, Task, spread


@dataclass(frozen=True, kw_only=True)
class AttackSpec(Spec):
    """A membership inference attack; `differs` says how from the reference implementation."""

    differs: str = ""


attack = Registry("attack", AttackSpec)


@dataclass(frozen=True)
class Reading:
    """One text as a model reads it.

    Attributes:
        text: the answer, or the plain text.
        logp: (T,) log-probability of each of its tokens, in nats.
        mean: (T,) mean of the log-probability under the predictive distribution.
        std: (T,) its standard deviation there.
        reference_nll: mean l_t under the reference model; None without one.
        norms: last -> L2 norm of the gradient of mean l_t by parameter tensor, with or without the last token.
    """

    text: str
    logp: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    reference_nll: float | None = None
    norms: Callable[[bool], np.ndarray] = lambda last: np.empty(0)


@attack("mia_loss", source="open-unlearning", certainty="sure")
def mia_loss(reading: Reading) -> float:
    """Mean l_t."""
    return float(-reading.logp.mean())


@attack("mia_zlib", source="Carlini et al. 2021, open-unlearning", certainty="sure")
def mia_zlib(reading: Reading) -> float:
    """Mean l_t over the bytes of the zlib-compressed text."""
    return mia_loss(reading) / len(zlib.compress(reading.text.encode()))


@attack(
    "mia_min_k", source="arXiv 2310.16789, open-unlearning", certainty="sure", differs="they leave the end token out"
)
def mia_min_k(reading: Reading, *, k: float = 0.4, last: bool = True) -> float:
    """Mean l_t of the share k of tokens that are least probable; `last`: the last token, the end token, counts too."""
    return -_lowest(reading.logp, k, last)


@attack(
    "mia_min_k_pp", source="arXiv 2404.02936, open-unlearning", certainty="sure", differs="they leave the end token out"
)
def mia_min_k_pp(reading: Reading, *, k: float = 0.4, last: bool = True) -> float:
    """-mean of (log p_t - mean) / std over the share k of lowest; mean and std of log p under the prediction.

    A std below 0.001 counts as 0.001.
    """
    return -_lowest((reading.logp - reading.mean) / np.maximum(reading.std, 1e-3), k, last)


def _lowest(values: np.ndarray, k: float, last: bool) -> float:
    """Mean of the share k of lowest values, one at least."""
    values = values if last or len(values) == 1 else values[:-1]
    return float(np.sort(values)[: max(1, int(len(values) * k))].mean())


@attack("mia_reference", source="open-unlearning", certainty="sure", needs=("reference",))
def mia_reference(reading: Reading) -> float:
    """Mean l_t less mean l_t of a reference model that did not learn the text."""
    if reading.reference_nll is None:
        raise NotAvailable("needs a reference model")
    return mia_loss(reading) - reading.reference_nll


@attack(
    "mia_gradnorm",
    source="arXiv 2402.17012, open-unlearning",
    certainty="sure",
    needs=("gradient",),
    differs="their score is minus the mean of the norms of the parameter tensors, so that their AUC is near 1 - ours, "
    "and they leave the end token out",
)
def mia_gradnorm(reading: Reading, *, last: bool = True, total: bool = True) -> float:
    """L2 norm of the gradient of mean l_t with respect to all parameters; a backward pass a sample."""
    norms = reading.norms(last)
    return float(np.sqrt((norms**2).sum())) if total else -float(norms.mean())


def members(task: Task) -> list[Sample]:
    """The forget texts that are told from others: a benchmark's own choice of them, else the forget set."""
    return task.sets.get("privleak_forget") or task.forget


def nonmembers(task: Task) -> list[Sample]:
    """Text of the same kind that the model was not trained on: the `nonmembers` set, else `unlabelled`.

    Raises:
        NotAvailable: there is neither.
    """
    found = task.sets.get("nonmembers") or task.sets.get("unlabelled")
    if not found:
        raise NotAvailable("needs nonmember text")
    return found


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
    """The scores of attacks, one row a sample: `sample_id` and a column an attack.

    Args:
        lm: the model; unchanged.
        samples: texts.
        names: attacks by name; by default all that can be had.
        reference: a model that did not learn the texts, for `mia_reference`.
        limit: at most so many samples, spread evenly.
        batch_size: samples a forward pass.
        convention: "ours", or "open-unlearning" for that framework's values (the attacks' `differs`).

    Raises:
        NotAvailable: an attack was asked for by name that needs a reference model, and there is none.
    """
    if names is None:
        names = [n for n in attack if reference is not None or "reference" not in attack[n].needs]
    chosen = spread(samples, limit)
    encodings = [encode(lm, s) for s in chosen]
    readings = _read(lm, encodings, batch_size)
    if reference is not None and "mia_reference" in names:
        others = _read(reference, [encode(reference, s) for s in chosen], batch_size)
        nlls = [float(-other.logp.mean()) for other in others]
        readings = [replace(r, reference_nll=nll) for r, nll in zip(readings, nlls, strict=True)]
    table: dict[str, list[Any]] = {"sample_id": [s.id for s in chosen]}
    for name in names:
        options = convention_options(convention, name)
        table[name] = [attack[name].function(reading, **options) for reading in readings]
    return pd.DataFrame(table)


@torch.no_grad()
def _read(lm: LanguageModel, encodings: list[Encoding], batch_size: int) -> list[Reading]:
    found: dict[int, Reading] = {}
    for indices, batch in batches(lm, encodings, batch_size):
        stats = token_stats(lm, batch, extras=False, logits=True)
        assert stats.logits is not None
        log_all = stats.logits.log_softmax(-1)
        chance = log_all.exp()
        mean = (chance * log_all).sum(-1)
        std = (chance * (log_all - mean[:, None]) ** 2).sum(-1).sqrt()
        parts = zip(*(split(values, stats) for values in (stats.logp, mean, std)), strict=True)
        for index, (logp, expected, spread_) in zip(indices, parts, strict=True):
            norms = functools.partial(gradient_norms, lm, encodings[index])
            found[index] = Reading(encodings[index].sample.answer, logp, expected, spread_, norms=norms)
    return [found[i] for i in range(len(encodings))]


@torch.enable_grad()
def gradient_norms(lm: LanguageModel, encoding: Encoding, last: bool = True) -> np.ndarray:
    """L2 norm of the gradient of mean l_t for each parameter tensor that the answer depends on."""
    parameters = list(lm.module.parameters())
    asked = [p.requires_grad for p in parameters]
    lm.module.requires_grad_(True)
    try:
        nll = token_stats(lm, collate(lm, [encoding]), extras=False).nll
        loss = nll.mean() if last or len(nll) == 1 else nll[:-1].mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for parameter, before in zip(parameters, asked, strict=True):
            parameter.requires_grad_(before)
    return np.array([float(g.double().norm()) for g in found if g is not None])


def auc(forget: pd.Series | np.ndarray, unseen: pd.Series | np.ndarray) -> float:
    """Area under the ROC curve of scores that are to be higher for unseen text: label forget 0, unseen 1.

    Raises:
        NotAvailable: all scores are equal, or one is not finite.
    """
    from sklearn.metrics import roc_auc_score

    values = np.concatenate([np.asarray(forget, dtype=float), np.asarray(unseen, dtype=float)])
    if not np.isfinite(values).all():
        raise NotAvailable("a score is not finite")
    if (values == values[0]).all():
        raise NotAvailable("all scores are equal")
    return float(roc_auc_score([0] * len(forget) + [1] * len(unseen), values))
