"""What a model answers and how sure it is: teacher-forced passes, generations, and the likelihood of wrong answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.cost import Phase
from workbench.errors import NOT_FINITE, NotAvailable
from workbench.evals.generation import PLAIN, Continuation, greedy
from workbench.evals.metrics import metric
from workbench.evals.spec import Answer, convention_options
from workbench.models import (
    Encoding,
    LanguageModel,
    TokenStats,
    batches,
    count_forward,
    encode,
    in_sample_order,
    long_stats,
    split,
    token_columns,
)
from workbench.progress import Progress, silent
from workbench.scorers import passes
from workbench.tasks import Sample


def answers_of(
    lm: LanguageModel,
    samples: list[Sample],
    how: Continuation = PLAIN,
    *,
    batch_size: int = 64,
    cost: Phase | None = None,
    progress: Progress = silent,
    what: str = "generate",
) -> tuple[list[Answer], pd.DataFrame]:
    """What a model answers to samples, for the metrics, and the token table; progress is `greedy`'s."""
    cost = cost or Phase()
    encodings = [encode(lm, s) for s in samples]
    logps, ranks, token_rows = _teacher_forced(lm, encodings, batch_size, cost)
    longest = how.tokens or max(len(e.answer_positions) for e in encodings) + 4
    generations = greedy(lm, samples, batch_size, longest, stops=how.stops, cost=cost, progress=progress, what=what)
    choices = choice_nlls(lm, samples, batch_size, cost)
    answers = []
    for encoding, logp, rank, generation, nlls in zip(encodings, logps, ranks, generations, choices, strict=True):
        sample = encoding.sample
        values = None if sample.spans is None else sample.values
        text = _cut(encoding, how.tokens) if how.cut_answer and how.tokens else sample.answer
        lost = generation is None and bool(sample.question)
        answers.append(Answer(logp, rank, text, values, generation, *nlls, lost=lost))
    return answers, token_rows


def _cut(encoding: Encoding, count: int) -> str:
    """The first tokens of an answer, as text."""
    last = encoding.answer_positions[:count][-1]
    return encoding.sample.answer[: encoding.ranges[last][1]]


def choice_nlls(
    lm: LanguageModel, samples: list[Sample], batch_size: int = 64, cost: Phase | None = None
) -> list[tuple[float | None, tuple[float, ...]]]:
    """For each sample the mean NLL of its paraphrased (else its) answer and of its wrong answers; None without any."""
    alternatives = [
        replace(s, answer=text)
        for s in samples
        for text in ((s.paraphrased_answer or s.answer, *s.wrong_answers) if s.wrong_answers else ())
    ]
    with torch.no_grad():
        parts = passes(lm, alternatives, batch_size, cost, extras=False)
        nlls = iter(in_sample_order((i, stats.sample_mean(stats.nll).tolist()) for i, _, stats in parts))
    return [(next(nlls) if s.wrong_answers else None, tuple(next(nlls) for _ in s.wrong_answers)) for s in samples]


def truth_ratios(
    lm: LanguageModel, samples: list[Sample], *, batch_size: int = 64, convention: str = "ours"
) -> dict[str, float]:
    """R of every sample that has wrong answers, by its id; NotAvailable where one is not finite."""
    ratio, nothing = metric["truth_ratio"].function, np.zeros(1)
    options = convention_options(convention, "truth_ratio")
    samples = [s for s in samples if s.wrong_answers]
    ratios = {
        s.id: ratio(Answer(nothing, nothing, s.answer, None, None, *nlls), **options)
        for s, nlls in zip(samples, choice_nlls(lm, samples, batch_size), strict=True)
    }
    if not np.isfinite(list(ratios.values())).all():
        raise NotAvailable(f"{NOT_FINITE} ({lm.name})")
    return ratios


def token_table(
    lm: LanguageModel, samples: list[Sample], batch_size: int = 64, cost: Phase | None = None
) -> pd.DataFrame:
    """The token table of the samples' own answers, of any length, without `run`, `phase` and `probe_set`."""
    return _teacher_forced(lm, [encode(lm, s, any_length=True) for s in samples], batch_size, cost or Phase())[2]


@torch.no_grad()
def _teacher_forced(
    lm: LanguageModel, encodings: list[Encoding], batch_size: int, cost: Phase
) -> tuple[list[np.ndarray], list[np.ndarray], pd.DataFrame]:
    """Log-probability and rank of every answer token, and the token table with the five most probable tokens."""
    parts: list[tuple[list[int], Iterable[Any]]] = []
    for indices, batch in batches(lm, encodings, batch_size):
        stats = long_stats(lm, batch, lambda part: count_forward(cost, lm, part), top_k=5)
        assert stats.entropy is not None
        assert stats.rank is not None
        words = iter(alternatives_of(lm, stats))
        tops = [list(islice(words, count)) for count in stats.counts.tolist()]
        numbers = (split(values, stats) for values in (stats.logp, stats.rank, stats.entropy))
        parts.append((indices, zip(*numbers, tops, strict=True)))
    logps, ranks, entropies, alternatives = zip(*in_sample_order(parts), strict=True)
    columns = {"logp": np.concatenate(logps), "rank": np.concatenate(ranks), "entropy": np.concatenate(entropies)}
    table = pd.DataFrame(token_columns(encodings, unpredicted=False)).assign(**columns).astype({"rank": "int64"})
    return list(logps), list(ranks), table.assign(alternatives=list(chain.from_iterable(alternatives)))


def alternatives_of(lm: LanguageModel, stats: TokenStats) -> list[str]:
    """For each token, JSON `[[text, probability], ...]` of the most probable tokens; none where that is not known."""
    assert stats.top_ids is not None
    assert stats.top_logp is not None
    ids, inverse = torch.unique(stats.top_ids, return_inverse=True)
    names = [lm.tokenizer.decode([i]) for i in ids.tolist()]
    return [
        json.dumps(
            [[names[i], round(p, 4)] for i, p in zip(row, probabilities, strict=True) if p == p], ensure_ascii=False
        )
        for row, probabilities in zip(inverse.tolist(), stats.top_logp.exp().tolist(), strict=True)
    ]
