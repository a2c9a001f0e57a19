"""Score tables made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.scorers.table import COLUMNS


def table_of(scores: dict[str, list[list[float]]], spans: list[list[bool]] | None = None) -> pd.DataFrame:
    """A score table of `scores[scorer][sample][token]`; every answer ends with a token that stands for no text."""
    rows = []
    for name, samples in scores.items():
        for i, values in enumerate(samples):
            for place, value in enumerate([*values, 9.0]):
                end = place if place == len(values) else place + 1
                row = {"task": "t", "sample_id": f"s{i}", "position": place, "token_id": place, "segment": "answer"}
                row |= {"token": "ab"[place % 2] if end > place else "", "start": place, "end": end, "step": 0}
                inside = None if spans is None else end > place and spans[i][place]
                rows.append(row | {"scorer": name, "score": value, "span": inside})
    table = pd.DataFrame(rows)[COLUMNS]
    return table.assign(span=table["span"].astype("boolean"), score=table["score"].astype(float))


def random_table(lengths: tuple[int, ...] = (12, 7, 30, 5), scorers: int = 4, seed: int = 0) -> pd.DataFrame:
    """Scorers that are related, with ties and with scores that are missing or infinite."""
    random = np.random.default_rng(seed)
    base = [random.normal(size=n) for n in lengths]
    scores = {f"x{k}": [b * k + random.normal(size=len(b)) for b in base] for k in range(scorers)}
    scores["tied"] = [np.round(b) for b in base]
    scores["partly"] = [np.where(random.random(len(b)) < 0.2, np.nan, b) for b in base]
    scores["partly"][1][:] = np.nan
    scores["infinite"] = [np.where(random.random(len(b)) < 0.1, np.inf, b) for b in base]
    spans = [list(random.random(n) < 0.3) for n in lengths]
    return table_of({name: [list(v) for v in samples] for name, samples in scores.items()}, spans)


def same(a: Any, b: Any) -> bool:
    """Whether two agreements are equal but for rounding."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == pytest.approx(b, abs=1e-12) if isinstance(a, float) else a == b
