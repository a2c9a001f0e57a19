"""Amortised scores: a linear map from hidden states to a token signal, in closed form and without labels.

A signal such as the entropy is noisy, and on memorised text it is nearly zero. The map is fitted on other text, where
the model is unsure, and predicts how unsure the model would be of a memorised token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from workbench.errors import NOT_FINITE, UnsupportedError, UserError, check_least, note
from workbench.models import LanguageModel, TokenStats, in_sample_order
from workbench.scorers.base import BatchContext, TaskContext, plain_scorers, scorer
from workbench.tasks import Sample, spread

GRID = [10.0**power for power in np.arange(-3.0, 2.01, 0.5)]
FOLDS = 5
MEMORISED = 0.5  # nats per token; text that a model has not seen is above 1


@dataclass
class LinearMap:
    """s = w . (h - shift) / scale + b: the expected signal at a token with hidden state h.

    Attributes:
        state: "w", "shift" and "scale" (d,), and "b" (1,).
        device: where these tensors are.
        signal: the scorer that it predicts.
        hidden: the state at the token itself, or the one that predicts it.
        layer: of which layer, as an index into the model's hidden states.
        ridge: the penalty, per token.
    """

    state: dict[str, Tensor] = field(repr=False)
    device: str = "cpu"
    signal: str = "alternatives"
    hidden: Literal["token", "predicting"] = "token"
    layer: int = -1
    ridge: float = 1.0
    name: ClassVar[str] = "amortised"
    relative: ClassVar[bool] = True  # as weights, its scores are divided by the batch's mean
    pretrain: ClassVar[int] = 0

    def to(self, device: Any) -> LinearMap:
        """The same map on another device."""
        return replace(self, state={name: tensor.to(device) for name, tensor in self.state.items()}, device=str(device))

    def learns_at(self, step: int) -> bool:
        """Never: as a run's live scorer it is applied to the states as they change."""
        return False

    def scores(self, stats: TokenStats) -> Tensor:
        """(N,) expected signal of a batch's answer tokens, in the signal's unit."""
        assert stats.hidden is not None
        return self.predict(stats.hidden)

    def predict(self, hidden: Tensor) -> Tensor:
        """(N,) expected signal at hidden states (N, d)."""
        return (hidden.float() - self.state["shift"]) / self.state["scale"] @ self.state["w"] + self.state["b"]


def ridge_by_sample(
    states: Tensor, signal: Tensor, groups: Tensor, grid: list[float]
) -> tuple[dict[str, Tensor], float, Tensor]:
    """Ridge regression of a signal on standardised states; the penalty by cross-validation over whole samples.

    Minimises sum (y - b - w . z)^2 + c n |w|^2 over n tokens. Of the penalties c in `grid`, the one-standard-error rule
    takes the largest whose held-out error is within one standard error of the least. The folds share sums of products,
    so that the states are read once.

    States are (N, d) and the signal y is (N,). `groups` (N,) is the fold of each token, from 0; all tokens of a sample
    are in one fold. The penalties of the grid ascend; a single one is used as it is.

    Returns:
        the map's tensors, the penalty, and the held-out mean squared errors (penalties x folds).
    """
    states, signal = states.double(), signal.double()
    spread_of, shift = torch.std_mean(states, dim=0, correction=0)
    scale = spread_of + 1e-6 * spread_of.mean() + 1e-12
    level = signal.mean()
    z = ((states - shift) / scale).float()  # standardised, so that float32 is enough for their products
    z = torch.cat([z, torch.ones(len(z), 1, device=z.device)], 1)
    y = signal - level
    parts = [(z[groups == f], y[groups == f]) for f in range(int(groups.max()) + 1)]
    gram = torch.stack([a.T @ a for a, _ in parts]).double()  # the last column counts and sums, for centring
    moment = torch.stack([a.T @ b.float() for a, b in parts]).double()
    square = torch.stack([b @ b for _, b in parts])

    def solve(left_out: int, penalties: list[float]) -> list[Tensor]:
        kept = [f for f in range(len(parts)) if f != left_out]
        totals, total_moment = gram[kept, -1].sum(0), moment[kept].sum(0)
        count, sums, total = totals[-1], totals[:-1], total_moment[-1]
        if few := int(count) <= len(sums):  # by the products of tokens, which are fewer than those of numbers
            a = torch.cat([parts[f][0][:, :-1] for f in kept]).double() - sums / count
            b = torch.cat([parts[f][1] for f in kept]) - total / count
            square, target = a @ a.T, b
        else:
            square = sum(gram[f, :-1, :-1] for f in kept) - torch.outer(sums, sums) / count
            target = total_moment[:-1] - sums * total / count
        if len(penalties) == 1:
            square.diagonal().add_(penalties[0] * count)
            weights = [torch.linalg.solve(square, target)]
        else:
            values, vectors = torch.linalg.eigh(square)
            along = vectors.T @ target
            weights = [vectors @ (along / (values + penalty * count)) for penalty in penalties]
        weights = [a.T @ w for w in weights] if few else weights
        return [torch.cat([w, ((total - sums @ w) / count)[None]]) for w in weights]

    errors = torch.zeros(len(grid), len(parts), dtype=torch.float64)
    if len(grid) > 1:
        for f in range(len(parts)):
            for place, w in enumerate(solve(f, grid)):
                errors[place, f] = (square[f] - 2 * w @ moment[f] + w @ gram[f] @ w) / gram[f][-1, -1]
    mean, error = errors.mean(1), errors.std(1, correction=min(1, len(parts) - 1)) / len(parts) ** 0.5
    best = int(mean.argmin())
    near = [place for place in range(len(grid)) if mean[place] <= mean[best] + error[best]] if len(grid) > 1 else [0]
    penalty = grid[near[-1]]
    w = solve(-1, [penalty])[0]
    tensors = {"w": w[:-1], "b": (w[-1] + level)[None], "shift": shift, "scale": scale}
    return {name: tensor.float() for name, tensor in tensors.items()}, penalty, errors


