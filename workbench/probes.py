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
from workbench.metrics import Answer, aggregate, metric
from workbench.models import LanguageModel
from workbench.registry import NotAvailable
from workbench.scorers.table import split, token_columns
from workbench.tasks import PROBE_SETS, Sample, Task, spread
from workbench.tokens import Encoding, batches, encode, token_stats


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
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Probed:
    """Probe every set of a task.

    Args:
        lm: the model.
        task: its `forget`, `retain`, `neighbours` and `heldout` sets, as far as there are any.
        run: the run's name, for the tables.
        step: of the run.
        phase: "before" or "after".
        limit: at most so many samples a set, spread evenly over it.
        batch_size: samples a forward pass.
        ledger: where the costs go.
        progress: called with the set's name, answers done and their number.
    """
    ledger = ledger or Ledger()
    rows, tokens, metrics = [], [], {}
    for name in PROBE_SETS:
        samples = spread(task.sets.get(name, []), limit)
        if not samples:
            continue
        with ledger.phase("probes") as cost:
            told = functools.partial(_tell, progress, name, len(samples))
            answers, token_rows = _answers(lm, samples, batch_size, cost, told)
        table, metrics[name] = measure(answers, name)
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


def measure(answers: list[Answer], name: str) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Every metric of every answer (NaN where it has none), and the set's values or reasons."""
    table: dict[str, list[float]] = {}
    summary: dict[str, Any] = {}
    lengths = [len(a.logp) for a in answers]
    for metric_name in metric:
        reason, values = "", []
        for answer in answers:
            try:
                values.append(metric[metric_name].function(answer))
            except NotAvailable as why:
                reason = str(why)
                values.append(float("nan"))
        table[metric_name] = values
        summary[metric_name] = aggregate(metric_name, values, lengths, name, reason)
    return table, summary


def _answers(
    lm: LanguageModel, samples: list[Sample], batch_size: int, cost: Phase, progress: Callable[[int], None]
) -> tuple[list[Answer], pd.DataFrame]:
    encodings = [encode(lm, s) for s in samples]
    logps, ranks, token_rows = _teacher_forced(lm, encodings, batch_size, cost)
    longest = max(len(e.answer_positions) for e in encodings) + 4
    generations = greedy(lm, samples, batch_size, longest, cost=cost, progress=progress)
    alternatives = [
        replace(s, answer=text)
        for s in samples
        for text in ((s.paraphrased_answer or s.answer, *s.wrong_answers) if s.wrong_answers else ())
    ]
    nlls = iter(_mean_nlls(lm, [encode(lm, s) for s in alternatives], batch_size, cost))
    answers = []
    for sample, logp, rank, said in zip(samples, logps, ranks, generations, strict=True):
        true = next(nlls) if sample.wrong_answers else None
        wrong = tuple(next(nlls) for _ in sample.wrong_answers)
        values = None if sample.spans is None else sample.values
        answers.append(Answer(logp, rank, sample.answer, values, said, true, wrong))
    return answers, token_rows


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
        cost.count(lm, batch)
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
        cost.count(lm, batch)
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
    cost: Phase | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str | None]:
    """Greedy continuation of each question, without the end token; None for plain text."""
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
                cost.count_generation(lm, mask, said.shape[1])
            texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        else:
            texts = [""] * len(chosen)
        for index, text in zip(chosen, texts, strict=True):
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
