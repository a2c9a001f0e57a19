"""Is a score faithful? Tested by taking the highest tokens away, and by unlearning with the score as weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import NotAvailable, UserError, is_missing, missing
from workbench.evals.alignment import answer_tokens, check_share, places_in
from workbench.evals.probes import probe
from workbench.models import Encoding, LanguageModel, encode, predicted_rows
from workbench.progress import Progress, silent
from workbench.scorers import Inputs, frozen, weights_from, within_memory
from workbench.tasks import Task
from workbench.unlearning import Diverged, Settings, unlearn

CONTROLS = ("uniform", "random", "spans")
RUN = Settings(steps=60, alpha=2.0, record_every=10**6, checkpoint_every=10**6)


def faithfulness(
    lm: LanguageModel,
    task: Task,
    table: pd.DataFrame,
    *,
    top: float = 0.2,
    baseline: str = "eos",
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """How much the log-probability of the answers depends on each scorer's highest answer tokens (arXiv 1911.03429).

    `comprehensiveness`: mean log p of an answer's tokens, minus the same when the highest `top` of its tokens (of those
    that stand for text) are replaced in what the model reads; high where they mattered. `sufficiency`: the same when
    all others are replaced; low where the highest were enough. In nats a token, mean over samples; the question stays.
    Of tokens tied at the limit the first are taken. A value that is undefined is `errors.Missing`. The table scores the
    task's forget answers; of several steps the last counts. `baseline` is what replaces a token; see `scorers.inputs`.
    Progress is called "mask", in samples.

    Raises:
        UserError: the table is not of this task and model, or `top` is no share.
    """
    check_share("top", top)
    tokens = answer_tokens(table)
    names = [str(name) for name in dict.fromkeys(tokens["scorer"])]
    parts = {key: part for key, part in tokens.groupby(["sample_id", "scorer"], sort=False)}
    drops: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    reason = "no sample of the task has scores that rank its tokens"
    with frozen(lm), torch.no_grad():
        for done, sample in enumerate(task.forget):
            of_sample = {name: parts[sample.id, name] for name in names if (sample.id, name) in parts}
            encoding = encode(lm, sample)
            of_sample = {name: predicted_rows(part, encoding) for name, part in of_sample.items()}
            _check_tokens(encoding, of_sample)
            usable = {name: part for name, part in of_sample.items() if _ranks(part)}
            try:
                inputs = Inputs(lm, sample, "mean", baseline, "token")
                for name, pair in zip(usable, _drops(inputs, list(usable.values()), top), strict=True):
                    drops[name].append(pair)
            except NotAvailable as error:
                reason = str(error)
            progress("mask", done + 1, len(task.forget))
    return {name: _mean_drops(drops[name], reason) for name in names}


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
            row[[units[answer[p]] for p in taken if answer[p] in units]] = 0  # the last token has no unit
            rows.append(row)
    kept = torch.stack(rows).to(inputs.embeddings.device)

    def pieces(copies: int) -> torch.Tensor:
        return torch.cat([inputs.without(piece) for piece in kept.split(copies)])

    full, *values = within_memory(pieces, inputs.copies(False)).double().tolist()
    return [(full - values[i], full - values[i + 1]) for i in range(0, len(values), 2)]


def _mean_drops(pairs: list[tuple[float, float]], reason: str) -> dict[str, Any]:
    if not pairs:
        none = missing(reason)
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
    progress: Progress = silent,
) -> pd.DataFrame:
    """The same short run with each scorer's scores as token weights, with uniform and random ones, and with the labels.

    The model is unchanged. Each scorer of the score table is one set of weights, and there is a run for each seed and
    set of weights, in which at most `probe_limit` samples a set are probed. Progress is called "unlearn", in runs, with
    the weights as note.

    Returns:
        One row a run: weights, seed, `reason` where the scores cannot be weights or the run diverged, and fact accuracy
        and probability of each probe set after the run; `generic` is the probability of the forget answers' tokens
        outside the spans.
    """
    table = table[table["step"] == table.groupby("scorer")["step"].transform("max")]
    labelled = all(s.spans is not None for s in task.forget)
    choices: dict[str, str | pd.DataFrame] = {str(name): part for name, part in table.groupby("scorer", sort=False)}
    choices |= {name: name for name in CONTROLS if name != "spans" or labelled}  # random is drawn anew for each seed
    encodings = [encode(lm, s) for s in task.forget]
    rows: list[dict[str, Any]] = []
    for name, weights in choices.items():
        reason = ""
        try:
            if isinstance(weights, pd.DataFrame):
                weights_from(weights, encodings)
        except UserError as error:
            reason = str(error)
        for seed in seeds:
            progress("unlearn", len(rows), len(choices) * len(seeds), name)
            row: dict[str, Any] = {"weights": name, "seed": seed, "reason": reason}
            if not reason:
                try:
                    run = unlearn(lm, task, objective, weights, settings=settings.replace(seed=seed))
                    row |= _after(run.lm, task, probe_limit)
                except Diverged as error:
                    row["reason"] = str(error)
            rows.append(row)
    return pd.DataFrame(rows)


def _after(lm: LanguageModel, task: Task, limit: int | None) -> dict[str, float]:
    probed = probe(lm, task, limit=limit)
    after = {
        f"{name}_{key}": value
        for name, values in probed.metrics.items()
        for key in ("fact_accuracy", "probability")
        if not is_missing(value := values[key])
    }
    forget = probed.tokens[(probed.tokens["probe_set"] == "forget") & (probed.tokens["end"] > probed.tokens["start"])]
    if forget["span"].notna().any():
        outside = forget[forget["span"].eq(False)]
        after["generic"] = float(np.exp(outside["logp"]).mean())
    return after
