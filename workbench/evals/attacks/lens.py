"""Logit lens: the fact read off each layer by the model's own final norm and head."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.evals.attacks.spec import Outcome, Target, recovery
from workbench.evals.attacks.states import (
    columns_of,
    fact_means,
    fact_tokens,
    final_norm,
    label_logp,
    of_samples,
    outputs,
)
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


TOP = 5  # of the most probable tokens that a map keeps


class Reading(NamedTuple):
    """What the lens reads off each layer for N answer tokens."""

    logp: Tensor  # (layers, N) log-probability of the token
    rank: Tensor  # (layers, N) how many are more probable
    top: Tensor  # (layers, N, TOP) ids of the most probable ones
    top_p: Tensor  # (layers, N, TOP) their probabilities


def lens_of(lm: LanguageModel, batch: TokenBatch) -> Reading:
    """What the final norm and head make of each decoder layer's output, for each answer token.

    The state is the one that predicts the token; the last layer gives the model's own log-probability.
    """
    norm, head = final_norm(lm, batch), lm.module.get_output_embeddings()
    with torch.no_grad(), padding(lm), outputs(lm) as states:
        label_logp(lm, batch)
        labels = batch.input_ids[batch.rows, batch.columns][:, None]
        parts = []
        for each in states:
            with lm.autocast():
                rows = norm(each)[batch.rows, batch.columns - 1]
            logits = logits_of(lm, head, rows)
            own, total = logits.gather(-1, labels), logits.logsumexp(-1, keepdim=True)
            best, ids = logits.topk(min(TOP, logits.shape[-1]), dim=-1)
            parts.append(((own - total)[:, 0], (logits > own).sum(-1), ids, (best - total).exp()))
    return Reading(*(torch.stack(each) for each in zip(*parts, strict=True)))


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
    texts: dict[int, str] = {}
    by_index: dict[int, dict[str, Any]] = {}
    for indices, batch in batches(target.lm, encodings, target.batch_size):
        lens = lens_of(target.lm, batch)
        of_layers = torch.stack([fact_means(layer, batch) for layer in lens.logp], 1)
        worst, maps = _worst_ranks(lens.rank, batch), [of_samples(each, batch) for each in lens]
        for index, means, rank, *of_sample in zip(indices, of_layers.tolist(), worst.tolist(), *maps, strict=True):
            by_index[index] = {"logp_by_layer": means, "rank_by_layer": rank, **columns_of(encodings[index])}
            by_index[index] |= _maps(target.lm, texts, *of_sample)
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


def _maps(
    lm: LanguageModel, texts: dict[int, str], logp: np.ndarray, rank: np.ndarray, top: np.ndarray, top_p: np.ndarray
) -> dict[str, Any]:
    """An answer's maps as columns; the most probable tokens are places in a list of texts of its own."""
    ids, places = np.unique(top, return_inverse=True)
    for each in ids.tolist():
        if each not in texts:
            texts[each] = lm.tokenizer.decode([each])
    maps = {"logp_map": logp, "rank_map": rank, "top_map": places.ravel().astype(np.int32), "top_p_map": top_p}
    return maps | {"vocabulary": [texts[each] for each in ids.tolist()]}


def _row(sample: Sample, layers: dict[str, Any]) -> dict[str, Any]:
    logps, ranks = layers["logp_by_layer"], layers["rank_by_layer"]
    best = int(np.argmax(logps))
    return {
        **{"sample_id": sample.id, "prompt": sample.question, "answer": sample.answer},
        **{"text": f"layer {best + 1}: rank {ranks[best]}", "value": float(np.exp(logps[best]))},
        **{"measure": TOKENS, "tries": len(logps), "hits": sum(rank == 0 for rank in ranks)},
        **layers,
    }
