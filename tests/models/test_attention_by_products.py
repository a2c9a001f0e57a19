"""Attention by plain products, against torch's own in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.models.attention import SHORT, by_products, suits_products


def drawn(samples: int, heads: int, keys: int, width: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = ((samples, heads, width, 16), (samples, keys, length, 16), (samples, keys, length, 24))
    q, k, v = (torch.randn(shape).to(torch.bfloat16).requires_grad_() for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("scaling", [None, 0.4])
@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (4, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_attention_in_float64(heads: tuple[int, int], masked: bool, scaling: float | None) -> None:
    width, length = (5, 9) if masked else (9, 9)
    inputs = drawn(3, *heads, width, length)
    columns = torch.tensor([[0, 2, 3, 7, 8], [1, 2, 3, 4, 5], [0, 0, 4, 4, 8]])
    seen = (torch.arange(length) <= columns[..., None])[:, None] if masked else None
    pull = torch.randn(3, width, heads[0], 24).to(torch.bfloat16)
    out = by_products(*inputs, seen, scaling)
    gradients = torch.autograd.grad(out, inputs, pull)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    reference = F.scaled_dot_product_attention(
        *exact, attn_mask=seen, is_causal=not masked, scale=scaling, enable_gqa=True
    ).transpose(1, 2)
    of_reference = torch.autograd.grad(reference, exact, pull.double())
    assert out.dtype == torch.bfloat16
    for ours, theirs in zip((out, *gradients), (reference, *of_reference), strict=True):
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < 0.01, error  # bfloat16 has eight bits


def test_it_is_for_bfloat16_training_and_short_texts() -> None:
    q, k, v = drawn(1, 2, 1, 4, 4)
    assert suits_products(q, k, v, {"scaling": 0.1, "dropout": 0.0})
    assert not suits_products(q, k, v, {"dropout": 0.1})
    assert not suits_products(q, k, v, {"position_bias": torch.zeros(1)})
    assert not suits_products(q.detach(), k.detach(), v.detach(), {})
    wide = [each.detach().float().requires_grad_() for each in (q, k, v)]
    assert not suits_products(*wide, {})
    with torch.autocast("cpu", torch.bfloat16):
        assert suits_products(*wide, {})
    assert not suits_products(*drawn(1, 1, 1, 2, SHORT + 1), {})
