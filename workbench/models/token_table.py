"""Token rows of tables: text, offsets and segment of every token of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.models.encoding import PROMPT, UNPREDICTED, Encoding
from workbench.models.token_stats import TokenStats


def split(values: torch.Tensor, stats: TokenStats) -> list[np.ndarray]:
    """Packed (N,) values as one float64 array per sample."""
    return np.split(values.detach().double().cpu().numpy(), np.cumsum(stats.counts.cpu().numpy())[:-1])


def token_values(encodings: list[Encoding], values: Sequence[np.ndarray]) -> np.ndarray:
    """Values of each sample's answer tokens as one column of the table; NaN where nothing predicts a token."""
    gaps = ([np.nan] * len(encoding.positions(UNPREDICTED)) for encoding in encodings)
    return np.concatenate([np.concatenate([gap, array]) for gap, array in zip(gaps, values, strict=True)])


def predicted_rows(part: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """A sample's rows of a table, by position among the answer tokens, without a first token that nothing predicts."""
    first = len(encoding.positions(UNPREDICTED))
    return part[part["position"] >= first].assign(position=part["position"] - first) if first else part


def token_columns(encodings: list[Encoding], *, prompt: bool = False, unpredicted: bool = True) -> dict[str, Any]:
    """The columns of a score table that describe the answer's tokens; with `prompt`, the question's before them.

    With `unpredicted`, a text's first token that nothing predicts has a row too, so that the rows tile the text.
    """
    rows = []
    for encoding in encodings:
        labels, first = encoding.span_labels(), encoding.positions(UNPREDICTED) if unpredicted else []
        answer = [*first, *encoding.answer_positions]
        for positions, name in ((encoding.positions(PROMPT), "prompt"), (answer, "answer"))[0 if prompt else 1 :]:
            for place, position in enumerate(positions):
                span = labels[place - len(first)] if labels and name == "answer" and position not in first else None
                text, (start, end) = encoding.text_of(position), encoding.ranges[position]
                rows.append((encoding.sample.id, place, encoding.ids[position], text, start, end, name, span))
    names = ("sample_id", "position", "token_id", "token", "start", "end", "segment", "span")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    return {**columns, "span": pd.array(columns["span"], dtype="boolean")}
