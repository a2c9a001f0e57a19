"""Which tokens of a sample enter the loss, where not all do, and which positions those hang on."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import ANSWER, PROMPT, Encoding, processes
from workbench.objectives import ObjectiveSpec
from workbench.registry import Spec
from workbench.unlearning.batches import BatchSampler
from workbench.unlearning.settings import Settings
from workbench.unlearning.weights import Weights

# Why an objective needs all tokens of an answer, by what it `needs`.
WHOLE = {"states": "steers states", "refusal": "counts an answer's tokens", "rest": "trains tokens of weight 0 too"}


def largest(values: Tensor, share: float) -> Tensor:
    """(T,) mask of the largest `share` of values, at least one; of equal ones the first."""
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[values.sort(descending=True, stable=True).indices[: max(1, math.ceil(share * len(values) - 1e-9))]] = True
    return mask


def by_weight(weights: Tensor, share: float, least: float) -> Tensor:
    """(T,) mask of a sample's tokens of the largest weight, or of all with at least the `least`, if that is above 0."""
    if not least:
        return largest(weights, share)
    return (weights >= least) | largest(weights, 1e-9)  # never none


def shared_names(encoding: Encoding) -> list[int]:
    """Positions of the names that question and answer share, which an answer's facts hang on.

    A name is a word with a first letter that is not a small one (a number too); where no shared word is one, all
    shared words count.
    """
    texts = {PROMPT: encoding.sample.question, ANSWER: encoding.sample.answer}
    words = {segment: list(re.finditer(r"\w+", text)) for segment, text in texts.items()}
    shared = set.intersection(*({word.group() for word in each} for each in words.values()))
    names = {word for word in shared if not word[0].islower()} or shared
    spans = {segment: [w.span() for w in each if w.group() in names] for segment, each in words.items()}
    return [
        place
        for place, (segment, (start, end)) in enumerate(zip(encoding.segments, encoding.ranges, strict=True))
        if any(start < stop and begin < end for begin, stop in spans.get(segment, ()))
    ]


def check_share(entry: ObjectiveSpec, weights: str, fixed: bool, settings: Settings) -> None:
    """Raise where sparse steps on the forget set do not go with the objective, the weights or other settings."""
    if not settings.sparse_forget:
        return
    for need in sorted(set(entry.needs) & set(WHOLE)):
        raise UserError(f"share is for objectives over single tokens, and '{entry.name}' {WHOLE[need]}; use share=1")
    if not fixed:  # such a scorer reads the states of all answer tokens
        raise UserError(f"share needs weights that are fixed before the run, and '{weights}' learns along; use 1")
    if settings.share < 1 and settings.least_weight:
        raise UserError("share and least_weight both choose the forget tokens; set one, and leave the other out")
    if settings.share_by == "random" and (settings.skip or settings.least_weight):
        raise UserError("share_by=random goes with share alone; use skip=0 and least_weight=0")


def check_retain_share(entry: Spec, settings: Settings) -> None:
    """Raise where sparse steps on the retain set do not go with the retain loss."""
    if settings.retain_share < 1 and "states" in entry.needs:
        raise UserError(
            f"retain_share is for losses over single tokens, and '{entry.name}' keeps states; retain_share=1"
        )


def chosen_for_the_run(weights: Weights, settings: Settings) -> list[Tensor] | None:
    """For each forget sample its tokens that enter the loss; None where all do, or where they are drawn."""
    if not settings.sparse_forget or settings.share_by == "random" or weights.fixed is None:
        return None
    return [by_weight(own, settings.share, settings.least_weight) for own in weights.fixed]


def cut_prefixes(entry: ObjectiveSpec, weights: Weights, batches: BatchSampler) -> None:
    """Leave out what comes after a sample's last token with a weight: it changes no loss and no gradient."""
    if weights.fixed is None or processes().world > 1 or set(entry.needs) & set(WHOLE):
        return
    lasts = [int(own.nonzero().max()) if bool(own.any()) else 0 for own in weights.fixed]
    masks = [torch.arange(len(own)) <= last for own, last in zip(weights.fixed, lasts, strict=True)]
    if not all(bool(mask.all()) for mask in masks):
        batches.token_mask = masks.__getitem__
