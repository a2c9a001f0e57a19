"""Sequences on disk as tests make them, without a model: any matrix, and answers that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.cost import Ledger
from workbench.errors import missing
from workbench.files import as_json
from workbench.runs import Config, SequenceDirectory, planned
from workbench.runs.records import recorded
from workbench.runs.sequence_files import PLAN, PROBES, STATE, TOKENS, request_key
from workbench.tasks import TaskSpec

WORDS = [("Celia", False), (" Nash", False), (" plays", False), (" the", False), (" recorder", True), (".", False)]


def written(
    folder: Path,
    matrices: Sequence[Any],
    kept: Sequence[str] = ("retain", "neighbours"),
    *,
    tasks: Sequence[str] = (),
    text: str = "Celia Nash plays the recorder.",
) -> SequenceDirectory:
    """A sequence whose fact accuracies are these matrices (states x sets), one a seed; all its states are there."""
    count = np.asarray(matrices[0]).shape[0] - 1
    names = list(tasks) or [f"biographies/person:{2 * n},{2 * n + 1}" for n in range(count)]
    base = Config(task=TaskSpec(names[0]), model="bio-full", objective="wga", weights="uniform")
    plan = planned(names, base, seeds=list(range(len(matrices))))
    folder.mkdir(parents=True, exist_ok=True)
    with recorded(folder, PLAN) as aside:
        aside.write_text(as_json(plan.as_dict() | {"versions": {}}), encoding="utf-8")
    directory = SequenceDirectory(folder)
    for seed, matrix in enumerate(matrices):
        for after, row in enumerate(np.asarray(matrix, dtype=float)):
            _state(directory.state_folder(seed, after), after, row, count, list(kept), text)
    return directory


def _state(folder: Path, after: int, row: np.ndarray, count: int, kept: list[str], text: str) -> None:
    keys = [request_key(n) for n in range(1, count + 1)] + kept
    rows, tokens, metrics = [], [], {}
    for key, value in zip(keys, row, strict=True):
        metrics[key] = {"fact_accuracy": missing("no labels") if np.isnan(value) else float(value)}
        metrics[key] |= {"rouge_l_recall": 0.0 if np.isnan(value) else float(value) ** 0.5}
        for n in range(2):
            said = text if n / 2 < value else "Celia Nash plays the cello."
            about = {"run": "", "step": after, "phase": "after", "probe_set": key, "sample_id": f"{key}-{n}"}
            rows.append(about | {"prompt": "What does Celia Nash play?", "answer": text, "generation": said})
            start = 0
            for position, (word, span) in enumerate(WORDS):
                end = start + len(word)
                place = {"position": position, "token_id": position, "token": word, "start": start, "end": end}
                chance = np.clip(value if span else 0.9, 0.01, 0.99)
                entry = {"span": span, "logp": float(np.log(chance)), "rank": int(chance < 0.5), "entropy": 0.1}
                tokens.append({k: v for k, v in about.items() if k != "step"} | place | entry | {"alternatives": ""})
                start = end
    for name, table in ((PROBES, rows), (TOKENS, tokens)):
        with recorded(folder, name) as aside:
            pd.DataFrame(table).to_parquet(aside, index=False)
    content = {"after": after, "kept": kept, "metrics": metrics, "cost": Ledger().as_dict()}
    with recorded(folder, STATE) as aside:
        aside.write_text(as_json(content), encoding="utf-8")


def eight(seed: int = 0) -> np.ndarray:
    """A matrix of eight requests and three kept sets, in which some come back and retain erodes."""
    noise = np.random.default_rng(seed)
    matrix = np.ones((9, 11))
    for i in range(1, 9):
        for j in range(8):
            matrix[i, j] = (0.05 + 0.03 * (i - j - 1) if j < i else 1 - 0.015 * i) + noise.uniform(-0.03, 0.03)
        matrix[i, 8] = 1 - 0.012 * i + noise.uniform(-0.01, 0.01)
        matrix[i, 9] = 1 - 0.035 * i + noise.uniform(-0.02, 0.02)
    matrix[:, 10] = np.nan
    return matrix.clip(0, 1)
