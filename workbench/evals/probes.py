"""Passes over probe sets: what the model answers, how sure it is, and every metric, one row an answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import NotAvailable
from workbench.evals.metrics import Answer, aggregate, convention_options, metric
from workbench.models import (
    Encoding,
    LanguageModel,
    batches,
    count_forward,
    count_generation,
    encode,
    split,
    token_columns,
    token_stats,
)
from workbench.tasks import PROBE_SETS, Sample, Task, spread


@dataclass(frozen=True)
class Continuation:
    """How the greedy continuations of a probe set are made.

    Attributes:
        tokens: so many new tokens at most; None: the set's longest answer and 4 more.
        stops: strings at whose first occurrence a continuation is cut.
        cut_answer: whether only the answer's first `tokens` tokens are compared with.
    """

    tokens: int | None = None
    stops: tuple[str, ...] = ()
    cut_answer: bool = False


_MUSE_QUESTIONS = Continuation(32, ("\n\n", "\nQuestion", "Question:"))  # few-shot: what follows is the next question
_RWKU = Continuation(30)
CONTINUATIONS = {
    "verbmem": Continuation(128, cut_answer=True),  # as MUSE's own evaluation; knowmem too
    "knowmem": _MUSE_QUESTIONS,
    "retain_knowmem": _MUSE_QUESTIONS,
    "fill_blank": _RWKU,
    "qa": _RWKU,
    "adversarial": _RWKU,
}


def continuation(task: Task, name: str, convention: str = "ours") -> Continuation:
    """How a set's continuations are made: as its benchmark does; elsewhere open-unlearning's are 200 tokens."""
    if name in CONTINUATIONS:
        return CONTINUATIONS[name]
    if name == "neighbours" and task.name.startswith("rwku"):
        return _RWKU
    return Continuation(200 if convention == "open-unlearning" else None)


def probe_sets(task: Task) -> list[str]:
    """The sets of a task that are probed, in order."""
    return [name for name in PROBE_SETS if task.sets.get(name)]


def probed_samples(samples: list[Sample], limit: int | None, convention: str = "ours") -> list[Sample]:
    """The samples of a set that are probed: at most `limit`, evenly spread.

    Where only some have wrong answers (400 of TOFU's retain rows), a limit chooses among these as far as they suffice,
    so that no metric is lost; by open-unlearning's convention these alone are probed.
    """
    choices = [s for s in samples if s.wrong_answers]
    alone = convention == "open-unlearning" and choices
    return spread(choices if alone or (limit is not None and len(choices) >= limit) else samples, limit)


@dataclass
class Probed:
    """Results of one probing: probe rows, token rows, and per probe set and metric one value or a reason."""

    rows: pd.DataFrame
    tokens: pd.DataFrame
    metrics: dict[str, dict[str, Any]]


def probe(
    lm: LanguageModel,
    task: Task,
    *,
    run: str = "",
    step: int = 0,
    phase: str = "before",
    limit: int | None = None,
    batch_size: int = 64,
    ledger: Ledger | None = None,
    convention: str = "ours",
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Probed:
    """Probe every set of a task.

    Args:
        lm: the model.
        task: its `forget`, `retain`, `neighbours` and `general` sets and a benchmark's own, as far as there are any.
        run: the run's name, for the tables.
        step: of the run.
        phase: "before" or "after".
        limit: at most so many samples a set, spread evenly over it; see `probed_samples`.
        batch_size: samples a forward pass.
        ledger: where the costs go.
        convention: "ours", or "open-unlearning" for that framework's values where they differ (the metrics' `differs`).
        progress: called with the set's name, answers done and their number.
    """
    convention_options(convention, "")  # refuses an unknown one
    ledger = ledger or Ledger()
    rows, tokens, metrics = [], [], {}
    for name in probe_sets(task):
        samples = probed_samples(task.sets[name], limit, convention)
        with ledger.phase("probes") as cost:
            told = functools.partial(_tell, progress, name, len(samples))
            answers, token_rows = answers_of(
                lm, samples, continuation(task, name, convention), batch_size=batch_size, cost=cost, progress=told
            )
        with ledger.phase("probes", calls=0):
            table, metrics[name] = measure(answers, name, convention)
        identity = {"run": run, "step": step, "phase": phase, "probe_set": name}
        texts = {
            "sample_id": [s.id for s in samples],
            "prompt": [s.question for s in samples],
            "answer": [s.answer for s in samples],
            "generation": [a.generation for a in answers],
        }
        rows.append(pd.DataFrame({**identity, **texts, **table}, index=range(len(samples))))
        tokens.append(token_rows.assign(run=run, phase=phase, probe_set=name))
    return Probed(pd.concat(rows, ignore_index=True), pd.concat(tokens, ignore_index=True), metrics)


def _tell(progress: Callable[[str, int, int], None], name: str, total: int, done: int) -> None:
    progress(name, done, total)


def measure(
    answers: list[Answer], name: str, convention: str = "ours"
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Every metric of every answer (NaN where it has none), and the set's values or reasons."""
    table: dict[str, list[float]] = {}
    summary: dict[str, Any] = {}
    lengths = [len(a.logp) for a in answers]
    for metric_name in metric:
        reason, values = "", []
        options = convention_options(convention, metric_name)
        for answer in answers:
            try:
                values.append(metric[metric_name].function(answer, **options))
            except NotAvailable as why:
                reason = str(why)
                values.append(float("nan"))
        table[metric_name] = values
        summary[metric_name] = aggregate(metric_name, values, lengths, name, reason)
    return table, summary


