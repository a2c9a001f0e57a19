"""Token scores read off one forward pass (two with a reference), and the controls every comparison needs."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from workbench.registry import UserError
from workbench.scorers.table import Scoring, scorer


@scorer("uniform", range=(0, 1), source="control; ours")
def uniform(scoring: Scoring) -> Tensor:
    """1 on every token: full-sample unlearning."""
    return torch.ones_like(scoring.stats.logp)


@scorer("random", range=(0, 1), source="control; ours")
def random(scoring: Scoring) -> Tensor:
    """Uniform in [0, 1), drawn from the seed and the sample's id: the floor of every comparison."""
    draws = []
    for encoding in scoring.batch.encodings:
        key = f"{scoring.seed} {encoding.sample.id}".encode()
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7], "big"))
        draws.append(torch.rand(len(encoding.answer_positions), generator=generator))
    return torch.cat(draws).to(scoring.batch.device)


@scorer("surprisal", range=(0, None), source="standard")
def surprisal(scoring: Scoring) -> Tensor:
    """l_t = -log p_t under the model, in nats."""
    return scoring.stats.nll


@scorer("entropy", range=(0, None), source="arXiv 2604.17785 (ETW); likely")
def entropy(scoring: Scoring) -> Tensor:
    """T H_t / sum H: entropy of the predictive distribution, relative to the answer's mean."""
    values = scoring.stats.entropy
    assert values is not None
    return values / scoring.stats.sample_mean(values).clamp(min=1e-12)[scoring.stats.rows]


@scorer("alternatives", range=(1, None), source="standard: perplexity of the prediction")
def alternatives(scoring: Scoring) -> Tensor:
    """exp(H_t): among how many tokens the model chooses, as it were; grows fastest where the choice is open."""
    values = scoring.stats.entropy
    assert values is not None
    return values.exp()


@scorer("wga", range=(0, 1), source="arXiv 2502.19301; sure")
def wga(scoring: Scoring, *, beta: float = 1.0) -> Tensor:
    """p_t^beta: what the model is sure of."""
    return (beta * scoring.stats.logp).exp()


@scorer("satimp", range=(0, 1), source="arXiv 2505.11953; sure")
def satimp(scoring: Scoring, *, beta1: float = 5.0, beta2: float = 1.0) -> Tensor:
    """p_t^beta1 (1 - p_t)^beta2: saturation times importance."""
    p = scoring.stats.logp.exp()
    return p**beta1 * (1 - p).clamp(min=0) ** beta2


@scorer("gap", range=(None, None), needs=("reference",), source="ours")
def gap(scoring: Scoring) -> Tensor:
    """l_t(reference) - l_t(model), in nats: what only the model has memorised."""
    if scoring.reference is None:
        raise UserError("scorer 'gap' needs a reference model; name one with --reference")
    return scoring.reference.nll - scoring.stats.nll


@scorer("spans", range=(0, 1), needs=("spans",), source="oracle: uses the labels")
def spans(scoring: Scoring) -> Tensor:
    """1 on tokens that meet a labelled span, else 0."""
    out = []
    for encoding in scoring.batch.encodings:
        labels = encoding.span_labels()
        if labels is None:
            raise UserError(f"scorer 'spans' needs labelled spans, and sample '{encoding.sample.id}' has none")
        out += labels
    return torch.tensor(out, dtype=torch.float32, device=scoring.batch.device)
