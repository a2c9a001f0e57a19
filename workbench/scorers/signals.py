"""Token scores from one forward pass (two with a reference), and the controls that every comparison needs."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import UserError
from workbench.scorers.base import BatchContext, random_source, scorer


@scorer("uniform", range=(0, 1), source="control", certainty="ours")
def uniform(scoring: BatchContext, *, ignore_first: int = 0) -> Tensor:
    """1 on every token: full-sample unlearning. 0 on the first `ignore_first` tokens of each answer."""
    return (_places(scoring) > ignore_first).float()


@scorer("random", range=(0, 1), source="control", certainty="ours")
def random(scoring: BatchContext) -> Tensor:
    """Uniform in [0, 1), drawn from the seed and the sample's id: the floor of every comparison."""
    draws = []
    for encoding in scoring.batch.encodings:
        generator = random_source(scoring.seed, encoding.sample.id)
        draws.append(torch.rand(len(encoding.answer_positions), generator=generator))
    return torch.cat(draws).to(scoring.batch.device)


@scorer("position", range=(0, 1), source="control", certainty="ours")
def position(scoring: BatchContext) -> Tensor:
    """Position in the answer, t / T: later tokens score higher, whatever they are."""
    return _places(scoring, share=True)


def _places(scoring: BatchContext, share: bool = False) -> Tensor:
    """(N,) place of each token in its answer, from 1; with `share` as a share of its length. Needs no forward pass."""
    counts = [len(encoding.answer_positions) for encoding in scoring.batch.encodings]
    places = [torch.arange(1, n + 1) / (n if share else 1) for n in counts]
    return torch.cat(places).to(scoring.batch.device)


@scorer("surprisal", range=(0, None), source="standard", certainty="sure")
def surprisal(scoring: BatchContext) -> Tensor:
    """l_t = -log p_t under the model, in nats."""
    return scoring.stats.nll


@scorer("entropy", range=(0, None), source="arXiv 2604.17785 (ETW)", certainty="likely")
def entropy(scoring: BatchContext) -> Tensor:
    """T H_t / sum H: entropy of the predictive distribution, relative to the answer's mean."""
    values = scoring.stats.entropy
    assert values is not None
    return values / scoring.stats.sample_mean(values).clamp(min=1e-12)[scoring.stats.rows]


@scorer("alternatives", range=(1, None), source="standard: perplexity of the prediction", certainty="sure")
def alternatives(scoring: BatchContext) -> Tensor:
    """exp(H_t): the effective number of tokens among which the model chooses."""
    values = scoring.stats.entropy
    assert values is not None
    return values.exp()


@scorer("breadth", range=(1, None), source="standard: Hill number of order 1/2", certainty="sure")
def breadth(scoring: BatchContext) -> Tensor:
    """(sum_i sqrt p_i)^2: the effective number of tokens among which the model chooses; the unlikely count more."""
    values = scoring.stats.breadth
    assert values is not None
    return values


@scorer("wga", range=(0, 1), source="arXiv 2502.19301", certainty="sure")
def wga(scoring: BatchContext, *, beta: float = 1.0) -> Tensor:
    """p_t^beta: high where the model is sure. The weight of the objective `wga`, as scores."""
    return (beta * scoring.stats.logp).exp()


@scorer("satimp", range=(0, 1), source="arXiv 2505.11953", certainty="sure")
def satimp(scoring: BatchContext, *, beta1: float = 5.0, beta2: float = 1.0) -> Tensor:
    """p_t^beta1 (1 - p_t)^beta2: saturation times importance. The weight of the objective `satimp`, as scores."""
    p = scoring.stats.logp.exp()
    return p**beta1 * (1 - p).clamp(min=0) ** beta2


@scorer("gap", range=(None, None), needs=("reference",), source="ours", certainty="ours")
def gap(scoring: BatchContext) -> Tensor:
    """l_t(reference) - l_t(model), in nats: high where only the model has memorised the token."""
    assert scoring.reference is not None
    return scoring.reference.nll - scoring.stats.nll


@scorer("tnpo", range=(0, 2), needs=("reference",), source="arXiv 2502.19301 (token-wise NPO)", certainty="likely")
def tnpo(scoring: BatchContext, *, beta: float = 1.0) -> Tensor:
    """2 p^beta / (p^beta + p_ref^beta): 1 where both models agree, up to 2 where only the model expects the token."""
    assert scoring.reference is not None
    return 2 * torch.sigmoid(beta * (scoring.stats.logp - scoring.reference.logp))


@scorer("su", range=(0, 1), needs=("reference",), source="after arXiv 2506.00876", certainty="likely")
def su(scoring: BatchContext, *, k: float = 0.0, context: int = 2) -> Tensor:
    """1 where |p_ref - p| > mean + k std of the answer, and on `context` tokens to either side; else 0.

    The paper does not say on which side the context is; ours is on both.
    """
    assert scoring.reference is not None
    moved = (scoring.reference.logp.exp() - scoring.stats.logp.exp()).abs()
    chosen = [part > part.mean() + k * part.std(unbiased=False) for part in _answers(moved, scoring)]
    width = 2 * max(0, context) + 1
    grown = [F.max_pool1d(c[None, None].float(), width, 1, width // 2)[0, 0] for c in chosen]
    return _known(torch.cat(grown), moved, scoring)


@scorer("seul", range=(0, 1), source="after arXiv 2402.05813", certainty="likely")
def seul(scoring: BatchContext, *, k: float = 0.0, gap: int = 2) -> Tensor:
    """1 where log p < mean + k std of the answer, and in gaps of at most `gap` tokens between two such; else 0."""
    out = []
    for part in _answers(scoring.stats.logp, scoring):
        chosen = part < part.mean() + k * part.std(unbiased=False)
        places = chosen.nonzero().flatten().tolist()
        for left, right in pairwise(places):
            if right - left - 1 <= gap:
                chosen[left:right] = True
        out.append(chosen.float())
    return _known(torch.cat(out), scoring.stats.logp, scoring)


def _known(scores: Tensor, values: Tensor, scoring: BatchContext) -> Tensor:
    """Scores that compare values within an answer: NaN where one of the answer's values is, as no comparison tells."""
    broken = [part.isnan().any().expand(len(part)) for part in _answers(values, scoring)]
    return scores.masked_fill(torch.cat(broken), torch.nan)


def _answers(values: Tensor, scoring: BatchContext) -> tuple[Tensor, ...]:
    """Packed values as one tensor an answer."""
    return values.detach().split(scoring.stats.counts.tolist())


@scorer("spans", range=(0, 1), needs=("spans",), source="oracle: uses the labels", certainty="ours")
def spans(scoring: BatchContext) -> Tensor:
    """1 on tokens that overlap a labelled span, else 0."""
    out = []
    for encoding in scoring.batch.encodings:
        labels = encoding.span_labels()
        if labels is None:
            raise UserError(f"scorer 'spans' needs labelled spans, and sample '{encoding.sample.id}' has none")
        out += labels
    return torch.tensor(out, dtype=torch.float32, device=scoring.batch.device)
