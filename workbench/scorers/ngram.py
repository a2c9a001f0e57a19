"""A scorer without a model: trigram tables of the forget set and of the retain set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from workbench.errors import UserError
from workbench.models import LanguageModel, encode
from workbench.scorers.base import TaskContext, scorer
from workbench.tasks import Sample

Trigram = tuple[int, ...]


def trigrams(lm: LanguageModel, sample: Sample) -> list[Trigram]:
    """Each answer token's id after those of the two before it, which may be the question's; -1 where there is none."""
    encoding = encode(lm, sample)
    ids = [-1, -1, *encoding.ids]
    return [tuple(ids[place : place + 3]) for place in encoding.answer_positions]


def table(lm: LanguageModel, samples: Sequence[Sample]) -> dict[Trigram, float]:
    """p(token | the two before it) of every trigram in some answers, by counting; any other trigram has 0."""
    counts = Counter(each for sample in samples for each in trigrams(lm, sample))
    before: Counter[Trigram] = Counter()
    for each, count in counts.items():
        before[each[:2]] += count
    return {each: count / before[each[:2]] for each, count in counts.items()}


@scorer("su_ngram", range=(0, 1), kind="task", needs=("text",), source="after arXiv 2506.00876, by the code of arXiv "
        "2606.06320", certainty="likely")  # fmt: skip
def su_ngram(context: TaskContext, *, k: float = 0.0, window: int = 2) -> list[np.ndarray]:
    """1 where |p_forget - p_retain| > mean + k std of the answer, and on `window` tokens to either side; else 0.

    p is a token's frequency after the two tokens before it, in the answers of the forget and of the retain set. It
    needs no model, only a tokenizer: the control that a learned scorer has to beat. Smoothing was not seen; here an
    unknown trigram has p = 0.

    Args:
        context: the task.
        k: standard deviations above the mean.
        window: tokens marked on either side.
    """
    if window < 0:
        raise UserError(f"su_ngram: window must be at least 0, not {window}")
    if not math.isfinite(k):
        raise UserError(f"su_ngram: k must be finite, not {k}")
    forget, retain = (table(context.lm, samples) for samples in (context.task.forget, context.task.retain))
    return list(_marks(context, forget, retain, k, window))


def _marks(
    context: TaskContext, forget: dict[Trigram, float], retain: dict[Trigram, float], k: float, window: int
) -> Iterator[np.ndarray]:
    for sample in context.task.forget:
        moved = np.array([abs(forget[each] - retain.get(each, 0.0)) for each in trigrams(context.lm, sample)])
        wide = min(window, len(moved))
        chosen = moved > moved.mean() + k * moved.std() + 1e-12
        yield np.convolve(chosen, np.ones(2 * wide + 1))[wide : wide + len(chosen)].clip(max=1)
