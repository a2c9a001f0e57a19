"""Forget and retain losses. A forget loss is a function of packed token statistics and token weights.

Notation: l_t = -log p_t in nats, w_t the token's weight, sg() stop-gradient, ref the model before the run. "mean" is
over the batch's answer tokens or over its samples, as the objective's `over` says, so that the loss of a batch is the
mean of its parts, weighted by their tokens or samples.

An objective's `needs` name what it takes beside the log-probabilities; the rest is not computed: `reference` (the
reference's log-probability and logit of each token), `teacher` (its whole distribution), `logits` (the model's own),
`states` (of one layer), `refusal` (token ids), `refusals` or `alternates` (another answer), `rest` (weights of 0 too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import UserError
from workbench.models import TokenStats
from workbench.registry import Registry, Spec


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Spec):
    """A forget loss.

    Attributes:
        over: whether the loss is a mean over tokens or over samples.
        settings: the authors' values of a run's settings, where they differ from ours; a user's own come first.
    """

    over: Literal["tokens", "samples"]
    settings: dict[str, Any] = field(default_factory=dict)


objective = Registry("objective", ObjectiveSpec)
retain_loss = Registry("retain loss", Spec)
T = TypeVar("T")

REFUSALS = ("I do not know.", "I am not sure about that.", "I have no information on this.",
            "That is not something I can answer.", "I cannot recall anything about it.", "No idea.")  # fmt: skip


@dataclass
class ForgetTokens:
    """The forget batch as an objective gets it; what it does not need is None.

    Attributes:
        stats: packed statistics with gradient; N answer tokens of B samples.
        weights: (N,) token weights, without gradient.
        reference: statistics of the same tokens under the model before the run.
        preferred: statistics of the B preferred answers, with gradient.
        preferred_reference: the same under the model before the run.
        refusal: (R,) token ids of a refusal.
        seed: of the run, for an objective that draws random numbers.
    """

    stats: TokenStats
    weights: Tensor
    reference: TokenStats | None = None
    preferred: TokenStats | None = None
    preferred_reference: TokenStats | None = None
    refusal: Tensor | None = None
    seed: int = 0

    @property
    def marked(self) -> Tensor:
        """(N,) 1 on tokens whose weight is above 0 and at least their answer's mean, else 0."""
        mean = self.stats.sample_mean(self.weights)[self.stats.rows]
        return ((self.weights > 0) & (self.weights >= mean * (1 - 1e-6))).to(self.weights.dtype)


def needed(value: T | None) -> T:
    """The value, which is there: the trainer computes what an objective's `needs` name."""
    assert value is not None
    return value


def saturation_factor(kind: str, nll: Tensor, weighted: Tensor, beta: float) -> Tensor:
    """(N,) factor of a token's loss, without gradient, that falls as the token is forgotten.

    "weighted" is exp(-beta w l), "probability" is p^beta (which does not depend on the weight), "none" is 1.
    """
    exponents = {"weighted": weighted, "probability": nll, "none": torch.zeros_like(nll)}
    if kind not in exponents:
        raise UserError(f"saturation is weighted, probability or none, not '{kind}'")
    return (-beta * exponents[kind].detach()).exp()


@objective("grad_diff", over="tokens", source="arXiv 2310.10683", certainty="sure")
@objective("grad_ascent", over="tokens", settings={"alpha": 0.0}, source="arXiv 2210.01504", certainty="sure")
def grad_diff(tokens: ForgetTokens) -> Tensor:
    """-mean w l: unbounded ascent on the forget tokens. `grad_ascent` has no retain loss, as a control."""
    return -(tokens.weights * tokens.stats.nll).mean()


@objective("wga", over="tokens", source="arXiv 2502.19301", certainty="sure")
def wga(tokens: ForgetTokens, *, beta: float = 1.0) -> Tensor:
    """-mean w sg(p^beta) l: ascent that fades on tokens that are already improbable."""
    return -(tokens.weights * (beta * tokens.stats.logp.detach()).exp() * tokens.stats.nll).mean()


@objective("satimp", over="tokens", settings={"gamma": 0.1}, source="arXiv 2505.11953", certainty="sure")
def satimp(tokens: ForgetTokens, *, beta1: float = 5.0, beta2: float = 1.0) -> Tensor:
    """-mean w sg(p^beta1 (1 - p)^beta2) l: saturation as in `wga`, times the importance of tokens that are not certain.

    The two files of open-unlearning disagree on gamma and alpha (.1 and 1, or 1 and .1); ours are the former.
    """
    p = tokens.stats.logp.detach().exp()
    return -(tokens.weights * p**beta1 * (1 - p) ** beta2 * tokens.stats.nll).mean()


@objective("atwu", over="tokens", source="after arXiv 2606.06320", certainty="sure for the authors' code")
def atwu(tokens: ForgetTokens, *, beta: float = 5.0, saturation: str = "weighted") -> Tensor:
    """-mean w l sg(exp(-w l))^beta: weighted ascent that stops on forgotten tokens.

    The scorer `atwu` learns weights for it. `saturation_factor` has the other factors that `saturation` may name.
    """
    nll = tokens.stats.nll
    weighted = tokens.weights * nll
    return -(weighted * saturation_factor(saturation, nll, weighted, beta)).mean()