@dataclass
class Reading:
    """The data of a fit: the states (T, d) and the signal (T,) of each sample's answer tokens."""

    states: list[Tensor]
    signal: list[Tensor]

    def fit(self, folds: list[int], ridge: float, leave_out: int | None = None) -> tuple[dict[str, Tensor], float]:
        """The map's tensors and its penalty, from the fold of each sample; samples of `leave_out` are not used."""
        kept = [i for i, fold in enumerate(folds) if fold != leave_out]
        _, groups = torch.unique(torch.tensor([folds[i] for i in kept]), return_inverse=True)  # no empty folds
        if not ridge and int(groups.max()) < 1:
            raise UserError("all samples to fit on are in one fold; give a ridge, or more rows")
        states, signal = (torch.cat([each[i] for i in kept]) for each in (self.states, self.signal))
        groups = groups.repeat_interleave(torch.tensor([len(self.signal[i]) for i in kept])).to(states.device)
        tensors, penalty, _ = ridge_by_sample(states, signal, groups, [ridge] if ridge else GRID)
        return tensors, penalty


@torch.no_grad()
def read(
    context: TaskContext, lm: LanguageModel, samples: list[Sample], signal: str, hidden: Any, layer: Any
) -> Reading:
    """The states and the signal of some samples, by one forward pass; arguments as for `fit_map`.

    Raises:
        UserError: no map can be fitted to this signal, state or number of samples.
    """
    if scorer[signal].kind != "batch":
        raise UserError(f"the signal '{signal}' is no plain scorer; choose one of {', '.join(plain_scorers())}")
    if "spans" in (needs := scorer[signal].needs):
        raise UserError(f"the signal '{signal}' is the labels, and a map is to be fitted without them; choose another")
    if "reference" in needs and context.reference is None:
        raise UserError(f"the signal '{signal}' needs a reference model; name one as reference (--reference)")
    if isinstance(hidden, str) and hidden not in ("token", "predicting"):
        raise UserError(f"hidden is token or predicting, not '{hidden}'")
    if len(samples) < 2:
        raise UserError(f"a map cannot be fitted on {len(samples)} samples; give more rows to fit on")
    parts, surprisals = [], []
    for indices, batch, stats in context.passes(lm, samples, hidden=hidden, layer=layer):
        scoring = BatchContext(lm, batch, context.reference, context.seed, context.cost)
        scoring.stats = stats  # already computed, with the states
        values = scorer[signal].function(scoring)
        assert stats.hidden is not None
        if not bool(stats.hidden.isfinite().all() & values.isfinite().all()):
            raise UnsupportedError(f"no map can be fitted: {NOT_FINITE} ({lm.name})")
        surprisals.append(stats.nll)
        sizes = stats.counts.tolist()
        parts.append((indices, zip(stats.hidden.split(sizes), values.split(sizes), strict=True)))
    states, signals = zip(*in_sample_order(parts), strict=True)
    if context.task.sets.get("unlabelled") and samples[0] in context.task.sets["unlabelled"]:
        mean = float(torch.cat(surprisals).mean())
        if mean < MEMORISED:
            line = f"the unlabelled text looks memorised (mean answer NLL {mean:.2f}), so that it says little; "
            note(f"workbench: {line}give text of the same kind that the model was not trained on")
    return Reading(list(states), list(signals))


