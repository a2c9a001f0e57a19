"""A model's statistics of the answer tokens of a batch: log-probabilities, entropies, ranks, states.

They are packed: one entry per answer token over all samples, without padding. Code that works on them needs neither a
mask nor a label shift, because `token_stats` has done both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench.models import forward
from workbench.models.batch import TokenBatch

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

Where = Literal["token", "predicting"]

# Answer tokens whose distributions are computed at once where no gradient is needed: so many, and so many logits.
ROWS, LOGITS = 512, 1 << 25


@dataclass
class TokenStats:
    """Statistics of N answer tokens, packed over the batch. Those that were not requested are None.

    Attributes:
        rows: (N,) sample of each token, as an index into the batch.
        labels: (N,) token ids.
        logp: (N,) log-probability of the token, in nats; carries gradient if the model does. Without gradient it is
            NaN where one of the logits is not finite.
        logit: (N,) the token's own logit, with gradient if the model has it.
        entropy: (N,) entropy of the predictive distribution, in nats.
        breadth: (N,) (sum_i sqrt p_i)^2 of that distribution: the effective number of tokens, of order 1/2.
        rank: (N,) how many tokens are more probable, or as probable and of a lower id; 0 is the argmax, -1 where the
            logits are not finite.
        deviation: (N,) standard deviation of log p under the predictive distribution; its mean is minus the entropy.
        hidden: (N, d) state at the token itself, or at the position that predicts it; of k layers (N, k d).
        logits: (N, V) in float32 at least, with gradient if the model has it.
        states: (N, d) state of one layer at the position that predicts the token, with gradient if the model has it.
        top_ids: (N, k) most probable tokens, with `top_logp` (N, k).
        samples: number of samples in the batch.
    """

    rows: Tensor
    labels: Tensor
    logp: Tensor
    samples: int
    entropy: Tensor | None = None
    breadth: Tensor | None = None
    rank: Tensor | None = None
    deviation: Tensor | None = None
    hidden: Tensor | None = None
    logits: Tensor | None = None
    logit: Tensor | None = None
    states: Tensor | None = None
    top_ids: Tensor | None = None
    top_logp: Tensor | None = None
    _counts: Tensor | None = field(default=None, repr=False)

    @property
    def nll(self) -> Tensor:
        """(N,) l_t = -log p_t, in nats."""
        return -self.logp

    @property
    def counts(self) -> Tensor:
        """(B,) answer tokens of each sample."""
        if self._counts is None:
            self._counts = torch.bincount(self.rows, minlength=self.samples)
        return self._counts

    def split(self, samples: int) -> tuple[TokenStats, TokenStats]:
        """Statistics of the first `samples` samples, and of the others."""
        tokens = int(self.counts[:samples].sum())
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("samples", "_counts")}
        first = {name: value[:tokens] for name, value in values.items() if value is not None}
        rest = {name: value[tokens:] for name, value in values.items() if value is not None}
        rest["rows"] = rest["rows"] - samples
        return TokenStats(**first, samples=samples), TokenStats(**rest, samples=self.samples - samples)

    def sample_sum(self, values: Tensor) -> Tensor:
        """(B,) sum of a per-token value over each sample."""
        return torch.zeros(self.samples, dtype=values.dtype, device=values.device).index_add(0, self.rows, values)

    def sample_mean(self, values: Tensor) -> Tensor:
        """(B,) mean of a per-token value over each sample."""
        return self.sample_sum(values) / self.counts.clamp(min=1)


def token_stats(
    lm: LanguageModel,
    batch: TokenBatch,
    *,
    extras: bool = True,
    deviation: bool = False,
    hidden: Where | tuple[Where, ...] | None = None,
    layer: int | tuple[int, ...] = -1,
    logits: bool = False,
    states: int | None = None,
    top_k: int = 0,
    recompute: bool = False,
    embeddings: Tensor | None = None,
    cache: Any = None,
) -> TokenStats:
    """Statistics of the answer tokens: the only label shift and mask in the package.

    The token at position c is predicted by the state at c - 1. Logits are computed at these positions only.

    Args:
        lm: the model.
        batch: B samples with N answer tokens in all.
        extras: also entropy, breadth and rank (without gradient).
        deviation: also the entropy and the deviation (without gradient).
        hidden: also the states at the token, or at the position that predicts it; float32, detached.
        layer: of which layer, as an index into the model's hidden states (0 embeddings, -1 last). Of several, the
            states stand side by side, (N, layers x d); `hidden` is then one for all of them, or one for each.
        logits: also the logits themselves.
        states: also the predicting states of this layer, float32, with gradient.
        top_k: also the k most probable tokens and their log-probabilities.
        recompute: with gradient, too, hold the logits of a few tokens at once, and compute them again for the gradient.
        embeddings: (B, L, d) inputs in place of the embeddings of the batch's tokens.
        cache: of transformers, which is told the keys and values.
    """
    of = (layer,) if isinstance(layer, int) else layer
    at = (hidden,) * len(of) if isinstance(hidden, str) else hidden or ()
    read = list(zip(at, of, strict=True)) if at else []
    layers = [*(each for _, each in read), *([states] if states is not None else [])]
    labels = batch.input_ids[batch.rows, batch.columns]
    forward.head_is_plain(lm, batch)  # tested here, since a sharded model cannot be called within its own forward

    def compute() -> dict[str, Tensor]:
        layer_states, places, predicting, head = forward.states_and_head(lm, batch, layers, embeddings, cache)
        training = predicting.requires_grad and lm.module.training
        if training and not (logits or extras or deviation or top_k) and forward.in_pieces(head, len(labels)):
            values = dict(zip(("logp", "logit"), forward.label_logp(lm, head, predicting, labels), strict=True))
        else:
            # Without gradient the (N, V) rows are computed piece by piece: all at once can take gigabytes.
            rows = max(1, min(ROWS, LOGITS // lm.config.vocab_size))
            whole = logits or (predicting.requires_grad and not recompute)
            size = max(1, len(labels)) if whole else rows

            def of_rows(rows: Tensor, ids: Tensor) -> dict[str, Tensor]:
                scores = forward.logits_of(lm, head, rows)
                return _values(scores, ids, extras, deviation, top_k) | ({"logits": scores} if logits else {})

            again = predicting.requires_grad and len(labels) > size  # keep no logits for the backward pass
            call = partial(checkpoint, of_rows, use_reentrant=False) if again else of_rows
            parts = [call(*piece) for piece in zip(predicting.split(size), labels.split(size), strict=True)]
            values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if states is not None:
            values["states"] = layer_states[states][places - 1].float()
        if hidden is not None:
            beside = [layer_states[each].detach()[places - int(w == "predicting")].float() for w, each in read]
            values["hidden"] = torch.cat(beside, dim=-1)
        return values

    return TokenStats(batch.rows, labels, samples=len(batch.encodings), **lm.run(compute))


def _values(scores: Tensor, labels: Tensor, extras: bool, deviation: bool, top_k: int) -> dict[str, Tensor]:
    """The labels' log-probability and logit from logits (N, V); with the rest as in `token_stats`."""
    logp = -F.cross_entropy(scores, labels, reduction="none")
    values = {"logp": logp, "logit": scores.gather(-1, labels[:, None])[:, 0]}
    with torch.no_grad():
        broken = ~scores.detach().sum(-1).isfinite()  # a comparison with NaN would give rank 0, the best
        if not scores.requires_grad:
            values["logp"] = logp.masked_fill(broken, torch.nan)
        if extras or deviation or top_k:
            log_all = scores.detach().log_softmax(-1)
        if extras or deviation:
            p_all = log_all.exp()
            values["entropy"] = -(p_all * log_all).sum(-1)
        if extras:
            values["breadth"] = (log_all / 2).logsumexp(-1).mul(2).exp().masked_fill(broken, torch.nan)
            own = values["logit"][:, None]
            # Of tokens that tie the first comes first, as for argmax: else all would be right where all are equal.
            first = torch.arange(scores.shape[-1], device=scores.device) < labels[:, None]
            ahead = (scores > own).logical_or_((scores == own).logical_and_(first))
            values["rank"] = ahead.sum(-1).masked_fill(broken, -1)
        if top_k:
            top = log_all.topk(min(top_k, scores.shape[-1]), dim=-1)
            values |= {"top_ids": top.indices, "top_logp": top.values.masked_fill(broken[:, None], torch.nan)}
        if deviation:  # in place, since a row may be of a quarter of a million numbers
            spread = log_all.add_(values["entropy"][:, None]).square_().mul_(p_all)
            values["deviation"] = spread.sum(-1).sqrt()
    return values
