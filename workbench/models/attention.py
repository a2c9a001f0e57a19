"""Attention by plain products, for bfloat16 training on a CPU.

The backward pass of torch's fused attention takes three to five times as long there as products whose probabilities
are held: 9.7 ms against 2.5 for 14 samples of 62 tokens with 9 heads of 64, forward and backward (two cores, AVX-512).
In float32 both take the same time, and without gradient the fused one is as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHORT = 256  # keys up to which it is used: what is held grows with their square


def suits_products(q: Tensor, k: Tensor, v: Tensor, rest: dict[str, Any]) -> bool:
    """Whether `by_products` is to compute this attention; `rest` are the further arguments that the layer gives."""
    format = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q.dtype
    trained = q.requires_grad or k.requires_grad or v.requires_grad
    if q.device.type != "cpu" or format != torch.bfloat16 or k.shape[2] > SHORT or not trained or rest.get("dropout"):
        return False
    return all(rest.get(name) is None for name in ("position_bias", "softcap", "s_aux", "cache"))


def by_products(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scaling: float | None) -> Tensor:
    """softmax(q k^T scaling) v in bfloat16, the softmax in float32.

    Args:
        q: (B, H, L, D).
        k: (B, H', S, D); H is a multiple of H', and the heads of one key head are one product.
        v: (B, H', S, D').
        seen: (B, 1, L, S) which keys a query sees, at least one; None for causal attention.
        scaling: of the scores; None for D^-1/2.

    Returns:
        (B, L, H, D').
    """
    q, k, v = (each.to(torch.bfloat16) for each in (q, k, v))
    samples, heads, width, size = q.shape
    each = heads // k.shape[1]
    if seen is None:
        seen = torch.ones(width, k.shape[2], dtype=torch.bool, device=q.device).tril()
    hidden = ~seen.broadcast_to(samples, 1, width, k.shape[2]).repeat(1, 1, each, 1)
    scores = q.reshape(samples, k.shape[1], each * width, size) @ k.transpose(-1, -2)
    scores = scores.float() * (size**-0.5 if scaling is None else scaling)
    probabilities = scores.masked_fill_(hidden, -torch.inf).softmax(-1).to(v.dtype)
    return (probabilities @ v).view(samples, heads, width, v.shape[-1]).transpose(1, 2)