def check_ridge(ridge: float) -> None:
    """Raise for a penalty that is negative or not finite."""
    if not 0 <= ridge < math.inf:
        raise UserError(f"ridge must be at least 0 and finite, not {ridge}")


def fit_map(
    context: TaskContext,
    lm: LanguageModel,
    samples: list[Sample],
    *,
    signal: str = "alternatives",
    hidden: Literal["token", "predicting"] = "token",
    layer: int = -1,
    ridge: float = 0.0,
) -> LinearMap:
    """Fit a linear map from a model's hidden states to a signal of the same model, on the text of some samples.

    The options are those of `amortised`; batch size, seed, reference and costs are the context's.
    """
    check_ridge(ridge)
    text = read(context, lm, samples, signal, hidden, layer)
    fold_of = draw_folds(samples, context.seed)
    tensors, penalty = text.fit([fold_of[s.id] for s in samples], ridge)
    return LinearMap(tensors, str(lm.device), signal, hidden, layer, penalty)


def draw_folds(samples: list[Sample], seed: int) -> dict[str, int]:
    """A fold for each sample id, drawn from the seed; the sizes of folds differ by one at most."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    return {samples[i].id: place % min(FOLDS, len(samples)) for place, i in enumerate(order)}


def other_text(context: TaskContext, rows: int) -> list[Sample]:
    """Text to fit on that need not be forgotten: the task's unlabelled text where there is some, else retain text.

    At most `rows` samples, evenly spread. Unlabelled text is text of the same kind that the model was not trained on.
    """
    check_least(2, rows=rows)
    return spread(context.task.sets.get("unlabelled") or context.task.retain, rows)


@scorer("amortised", range=(None, None), kind="task", needs=("text",), source="ours", certainty="ours")
@torch.no_grad()
def amortised(
    context: TaskContext,
    *,
    signal: str = "alternatives",
    hidden: str = "token",
    layer: int = -1,
    ridge: float = 0.0,
    rows: int = 500,
    text: str = "other",
) -> list[np.ndarray]:
    """A signal's expected value at a token's hidden state: a ridge map fitted on other text, without labels.

    Args:
        context: the task.
        signal: the name of a scorer of kind "batch".
        hidden: the state at the "token" itself, or the one "predicting" it.
        layer: of which layer; -1 is the last.
        ridge: the penalty, per token; 0 chooses it by cross-validation over samples.
        rows: samples to fit on, at most.
        text: "other" fits on unlabelled text, or on retain text where there is none; "forget" fits on the forget
            answers themselves, cross-fitted: each is scored by a map that has not seen it.
    """
    if text not in ("other", "forget"):
        raise UserError(f"amortised: text is other or forget, not '{text}'")
    options: dict[str, Any] = {"signal": signal, "hidden": hidden, "layer": layer, "ridge": ridge}
    if text == "other":
        fitted = fit_map(context, context.lm, other_text(context, rows), **options)
        context.learned["amortised"] = fitted
        return context.per_sample(context.lm, fitted.scores, extras=False, hidden=hidden, layer=layer)
    check_ridge(ridge)
    samples = context.task.forget
    forget = read(context, context.lm, samples, signal, hidden, layer)
    fold_of = draw_folds(samples, context.seed)
    folds = [fold_of[s.id] for s in samples]
    parts = []
    for fold in sorted(set(folds)):
        tensors, penalty = forget.fit(folds, ridge, leave_out=fold)
        fitted = LinearMap(tensors, str(context.lm.device), signal, hidden, layer, penalty)  # type: ignore[arg-type]
        indices = [i for i, own in enumerate(folds) if own == fold]
        parts.append((indices, [fitted.predict(forget.states[i]).double().cpu().numpy() for i in indices]))
    return in_sample_order(parts)
