"""Logit lens: the fact read off each layer by the model's own final norm and head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.evals.attacks.spec import Outcome, Target, recovery
from workbench.evals.attacks.states import fact_means, fact_tokens, final_norm, label_logp, logp_of, outputs
from workbench.models import (
    LanguageModel,
    TokenBatch,
    batches,
    decoder_layers,
    encode,
    forward_products,
    logits_of,
    padding,
)
from workbench.tasks import Sample, spread

TOKENS = "the fact's tokens"


def lens_of(lm: LanguageModel, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """(layers, N) log-probability and rank of each answer token, read off the output of each decoder layer.

    The state is the one that predicts the token; the last layer gives the model's own log-probability.
    """
    norm, head = final_norm(lm, batch), lm.module.get_output_embeddings()
    with torch.no_grad(), padding(lm), outputs(lm) as states:
        label_logp(lm, batch)
        labels = batch.input_ids[batch.rows, batch.columns]
        logps, ranks = [], []
        for each in states:
            with lm.autocast():
                rows = norm(each)[batch.rows, batch.columns - 1]
            logits = logits_of(lm, head, rows)
            logps.append(logp_of(logits, batch))
            ranks.append((logits > logits.gather(-1, labels[:, None])).sum(-1))
    return torch.stack(logps), torch.stack(ranks)


def reading(target: Target, passes: float = 1) -> float:
    """FLOPs of forward passes over the answers."""
    some = spread(target.task.forget, min(64, target.limit or 64))
    count = min(len(target.task.forget), target.limit or len(target.task.forget))
    tokens = sum(len(encode(target.lm, s).ids) for s in some) / len(some) * count
    forward, _, row = forward_products(target.lm)
    return passes * tokens * (forward + row)


def read(target: Target) -> list[Sample]:
    """The answers whose states are read: of the forget set."""
    return spread(target.task.forget, target.limit)


@recovery(
    "logit_lens",
    cost=lambda target: reading(target, 1 + len(decoder_layers(target.lm)) / 2),
    source="fixed decoder, as in arXiv 2605.24614; its best layer: ours",
    certainty="sure",
    unit="probability",
    behavioural=False,
)
def logit_lens(target: Target) -> Outcome:
    """Probability of the fact at the layer where it is most probable, by the final norm and head; mean over answers.

    exp of the mean log-probability of the fact's tokens (without labels: of the answer's). The parts have, by layer,
    the mean log-probability, and the share of answers where each of the fact's tokens is the first choice (rank 0).
    """
    samples = read(target)
    encodings = [encode(target.lm, s) for s in samples]
    by_index: dict[int, dict[str, Any]] = {}
    for indices, batch in batches(target.lm, encodings, target.batch_size):
        logps, ranks = lens_of(target.lm, batch)
        of_layers = torch.stack([fact_means(layer, batch) for layer in logps], 1)
        worst = _worst_ranks(ranks, batch)
        for index, means, rank in zip(indices, of_layers.tolist(), worst.tolist(), strict=True):
            by_index[index] = {"logp_by_layer": means, "rank_by_layer": rank}
        target.progress("logit_lens", len(by_index), len(samples))
    rows = pd.DataFrame([_row(s, by_index[n]) for n, s in enumerate(samples)])
    parts = {
        "logp_by_layer": np.mean(rows["logp_by_layer"].tolist(), axis=0).tolist(),
        "first_choice_by_layer": np.mean(np.array(rows["rank_by_layer"].tolist()) == 0, axis=0).tolist(),
    }
    return Outcome(rows, float(rows["value"].mean()), parts)


def _worst_ranks(ranks: Tensor, batch: TokenBatch) -> Tensor:
    """(B, layers) the highest rank among each sample's fact tokens."""
    chosen = torch.tensor([flag for e in batch.encodings for flag in fact_tokens(e)], device=ranks.device)
    out = torch.zeros(len(batch.encodings), len(ranks), dtype=ranks.dtype, device=ranks.device)
    index = batch.rows[chosen][:, None].expand(-1, len(ranks))
    return out.scatter_reduce(0, index, ranks[:, chosen].T, "amax")


def _row(sample: Sample, layers: dict[str, Any]) -> dict[str, Any]:
    logps, ranks = layers["logp_by_layer"], layers["rank_by_layer"]
    best = int(np.argmax(logps))
    return {
        **{"sample_id": sample.id, "prompt": sample.question, "answer": sample.answer},
        **{"text": f"layer {best + 1}: rank {ranks[best]}", "value": float(np.exp(logps[best]))},
        **{"measure": TOKENS, "tries": len(logps), "hits": sum(rank == 0 for rank in ranks)},
        **layers,
    }
