"""Does a score do what it says? By taking the highest tokens away, and by forgetting with the score as weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import NotAvailable, UserError, missing
from workbench.evals.alignment import answer_tokens, check_share, places_in
from workbench.evals.probes import probe
from workbench.models import Encoding, LanguageModel, encode
from workbench.scorers import Inputs, frozen, weights_from, within_memory
from workbench.tasks import Task
from workbench.unlearning import Settings, unlearn

CONTROLS = ("uniform", "random", "spans")
RUN = Settings(steps=60, alpha=2.0, record_every=10**6, checkpoint_every=10**6)


def faithfulness(
    lm: LanguageModel,
    task: Task,
    table: pd.DataFrame,
    *,
    top: float = 0.2,
    baseline: str = "eos",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, Any]]:
    """What the model's log-probability of the answers owes to each scorer's highest answer tokens (arXiv 1911.03429).

    `comprehensiveness`: mean log p of an answer's tokens, minus the same with the highest `top` of its tokens that
    stand for text taken out of what the model reads; high where they mattered. `sufficiency`: the same with all others
    taken out; low where these were enough. In nats a token, mean over samples; the question stays. Of tokens tied at
    the limit the first are taken. What is undefined is `{"value": None, "reason": why}`.

    Args:
        lm: the model.
        task: whose forget answers the table scores.
        table: a score table; of several steps the last counts.
        top: share of an answer's tokens.
        baseline: what stands for a token that is taken out; see `scorers.inputs`.
        progress: called with the number of samples done, and of how many.
    """
    check_share("top", top)
    tokens = answer_tokens(table)
    names = [str(name) for name in dict.fromkeys(tokens["scorer"])]
    parts = {key: part for key, part in tokens.groupby(["sample_id", "scorer"], sort=False)}
    drops: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with frozen(lm), torch.no_grad():
        for done, sample in enumerate(task.forget):
            found = {name: parts[sample.id, name] for name in names if (sample.id, name) in parts}
            _check_tokens(encode(lm, sample), found)
            usable = {name: part for name, part in found.items() if _ranks(part)}
            with contextlib.suppress(NotAvailable):
                inputs = Inputs(lm, sample, "mean", baseline, "token")
                for name, pair in zip(usable, _drops(inputs, list(usable.values()), top), strict=True):
                    drops[name].append(pair)
            progress(done + 1, len(task.forget))
    return {name: _mean_drops(drops[name]) for name in names}


def _check_tokens(encoding: Encoding, parts: dict[str, pd.DataFrame]) -> None:
    answer = [encoding.ids[p] for p in encoding.answer_positions]
    for part in parts.values():
        if any(p >= len(answer) or answer[p] != i for p, i in zip(part["position"], part["token_id"], strict=True)):
            raise UserError(
                f"the score table does not fit sample '{encoding.sample.id}'; score this task with this model"
            )


def _ranks(part: pd.DataFrame) -> bool:
    """Whether a sample's scores put its tokens in an order."""
    scores = part["score"].to_numpy(dtype=float)
    return bool(np.isfinite(scores).all() and np.ptp(scores) > 0)


def _drops(inputs: Inputs, parts: list[pd.DataFrame], top: float) -> list[tuple[float, float]]:
    """(comprehensiveness, sufficiency) of each scorer on one sample: all variants in as few passes as fit."""
    units = {position: unit for unit, position in enumerate(inputs.positions.tolist())}
    answer = inputs.encoding.answer_positions
    rows = [torch.ones(inputs.units)]
    for part in parts:
        ranked = part.sort_values(["score", "position"], ascending=[False, True])["position"].tolist()
        count = places_in(top, len(ranked))
        for taken in (ranked[:count], ranked[count:]):
            row = torch.ones(inputs.units)
            row[[units[answer[p]] for p in taken if answer[p] in units]] = 0  # after the others nothing is predicted
            rows.append(row)
    kept = torch.stack(rows).to(inputs.embeddings.device)

    def pieces(copies: int) -> torch.Tensor:
        return torch.cat([inputs.without(piece) for piece in kept.split(copies)])

    full, *values = within_memory(pieces, inputs.copies(False)).double().tolist()
    return [(full - values[i], full - values[i + 1]) for i in range(0, len(values), 2)]


def _mean_drops(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    if not pairs:
        none = missing("no sample of the task has scores that rank its tokens")
        return {"comprehensiveness": none, "sufficiency": none, "samples": 0}
    first, second = np.mean(pairs, axis=0)
    return {"comprehensiveness": float(first), "sufficiency": float(second), "samples": len(pairs)}


def faithfulness_by_unlearning(
    lm: LanguageModel,
    task: Task,
    table: pd.DataFrame,
    *,
    objective: str = "wga",
    settings: Settings = RUN,
    seeds: tuple[int, ...] = (0, 1, 2),
    probe_limit: int | None = 96,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> pd.DataFrame:
    """The same short run with each score as token weights, beside uniform and random weights and the labels (oracle).

    Args:
        lm: the model; unchanged.
        task: what to forget.
        table: a score table; each of its scorers is one set of weights.
        objective: forget loss by name.
        settings: the numbers of every run, but the seed.
        seeds: each a run per weights.
        probe_limit: samples probed a set.
        progress: called with the weights, the runs done, and of how many.

    Returns:
        one row a run: weights, seed, `reason` where the scores cannot be weights, and fact accuracy and probability of
        each probe set after the run; `generic` is the probability of the forget answers' tokens outside the spans.
    """
    table = table[table["step"] == table.groupby("scorer")["step"].transform("max")]
    labelled = all(s.spans is not None for s in task.forget)
    given: dict[str, str | pd.DataFrame] = {str(name): part for name, part in table.groupby("scorer", sort=False)}
    given |= {name: name for name in CONTROLS if name != "spans" or labelled}  # random is drawn anew for each seed
    encodings = [encode(lm, s) for s in task.forget]
    rows: list[dict[str, Any]] = []
    for name, weights in given.items():
        reason = ""
        try:
            if isinstance(weights, pd.DataFrame):
                weights_from(weights, encodings)
        except UserError as error:
            reason = str(error)
        for seed in seeds:
            progress(name, len(rows), len(given) * len(seeds))
            row: dict[str, Any] = {"weights": name, "seed": seed, "reason": reason}
            if not reason:
                run = unlearn(lm, task, objective, weights, settings=replace(settings, seed=seed))
                row |= _after(run.lm, task, probe_limit)
            rows.append(row)
    return pd.DataFrame(rows)


def _after(lm: LanguageModel, task: Task, limit: int | None) -> dict[str, float]:
    probed = probe(lm, task, limit=limit)
    found = {}
    for name, values in probed.metrics.items():
        for key in ("fact_accuracy", "probability"):
            value = values.get(key)
            if isinstance(value, float):
                found[f"{name}_{key}"] = value
    forget = probed.tokens[(probed.tokens["probe_set"] == "forget") & (probed.tokens["end"] > probed.tokens["start"])]
    if forget["span"].notna().any():
        outside = forget[forget["span"].eq(False)]
        found["generic"] = float(np.exp(outside["logp"]).mean())
    return found