def _preference(margin: Tensor, beta: float) -> Tensor:
    """-(2/beta) mean log sigmoid(beta margin) over samples."""
    return -(2 / beta) * F.logsigmoid(beta * margin).mean()


def _drop(tokens: ForgetTokens) -> Tensor:
    """(B,) weighted fall of each forget answer's log-probability since before the run, in nats."""
    reference = needed(tokens.reference)
    return tokens.stats.sample_sum(tokens.weights * (reference.logp - tokens.stats.logp))


@objective("npo", over="samples", needs=("reference",), source="arXiv 2404.05868", certainty="sure")
def npo(tokens: ForgetTokens, *, beta: float = 0.1) -> Tensor:
    """-(2/beta) mean log sigmoid(beta sum w (l - l_ref)): ascent that fades as the answer falls below the reference.

    At the reference it is (2/beta) log 2.
    """
    return _preference(_drop(tokens), beta)


@objective("simnpo", over="samples", settings={"gamma": 0.125}, source="arXiv 2410.07163", certainty="sure")
def simnpo(tokens: ForgetTokens, *, beta: float = 4.5, delta: float = 0.0) -> Tensor:
    """-(2/beta) mean log sigmoid(beta (sum w l / T - delta)): NPO normalised by length, without a reference."""
    return _preference(tokens.stats.sample_mean(tokens.weights * tokens.stats.nll) - delta, beta)


@objective("altpo", over="samples", needs=("reference", "alternates"),
           source="after arXiv 2409.13474", certainty="sure")  # fmt: skip
@objective("dpo", over="samples", needs=("reference", "refusals"), source="after arXiv 2305.18290", certainty="sure")
def dpo(tokens: ForgetTokens, *, beta: float = 0.1) -> Tensor:
    """-(2/beta) mean log sigmoid(beta (d(other) - d(answer))), d = log p - log p_ref summed; weights on the answer.

    The other answer of `dpo` is a refusal, a sentence of ours (the samples take them in turn), that of `altpo` a wrong
    answer of the task, where its authors let the model write one.
    """
    now, before = needed(tokens.preferred), needed(tokens.preferred_reference)
    return _preference(now.sample_sum(now.logp - before.logp) + _drop(tokens), beta)


@objective("tpo", over="samples", needs=("reference", "rest"),
           source="after arXiv 2506.03142", certainty="sure, their indexing is suspect")  # fmt: skip
def tpo(tokens: ForgetTokens, *, beta: float = 0.3) -> Tensor:
    """-(2/beta) mean log sigmoid(beta m) + mean NLL of the rest, m = mean over marked tokens of z_ref - z.

    z is a token's logit. A token is marked if its weight is at least its answer's mean (with uniform weights, all are).
    The rest is trained on its NLL, so that here a weight of zero means keep.
    """
    stats, marked = tokens.stats, tokens.marked
    fall = needed(needed(tokens.reference).logit) - needed(stats.logit)
    margin = stats.sample_sum(marked * fall) / stats.sample_sum(marked).clamp(min=1)
    rest = stats.sample_sum((1 - marked) * stats.nll) / stats.sample_sum(1 - marked).clamp(min=1)
    return _preference(margin, beta) + rest.mean()


def _cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """(N,) cross-entropy of predictive distributions relative to softmax(target), in nats."""
    return -(target.softmax(-1) * logits.log_softmax(-1)).sum(-1)


@objective("undial", over="tokens", needs=("teacher", "logits"), settings={"lr": 1e-4},
           source="arXiv 2402.10052", certainty="sure")  # fmt: skip
def undial(tokens: ForgetTokens, *, strength: float = 10.0) -> Tensor:
    """Mean w CE(softmax(z_ref - strength onehot(y)), p): towards the old distribution with the answer's logit lowered.

    Over answer tokens only; open-unlearning averages over prompt and padding too.
    """
    target = needed(needed(tokens.reference).logits).clone()
    target[torch.arange(len(target)), tokens.stats.labels] -= strength
    return (tokens.weights * _cross_entropy(target, needed(tokens.stats.logits))).mean()


@objective("palu", over="tokens", needs=("teacher", "logits", "rest"), source="after arXiv 2601.03190",
           certainty="likely")  # fmt: skip
def palu(tokens: ForgetTokens, *, first: int = 1, k: int = 1) -> Tensor:
    """Mean over tokens: for the `first` of each marked stretch mean_j (z_j - mean z)^2, for the rest KL(p_ref || p).

    j runs over the k tokens most probable under ref. A token is marked as in `tpo`, so that here too a weight of zero
    means keep. How the authors find the stretches, and how they weigh the two terms (here alike), we have not seen.
    """
    stats, marked, logits = tokens.stats, tokens.marked > 0, needed(tokens.stats.logits)
    target, now = _log_distributions(stats, tokens.reference)
    within = F.pad((stats.rows[1:] == stats.rows[:-1]) & marked[:-1], (1, 0))  # the token before is marked too
    begun = marked & ~within & (first > 0)
    for _ in range(first - 1):
        begun |= marked & within & begun.roll(1)
    top = logits.gather(-1, target.topk(min(k, target.shape[-1]), -1).indices)
    flat = ((top - logits.mean(-1, keepdim=True)) ** 2).mean(-1)
    return torch.where(begun, flat, F.kl_div(now, target, reduction="none", log_target=True).sum(-1)).mean()