def answers_of(
    lm: LanguageModel,
    samples: list[Sample],
    how: Continuation = Continuation(),
    *,
    batch_size: int = 64,
    cost: Phase | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Answer], pd.DataFrame]:
    """What a model says to samples, for the metrics, and the token table."""
    cost = cost or Phase()
    encodings = [encode(lm, s) for s in samples]
    logps, ranks, token_rows = _teacher_forced(lm, encodings, batch_size, cost)
    longest = how.tokens or max(len(e.answer_positions) for e in encodings) + 4
    generations = greedy(lm, samples, batch_size, longest, stops=how.stops, cost=cost, progress=progress)
    answers = []
    for encoding, logp, rank, said, (true, wrong) in zip(
        encodings, logps, ranks, generations, choice_nlls(lm, samples, batch_size, cost), strict=True
    ):
        sample = encoding.sample
        values = None if sample.spans is None else sample.values
        text = _cut(encoding, how.tokens) if how.cut_answer and how.tokens else sample.answer
        answers.append(Answer(logp, rank, text, values, said, true, wrong))
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
    """R of every sample that has wrong answers and a finite R, by the sample's id."""
    ratio, nothing = metric["truth_ratio"].function, np.zeros(1)
    options = convention_options(convention, "truth_ratio")
    asked = [s for s in samples if s.wrong_answers]
    found = {
        s.id: ratio(Answer(nothing, nothing, s.answer, None, None, true, wrong), **options)
        for s, (true, wrong) in zip(asked, choice_nlls(lm, asked, batch_size), strict=True)
    }
    return {key: value for key, value in found.items() if np.isfinite(value)}


@torch.no_grad()
def _teacher_forced(
    lm: LanguageModel, encodings: list[Encoding], batch_size: int, cost: Phase
) -> tuple[list[np.ndarray], list[np.ndarray], pd.DataFrame]:
    """Log-probability and rank of every answer token, and the token table with the five most probable tokens."""
    names = ("logp", "rank", "entropy")
    found: dict[str, list[np.ndarray]] = {name: [np.empty(0)] * len(encodings) for name in names}
    tops: list[list[str]] = [[]] * len(encodings)
    for indices, batch in batches(lm, encodings, batch_size):
        stats = token_stats(lm, batch, top_k=5)
        count_forward(cost, lm, batch)
        assert stats.entropy is not None
        assert stats.rank is not None
        for name, values in zip(names, (stats.logp, stats.rank, stats.entropy), strict=True):
            for index, part in zip(indices, split(values, stats), strict=True):
                found[name][index] = part
        words = _alternatives(lm, stats)
        ends = np.cumsum(stats.counts.cpu().numpy())
        for index, end, count in zip(indices, ends, stats.counts.tolist(), strict=True):
            tops[index] = words[end - count : end]
    table = pd.DataFrame(token_columns(encodings))
    table = table.assign(**{name: np.concatenate(parts) for name, parts in found.items()})
    table["rank"] = table["rank"].astype("int64")
    table["alternatives"] = [word for words in tops for word in words]
    return found["logp"], found["rank"], table


def _alternatives(lm: LanguageModel, stats: Any) -> list[str]:
    """For each token, JSON `[[text, probability], ...]` of the most probable tokens."""
    ids, inverse = torch.unique(stats.top_ids, return_inverse=True)
    names = [lm.tokenizer.decode([i]) for i in ids.tolist()]
    return [
        json.dumps([[names[i], round(p, 4)] for i, p in zip(places, chances, strict=True)], ensure_ascii=False)
        for places, chances in zip(inverse.tolist(), stats.top_logp.exp().tolist(), strict=True)
    ]


@torch.no_grad()
def _mean_nlls(lm: LanguageModel, encodings: list[Encoding], batch_size: int, cost: Phase) -> list[float]:
    out = [0.0] * len(encodings)
    for indices, batch in batches(lm, encodings, batch_size):
        stats = token_stats(lm, batch, extras=False)
        count_forward(cost, lm, batch)
        for index, value in zip(indices, stats.sample_mean(stats.nll).tolist(), strict=True):
            out[index] = value
    return out


@torch.no_grad()
def greedy(
    lm: LanguageModel,
    samples: list[Sample],
    batch_size: int,
    max_new_tokens: int,
    *,
    stops: tuple[str, ...] = (),
    cost: Phase | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str | None]:
    """Greedy continuation of each question, without the end token, cut at `stops`; None for plain text."""
    asked = [i for i, s in enumerate(samples) if s.question]
    prompts = {i: encode(lm, samples[i], answer=False).ids for i in asked}
    asked.sort(key=lambda i: (len(prompts[i]), i))
    out: list[str | None] = [None] * len(samples)
    tokenizer = lm.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    for start in range(0, len(asked), batch_size):
        chosen = asked[start : start + batch_size]
        width = max(len(prompts[i]) for i in chosen)
        room = min(max_new_tokens, lm.context - width)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + prompts[i] for i in chosen])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen])
        if room > 0:
            said = _generate(lm, ids.to(lm.device), mask.to(lm.device), room, pad)
            if cost is not None:
                count_generation(cost, lm, mask, said.shape[1])
            texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        else:
            texts = [""] * len(chosen)
        for index, text in zip(chosen, texts, strict=True):
            for stop in stops:
                text = text.partition(stop)[0]
            out[index] = text.strip()
        progress(start + len(chosen))
    return out


def _generate(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, room: int, pad: int) -> torch.Tensor:
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=room, do_sample=False, pad_token_id=pad, eos_token_id=lm.tokenizer.eos_token_id
    )
    # What `config` leaves open, generate takes from the model's own defaults, which may punish repetition.
    own, lm.module.generation_config = lm.module.generation_config, config
    try:
        with lm.autocast():
            said = lm.module.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    finally:
        lm.module.generation_config = own
    return said[:, ids.shape[1] :]
