"""A result of interference as tests draw it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.evals.interference import Interference


def made(names: list[str] | None = None, neighbours: int = 2) -> Interference:
    """Three domains that were forgotten, and neighbours; the first hurts the second."""
    forgotten = names or ["Ada", "Bo", "Cy"]
    measured = forgotten + [f"N{n}" for n in range(neighbours)]
    rng, shape = np.random.default_rng(0), (2, len(forgotten), len(measured))
    logp = rng.normal(0, 0.01, shape)
    logp[:, 0, 1] = 0.8
    lost = np.where(logp > 0.5, 0.5, 0.0)
    tokens = []
    for scorer, values in (("conflict", (0.1, -0.2, 0.3)), ("lost", (0.0, 0.5, 1.0))):
        for position, (text, value) in enumerate(zip(("Bo", " is", " here"), values, strict=True)):
            start = (0, 2, 5)[position]
            tokens.append(
                {
                    "task": "t", "sample_id": "b", "position": position, "token_id": position, "token": text,
                    "start": start, "end": start + len(text), "segment": "answer", "scorer": scorer, "step": 0,
                    "score": value, "span": position == 2, "forgotten": forgotten[0],
                }
            )  # fmt: skip
    return Interference(
        "t", "m", "person", forgotten, measured, ["forget"] * len(forgotten) + ["neighbours"] * neighbours, [0, 1],
        {"logp": logp, "accuracy": lost}, {"gradient": logp[0] * 2, "names": rng.random(shape[1:])},
        np.ones(shape[:2], dtype=bool), np.full(shape[:2], 4), {"level": "forget.fact_accuracy<=0.2"},
        pd.DataFrame(tokens), {"b": ("Who is Bo?", "Bo is here", measured[1])},
    )  # fmt: skip
