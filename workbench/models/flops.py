"""Floating-point operations of forward and backward passes and of generation, from shapes; matrix products only."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import Embedding

from workbench.cost import Phase
from workbench.models.adapters import READERS, decoder_layers
from workbench.models.batch import TokenBatch
from workbench.models.language_model import LanguageModel
from workbench.models.packing import packs

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")  # how many a layer has, by configuration
Products = tuple[float, float, float]  # FLOPs a position through the decoder, a query-key pair, a row of logits


def _multiply_adds(lm: LanguageModel, module: Any, trained_only: bool = False) -> float:
    """Multiply-adds of one position in a module's matrices; of experts in those that a position is sent to."""
    config, sums = lm.config, 0.0
    every = next((n for name in EXPERTS if (n := getattr(config, name, None))), 0)
    chosen = getattr(config, "num_experts_per_tok", None) or every
    for name, p in module.named_parameters():
        if p.dim() > 1 and (p.requires_grad or not trained_only):
            expert = every and ("experts" in name.split(".") or (p.dim() == 3 and len(p) == every))
            sums += p.numel() * chosen / every if expert else p.numel()
    return sums


def forward_products(lm: LanguageModel) -> Products:
    """FLOPs of a forward pass."""
    head, decoder = lm.module.get_output_embeddings().weight.numel(), lm.module.get_decoder()
    tables = [m for m in decoder.modules() if isinstance(m, Embedding)]  # of tokens, of learned positions: looked up
    decoder = _multiply_adds(lm, decoder) - sum(table.weight.numel() for table in tables)
    return 2.0 * decoder, 2.0 * lm.config.num_hidden_layers * _widths(lm.config), 2.0 * head


def _widths(config: Any) -> int:
    """Numbers of a query and of a value, over all heads."""
    heads = getattr(config, "num_attention_heads", 0)  # state-space models have none
    if getattr(config, "qk_nope_head_dim", None):  # latent attention, where values have a width of their own
        return int(heads * (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim))
    return int(2 * heads * (getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1)))


def backward_products(lm: LanguageModel, layer: int | None = None) -> Products:
    """FLOPs of a backward pass: twice those of a forward pass where everything is trained by the answers' likelihood.

    One half is the gradient of the states, from where the loss is read down to the lowest trained layer; the other is
    the gradient of the trained weights.

    Args:
        lm: the model, with gradients on for what is trained.
        layer: the layer whose states the loss is read from, as an index into the hidden states; None: from the logits.
    """
    position, pair, row = forward_products(lm)
    if layer is None and all(p.requires_grad for p in lm.module.parameters()):
        return 2 * position, 2 * pair, 2 * row
    layers, head = decoder_layers(lm), lm.module.get_output_embeddings().weight
    below = layers if layer is None else layers[: layer % (len(layers) + 1)]
    to_embeddings = lm.module.get_input_embeddings().weight.requires_grad
    trained = [to_embeddings or any(p.requires_grad for p in each.parameters()) for each in below]
    passed = below[trained.index(True) :] if any(trained) else []
    elements = sum(_multiply_adds(lm, each) for each in passed)
    if passed and not to_embeddings:
        elements -= _spared(passed[0])
    elements += sum(_multiply_adds(lm, each, trained_only=True) for each in below)
    of_head = 0.0 if layer is not None else row * (1 + head.requires_grad)
    return 2.0 * elements, 2 * pair * len(passed) / len(layers), of_head


def _spared(layer: Any) -> int:
    """Elements of the lowest trained layer's matrices whose input needs no gradient: with LoRA, what reads its input.

    Where the layer's norms are trained too, their gradient runs through the input of all its matrices.
    """
    if any(p.requires_grad for p in layer.parameters() if p.dim() < 2):
        return 0
    readers = [m for name, m in layer.named_modules() if name.rpartition(".")[2] in READERS]
    return sum(p.numel() for m in readers for name, p in m.named_parameters() if p.dim() > 1 and "lora_B" not in name)


def forward_flops(lm: LanguageModel, batch: TokenBatch) -> float:
    """FLOPs of a forward pass, with those of the positions that go along with chosen ones."""
    return flops_of(forward_products(lm), lm, batch) + _of_rest(lm, batch)


def _of_rest(lm: LanguageModel, batch: TokenBatch) -> float:
    """FLOPs of the positions that go along with chosen ones, without gradient, to the last layer's keys and values."""
    if batch.chosen is None or batch.chosen.rest is None:
        return 0.0
    position, pair = _context_products(lm)
    return position * batch.chosen.rest.positions + pair * batch.chosen.rest.pairs


def flops_of(products: Products, lm: LanguageModel, batch: TokenBatch) -> float:
    """FLOPs over a batch: the decoder per position, attention per query-key pair, the head per answer token.

    B samples padded to L have B L positions and B L^2 query-key pairs (the masked half is computed too). A packed row
    has no padded positions, and its pairs are those of its groups. Of a batch with chosen positions only these count.
    """
    position, pair, row = products
    if batch.chosen is not None:
        return position * batch.chosen.own.positions + pair * batch.chosen.own.pairs + row * len(batch.rows)
    samples = len(batch.encodings)
    positions, pairs = samples * batch.width, samples * batch.width**2
    if packs(lm, batch.width):
        positions = batch.tokens
        pairs = sum(len(group.lengths) * group.width**2 for group in batch.packing.groups)
    return position * positions + pair * pairs + row * len(batch.rows)


def context_flops(lm: LanguageModel, batch: TokenBatch) -> float:
    """FLOPs of a forward pass that ends when the last layer's keys and values are known."""
    return flops_of((*_context_products(lm), 0.0), lm, batch)


def _context_products(lm: LanguageModel) -> tuple[float, float]:
    """FLOPs of such a pass, a position and a query-key pair."""
    position, pair, _ = forward_products(lm)
    layers = decoder_layers(lm)
    last = layers[-1]
    read = sum(_multiply_adds(lm, m) for name, m in last.named_modules() if name.rpartition(".")[2] in READERS)
    position -= 2.0 * (_multiply_adds(lm, last) - read)
    return position, pair * (len(layers) - 1) / len(layers)


def generation_flops(lm: LanguageModel, rows: int, length: int, new: int) -> float:
    """FLOPs of generation with cached keys: the prompt once, then one position per token against all before it."""
    if new < 1:
        return 0.0
    position, pair, row = forward_products(lm)
    pairs = length**2 + sum(range(length + 1, length + new))
    return rows * (position * (length + new - 1) + pair * pairs + row * new)


def count_forward(cost: Phase, lm: LanguageModel, batch: TokenBatch, passes: float = 1) -> None:
    """Add to a phase a batch's tokens, with those that go along, and its forward FLOPs `passes` times."""
    cost.tokens += batch.tokens + (0 if batch.chosen is None else batch.chosen.along)
    cost.flops += passes * forward_flops(lm, batch)


def count_backward(cost: Phase, lm: LanguageModel, batch: TokenBatch, products: Products) -> None:
    """Add to a phase a batch's tokens, and the FLOPs of a backward pass of these `backward_products`."""
    cost.tokens += batch.tokens
    cost.flops += flops_of(products, lm, batch)


def count_generation(cost: Phase, lm: LanguageModel, prompts: Tensor, new: int) -> None:
    """Add to a phase the generation of `new` tokens after prompts with the attention mask `prompts` (B, L)."""
    rows, length = prompts.shape
    cost.tokens += int(prompts.sum()) + rows * new
    cost.flops += generation_flops(lm, rows, length, new)
