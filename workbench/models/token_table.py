"""Token rows of tables: text, offsets and segment of every token of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.models.encoding import ANSWER, PROMPT, Encoding
from workbench.models.token_stats import TokenStats


def split(values: torch.Tensor, stats: TokenStats) -> list[np.ndarray]:
    """Packed (N,) values as one float64 array per sample."""
    return np.split(values.detach().double().cpu().numpy(), np.cumsum(stats.counts.cpu().numpy())[:-1])


def token_columns(encodings: list[Encoding], *, prompt: bool = False) -> dict[str, Any]:
    """The columns of a score table that describe the answer's tokens; with `prompt`, the question's before them."""
    rows = []
    for encoding in encodings:
        labels = encoding.span_labels()
        for segment, name in ((PROMPT, "prompt"), (ANSWER, "answer"))[0 if prompt else 1 :]:
            for place, position in enumerate(encoding.positions(segment)):
                span = labels[place] if labels and segment == ANSWER else None
                text, (start, end) = encoding.text_of(position), encoding.ranges[position]
                rows.append((encoding.sample.id, place, encoding.ids[position], text, start, end, name, span))
    names = ("sample_id", "position", "token_id", "token", "start", "end", "segment", "span")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    return {**columns, "span": pd.array(columns["span"], dtype="boolean")}
