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
    names = ("sample_id", "position", "token_id", "token", "start", "end", "segment", "span")
    out: dict[str, list[Any]] = {name: [] for name in names}
    for encoding in encodings:
        for segment, name in ((PROMPT, "prompt"), (ANSWER, "answer")):
            if segment == PROMPT and not prompt:
                continue
            labels = encoding.span_labels() if segment == ANSWER else None
            for place, position in enumerate(encoding.positions(segment)):
                start, end = encoding.ranges[position]
                out["sample_id"].append(encoding.sample.id)
                out["position"].append(place)
                out["token_id"].append(encoding.ids[position])
                out["token"].append(encoding.text_of(position))
                out["start"].append(start)
                out["end"].append(end)
                out["segment"].append(name)
                out["span"].append(None if labels is None else labels[place])
    return {**out, "span": pd.array(out["span"], dtype="boolean")}
