"""What a model answers and how sure it is: teacher-forced passes, generations, and the likelihood of wrong answers."""

from __future__ import annotations

import json
from dataclasses import replace

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
    long_stats,
    split,
    token_columns,
    token_stats,
)
from workbench.progress import Progress, silent
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
    nlls = iter(_mean_nlls(lm, [encode(lm, s) for s in alternatives], batch_size, cost or Phase()))
    return [(next(nlls) if s.wrong_answers else None, tuple(next(nlls) for _ in s.wrong_answers)) for s in samples]


def truth_ratios(
    lm: LanguageModel, samples: list[Sample], *, batch_size: int = 64, convention: str = "ours"
) -> dict[str, float]:
    """R of every sample that has wrong answers, by the sample's id.

    Raises:
        NotAvailable: one is not finite, since the model's logits are not.
    """
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
    names = ("logp", "rank", "entropy")
    values: dict[str, list[np.ndarray]] = {name: [np.empty(0)] * len(encodings) for name in names}
    tops: list[list[str]] = [[]] * len(encodings)
    for indices, batch in batches(lm, encodings, batch_size):
        stats = long_stats(lm, batch, lambda part: count_forward(cost, lm, part), top_k=5)
        assert stats.entropy is not None
        assert stats.rank is not None
        for name, tensor in zip(names, (stats.logp, stats.rank, stats.entropy), strict=True):
            for index, part in zip(indices, split(tensor, stats), strict=True):
                values[name][index] = part
        words = alternatives_of(lm, stats)
        ends = np.cumsum(stats.counts.cpu().numpy())
        for index, end, count in zip(indices, ends, stats.counts.tolist(), strict=True):
            tops[index] = words[end - count : end]
    table = pd.DataFrame(token_columns(encodings, unpredicted=False))
    table = table.assign(**{name: np.concatenate(parts) for name, parts in values.items()})
    table["rank"] = table["rank"].astype("int64")
    table["alternatives"] = [word for words in tops for word in words]
    return values["logp"], values["rank"], table


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


@torch.no_grad()
def _mean_nlls(lm: LanguageModel, encodings: list[Encoding], batch_size: int, cost: Phase) -> list[float]:
    nlls = [0.0] * len(encodings)
    for indices, batch in batches(lm, encodings, batch_size):
        stats = token_stats(lm, batch, extras=False)
        count_forward(cost, lm, batch)
        for index, value in zip(indices, stats.sample_mean(stats.nll).tolist(), strict=True):
            nlls[index] = value
    return nlls
