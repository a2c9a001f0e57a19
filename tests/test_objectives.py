"""Forget losses against a slow plain loop, and the invariants every objective keeps."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.models import LanguageModel
from workbench.objectives import ForgetTokens, objective, retain_loss
from workbench.registry import UserError
from workbench.tasks import Task
from workbench.tokens import TokenStats, collate, encode, token_stats


def packed(logp: torch.Tensor, samples: int = 2) -> TokenStats:
    return TokenStats(torch.arange(len(logp)) % samples, torch.zeros(len(logp), dtype=torch.long), logp, samples)


def by_hand(name: str, logp: list[float], weights: list[float]) -> tuple[float, list[float]]:
    """Loss and its gradient with respect to each log-probability, one token at a time."""
    count, loss, gradient = len(logp), 0.0, []
    for value, weight in zip(logp, weights, strict=True):
        nll = -value
        factor = {
            "grad_diff": 1.0,
            "wga": math.exp(value),
            "atwu": math.exp(-weight * nll) ** 5,
            "atwu probability": math.exp(value) ** 5,
            "atwu none": 1.0,
        }[name]
        loss -= weight * factor * nll / count
        gradient.append(weight * factor / count)
    return loss, gradient


@pytest.mark.parametrize("name", ["grad_diff", "wga", "atwu", "atwu probability", "atwu none"])
def test_value_and_gradient_against_a_plain_loop(name: str) -> None:
    torch.manual_seed(0)
    logp = (-torch.rand(9, dtype=torch.float64) * 4).requires_grad_(True)
    weights = torch.rand(9, dtype=torch.float64)
    entry, _, saturation = name.partition(" ")
    value = objective[entry].function(
        ForgetTokens(packed(logp), weights), **({"saturation": saturation} if saturation else {})
    )
    value.backward()
    expected, gradient = by_hand(name, logp.tolist(), weights.tolist())
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, torch.tensor(gradient, dtype=torch.float64))


def test_an_unknown_saturation_says_so() -> None:
    with pytest.raises(UserError, match="weighted, probability or none"):
        objective["atwu"].function(ForgetTokens(packed(-torch.rand(4)), torch.ones(4)), saturation="some")


@pytest.mark.parametrize("name", list(objective))
def test_tokens_of_weight_zero_get_no_gradient(name: str) -> None:
    logp = torch.tensor([-0.1, -2.0, -0.5], requires_grad=True)
    objective[name].function(ForgetTokens(packed(logp, 1), torch.tensor([1.0, 0.0, 1.0]))).backward()
    assert logp.grad is not None
    assert logp.grad[1] == 0
    assert (logp.grad[[0, 2]] > 0).all()  # minimising lowers the log-probability


@pytest.mark.parametrize("name", list(objective))
def test_order_of_tokens_does_not_matter(name: str) -> None:
    logp, weights, order = -torch.rand(6) * 3, torch.rand(6), torch.tensor([3, 1, 5, 0, 2, 4])
    one = objective[name].function(ForgetTokens(packed(logp), weights))
    other = objective[name].function(ForgetTokens(packed(logp[order]), weights[order]))
    torch.testing.assert_close(one, other)


def test_grad_diff_with_uniform_weights_is_minus_cross_entropy(full: LanguageModel, small: Task) -> None:
    stats = token_stats(full, collate(full, [encode(full, s) for s in small.forget]))
    value = objective["grad_diff"].function(ForgetTokens(stats, torch.ones_like(stats.logp)))
    torch.testing.assert_close(value, -stats.nll.mean())


def test_kl_is_zero_at_the_reference_and_equals_torch_elsewhere() -> None:
    torch.manual_seed(0)
    now, before = torch.randn(5, 7), torch.randn(5, 7)
    stats, reference = packed(torch.zeros(5)), packed(torch.zeros(5))
    stats.logits, reference.logits = now, before
    expected = torch.nn.functional.kl_div(
        now.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(retain_loss["kl"].function(stats, reference), expected)
    stats.logits = before
    assert float(retain_loss["kl"].function(stats, reference)) == pytest.approx(0, abs=1e-6)