@objective("ce_u", over="tokens", needs=("logits",), settings={"alpha": 0.0},
           source="arXiv 2503.01224", certainty="sure")  # fmt: skip
def ce_u(tokens: ForgetTokens) -> Tensor:
    """Mean w CE(sg softmax(z with z_y = -inf), p): towards what the model would say instead. No retain loss."""
    logits = needed(tokens.stats.logits)
    target = logits.detach().clone()
    target[torch.arange(len(target)), tokens.stats.labels] = -math.inf
    return (tokens.weights * _cross_entropy(target, logits)).mean()


@objective("pdu", over="tokens", needs=("logits",), settings={"dual_rate": 1.0, "retain_eps": 0.05},
           source="after arXiv 2506.05314", certainty="sure but for the retain level")  # fmt: skip
def pdu(tokens: ForgetTokens) -> Tensor:
    """Mean w (max z - mean z)^2: flat logits; the retain loss's weight rises while it is above `retain_eps`.

    The mask of open-unlearning is one token late; this one is not.
    """
    logits = needed(tokens.stats.logits)
    return (tokens.weights * (logits.amax(-1) - logits.mean(-1)) ** 2).mean()


@objective("jensun", over="tokens", needs=("logits", "refusal"),
           settings={"gamma": 0.5, "alpha": 0.5, "retain_loss": "jsd"},
           source="after arXiv 2509.02820", certainty="sure")  # fmt: skip
def jensun(tokens: ForgetTokens) -> Tensor:
    """Mean w JSD(p, onehot(r)), in nats: the t-th answer token becomes the t-th token of a refusal, repeated to length.

    With q the probability of that token, JSD = log 2 + (q log q - (1 + q) log(1 + q)) / 2. The target is a distribution
    here; the authors' sums to the refusal's length.
    """
    stats, refusal = tokens.stats, needed(tokens.refusal)
    place = torch.cat([torch.arange(count, device=refusal.device) for count in stats.counts.tolist()])
    target = refusal[place % len(refusal)]
    log_q = needed(stats.logits).log_softmax(-1).gather(-1, target[:, None])[:, 0]
    q = log_q.exp()
    return (tokens.weights * (math.log(2) + (q * log_q - (1 + q) * q.log1p()) / 2)).mean()


@objective("rmu", over="tokens", needs=("states",), settings={"retain_loss": "states"},
           source="after arXiv 2403.03218", certainty="sure")  # fmt: skip
def rmu(tokens: ForgetTokens, *, coefficient: float = 20.0, layer: int = 0) -> Tensor:
    """Mean w |h_L - c u|^2 / d: steers the states of layer L that predict the answer to c u, u = rand(d) / its norm.

    The authors steer the states at the tokens; ours are those that predict them, so that a token's weight counts where
    it is predicted. `layer` 0 means 7/16 of the depth, since theirs is 7 of 16.
    """
    states = needed(tokens.stats.states)
    u = torch.rand(states.shape[-1], generator=torch.Generator().manual_seed(tokens.seed), dtype=torch.float64)
    target = (coefficient * u / u.norm()).to(states)
    return (tokens.weights * ((states - target) ** 2).mean(-1)).mean()


@retain_loss("nll", needs=(), source="standard", certainty="sure")
def nll(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean l_t on the retain answers."""
    return stats.nll.mean()


@retain_loss("kl", needs=("teacher",), source="standard", certainty="sure")
def kl(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean over retain answer tokens of KL(p before unlearning || p now), in nats."""
    target, now = _log_distributions(stats, reference)
    return F.kl_div(now, target, reduction="none", log_target=True).sum(-1).mean()


@retain_loss("jsd", needs=("teacher",), source="arXiv 2509.02820", certainty="sure")
def jsd(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean over retain answer tokens of the Jensen-Shannon divergence of p before and now, in nats; at most log 2."""
    target, now = _log_distributions(stats, reference)
    middle = torch.logaddexp(target, now) - math.log(2)
    return (target.exp() * (target - middle) + now.exp() * (now - middle)).sum(-1).mean() / 2


@retain_loss("states", needs=("states",), source="after arXiv 2403.03218", certainty="sure")
def states(stats: TokenStats, reference: TokenStats | None) -> Tensor:
    """Mean squared difference between one layer's states before the run and now, where retain answers are predicted."""
    return F.mse_loss(needed(stats.states), needed(needed(reference).states))


def _log_distributions(stats: TokenStats, reference: TokenStats | None) -> tuple[Tensor, Tensor]:
    """(N, V) log-probabilities before the run and now."""
    before, now = needed(needed(reference).logits), needed(stats.logits)
    return before.log_softmax(-1), now.log_softmax(-1)
