"""Floating-point operations of forward and backward passes and of generation, from shapes; matrix products only."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.cost import Phase
from workbench.models.adapters import READERS, decoder_layers
from workbench.models.batch import TokenBatch
from workbench.models.language_model import LanguageModel
from workbench.models.packing import packs


def backward_share(lm: LanguageModel) -> float:
    """Matrix products of a backward pass, as a multiple of a forward pass's: 2 where everything is trained.

    One part is the gradient of the states, from the head down to the lowest trained layer; the other is the gradient of
    the trained weights. Where the embeddings are not trained, the lowest layer's attention needs no gradient of its
    input.
    """
    if all(p.requires_grad for p in lm.module.parameters()):
        return 2.0
    layers = decoder_layers(lm)
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    lowest = 0 if not any(trained) or trained[0] else trained.index(True)
    head = lm.module.get_output_embeddings().weight
    every = head.numel() + sum(_matrix_elements(layer) for layer in layers)
    own = sum(p.numel() for p in lm.module.parameters() if p.requires_grad and p.dim() > 1)
    readers = [m for name, m in layers[lowest].named_modules() if name.rpartition(".")[2] in READERS]
    passed = (
        head.numel()
        + sum(_matrix_elements(layer) for layer in layers[lowest:])
        - sum(_matrix_elements(m) for m in readers)
    )
    return (passed + own) / every


def _matrix_elements(module: Any) -> int:
    """Multiply-adds of one position in a module's matrices."""
    return sum(p.numel() for p in module.parameters() if p.dim() > 1)


def _products(lm: LanguageModel) -> tuple[float, float, float]:
    """FLOPs of one position through the decoder's weights, of one query-key pair, and of one row of logits."""
    config = lm.config
    decoder = sum(p.numel() for p in lm.module.get_decoder().parameters() if p.dim() > 1)
    embeddings = lm.module.get_input_embeddings().weight.numel()
    heads = getattr(config, "num_attention_heads", 0)  # state-space models have none
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1))
    head = lm.module.get_output_embeddings().weight.numel()
    return 2.0 * (decoder - embeddings), 4.0 * config.num_hidden_layers * width, 2.0 * head


def forward_flops(lm: LanguageModel, batch: TokenBatch) -> float:
    """FLOPs of a forward pass: the decoder per position, attention per query-key pair, the head per answer token.

    B samples padded to L have B L positions and B L^2 query-key pairs (the masked half is computed too). A packed row
    has no padded positions, and its pairs are those of its groups.
    """
    position, pair, row = _products(lm)
    samples = len(batch.encodings)
    positions, pairs = samples * batch.width, samples * batch.width**2
    if packs(lm, batch.width):
        positions = batch.tokens
        pairs = sum(len(group.lengths) * group.width**2 for group in batch.packing.groups)
    return position * positions + pair * pairs + row * len(batch.rows)


def generation_flops(lm: LanguageModel, rows: int, length: int, new: int) -> float:
    """FLOPs of generation with cached keys: the prompt once, then one position per token against all before it."""
    if new < 1:
        return 0.0
    position, pair, row = _products(lm)
    pairs = length**2 + sum(range(length + 1, length + new))
    return rows * (position * (length + new - 1) + pair * pairs + row * new)


def count_forward(cost: Phase, lm: LanguageModel, batch: TokenBatch, passes: float = 1) -> None:
    """Add to a phase a batch's tokens, and its forward FLOPs `passes` times."""
    cost.tokens += batch.tokens
    cost.flops += passes * forward_flops(lm, batch)


def count_generation(cost: Phase, lm: LanguageModel, prompts: Tensor, new: int) -> None:
    """Add to a phase the generation of `new` tokens after prompts with the attention mask `prompts` (B, L)."""
    rows, length = prompts.shape
    cost.tokens += int(prompts.sum()) + rows * new
    cost.flops += generation_flops(lm, rows, length, new)
