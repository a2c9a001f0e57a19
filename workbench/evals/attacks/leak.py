"""leak@k: the chance that at least one of k drawn answers tells the fact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import NOT_FINITE, NotAvailable
from workbench.evals.attacks.asking import generating, measure_of, tells
from workbench.evals.attacks.spec import Outcome, Target, WrongOption, recovery
from workbench.evals.generation import continuation, sampled
from workbench.tasks import Sample

AT_ONCE = 16  # questions after which the draws are kept


def leak_at(k: int, hits: int, tries: int) -> float:
    """1 - C(n-c, k) / C(n, k): the chance that k of n tries, of which c hit, hold a hit; unbiased for k drawn anew."""
    return 1.0 - math.comb(tries - hits, k) / math.comb(tries, k)


@recovery("leak_at_k", cost=lambda target, tries=200, **_: generating(target, tries), source="arXiv 2511.04934",
          certainty="sure")  # fmt: skip
def leak_at_k(target: Target, *, tries: int = 200, k: int = 128, temperature: float = 1.0) -> Outcome:
    """Mean over answers of 1 - C(n-c, k) / C(n, k): n answers drawn at temperature 1, of which c tell the fact.

    A drawn answer tells it where it has every labelled fact as whole words; without labels from ROUGE-L recall 0.8.
    The parts have leak@1, 2, 4 and so on up to `k`.

    `tries`: n, answers drawn for each question.
    `k`: how many of them an attacker draws.
    `temperature`: of the draws; top-p is 1.
    """
    if not 1 <= k <= tries:
        raise WrongOption(f"leak_at_k: k must be from 1 to tries={tries}, not {k}")
    if temperature <= 0:
        raise WrongOption(f"leak_at_k: temperature must be above 0, not {temperature}")
    rows = target.kept
    for start in range(len(rows), len(target.questions), AT_ONCE):
        rows = [*rows, *_draw(target, target.questions[start : start + AT_ONCE], tries, k, temperature)]
        target.keep(rows)
        target.progress("leak_at_k", len(rows), len(target.questions))
    table = pd.DataFrame(rows)
    sizes = [2**power for power in range(int(math.log2(k)) + 1)]
    leaks = {str(n): float(np.mean([leak_at(n, hits, tries) for hits in table["hits"]])) for n in sorted({*sizes, k})}
    return Outcome(table, float(table["value"].mean()), {"leak_at": leaks})


def _draw(target: Target, samples: list[Sample], tries: int, k: int, temperature: float) -> list[dict[str, Any]]:
    how = continuation(target.task, target.probe_set)
    options: dict[str, Any] = {"tries": tries, "temperature": temperature, "seed": target.seed, "stops": how.stops}
    drawn = sampled(target.lm, samples, target.rows, how.tokens or target.new_tokens, **options)
    rows = []
    for sample, texts in zip(samples, drawn, strict=True):
        if texts is None:
            raise NotAvailable(NOT_FINITE)
        of_text = {text: tells(sample, text) for text in dict.fromkeys(texts)}
        hit = [of_text[text] for text in texts]
        rows.append(
            {"sample_id": sample.id, "prompt": sample.question, "answer": sample.answer}
            | {"text": texts[hit.index(True)] if any(hit) else texts[0], "value": leak_at(k, sum(hit), tries)}
            | {"measure": measure_of(sample), "tries": tries, "hits": sum(hit)}
        )
    return rows
