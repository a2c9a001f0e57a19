"""States of a model's layers: where the fact's tokens are, what each layer gives, and a layer's output replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import NOT_FINITE, NotAvailable
from workbench.models import UNPREDICTED, Encoding, LanguageModel, TokenBatch, decoder_layers, head_is_plain, logits_of


def fact_tokens(encoding: Encoding) -> list[bool]:
    """For each answer token, whether it is of the fact: of a labelled span, else of the text (not what ends it)."""
    labels = encoding.span_labels()
    if labels is not None and any(labels):
        return labels
    count = len(encoding.answer_positions)
    return [place < count - encoding.ends for place in range(count)]


def columns_of(encoding: Encoding) -> dict[str, Any]:
    """What an attack's row says of the tokens that its maps are of: places, texts, and which are of the fact."""
    places, first = encoding.answer_positions, len(encoding.positions(UNPREDICTED))
    texts = [encoding.text_of(place) for place in places]
    return {"positions": [*range(first, first + len(places))], "tokens": texts, "facts": fact_tokens(encoding)}


def of_samples(values: Tensor, batch: TokenBatch) -> list[np.ndarray]:
    """The maps (layers, N, ...) of a batch, one a sample, each as a flat row, as an attack's table holds them."""
    counts = torch.bincount(batch.rows, minlength=len(batch.encodings)).tolist()
    wide = values.float() if values.is_floating_point() else values.int()
    return [part.cpu().numpy().ravel() for part in wide.split(counts, dim=1)]


def _stream(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    states = output if isinstance(output, Tensor) else output[0]
    if states.dim() != 3:  # Gemma 3n
        raise NotAvailable("the model's layers have several streams of states")
    return states


@contextlib.contextmanager
def outputs(lm: LanguageModel) -> Iterator[list[Tensor]]:
    """A list that holds each decoder layer's output (B, L, d) after a forward pass."""
    layers = decoder_layers(lm)
    states: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(place: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, arguments: object, output: Tensor | tuple[Tensor, ...]) -> None:
            states[place] = _stream(output)

        return hook

    with contextlib.ExitStack() as hooks:  # a hook's handle removes it at the end
        for place, layer in enumerate(layers):
            hooks.enter_context(layer.register_forward_hook(keep(place)))
        yield states


@contextlib.contextmanager
def replaced(lm: LanguageModel, layer: int, rows: Tensor, columns: Tensor, states: Tensor) -> Iterator[None]:
    """A decoder layer's output at some positions replaced by states (N, d) for a while."""

    def hook(module: torch.nn.Module, arguments: object, output: Tensor | tuple[Tensor, ...]) -> object:
        changed = _stream(output).clone()
        changed[rows, columns] = states.to(changed.dtype)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    with decoder_layers(lm)[layer].register_forward_hook(hook):
        yield


def label_logp(lm: LanguageModel, batch: TokenBatch) -> Tensor:
    """(N,) log-probability of each answer token, computed with padding, so that positions are those of the batch."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    plain = head_is_plain(lm, batch)  # else the model makes the logits of all positions
    with lm.autocast():
        rows = lm.module.get_decoder()(**inputs).last_hidden_state if plain else lm.module(**inputs).logits
    head = lm.module.get_output_embeddings() if plain else None
    logits = logits_of(lm, head, rows[batch.rows, batch.columns - 1])
    labels = batch.input_ids[batch.rows, batch.columns]
    return logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]


def fact_means(values: Tensor, batch: TokenBatch) -> Tensor:
    """(B,) means of values (N,) over each sample's fact tokens; NotAvailable where one is not finite."""
    chosen = torch.tensor([flag for e in batch.encodings for flag in fact_tokens(e)], device=values.device)
    wide = torch.where(chosen, values.double(), 0.0)
    if not wide.isfinite().all():
        raise NotAvailable(NOT_FINITE)
    totals = torch.zeros(len(batch.encodings), dtype=wide.dtype, device=wide.device).index_add(0, batch.rows, wide)
    return totals / torch.bincount(batch.rows[chosen], minlength=len(batch.encodings)).clamp(min=1)


def final_norm(lm: LanguageModel, batch: TokenBatch) -> Callable[[Tensor], Tensor]:
    """What the decoder does to its last layer's output: its final norm, recognised by what it gives.

    Raises:
        NotAvailable: no part of the decoder gives the last state, or the model does more to logits than apply its head.
    """
    if not head_is_plain(lm, batch):
        raise NotAvailable("the model does more to its logits than apply its head")
    decoder, results = lm.module.get_decoder(), {}

    def hook(module: torch.nn.Module, arguments: object, output: object) -> None:
        results[module] = output

    parts = [part for part in decoder.children() if not isinstance(part, torch.nn.ModuleList)]
    with torch.no_grad(), lm.autocast(), outputs(lm) as states, contextlib.ExitStack() as hooks:
        for part in parts:
            hooks.enter_context(part.register_forward_hook(hook))
        last = decoder(input_ids=batch.input_ids[:1], use_cache=False).last_hidden_state
    if torch.equal(states[-1], last):
        return lambda each: each
    for part in reversed(parts):
        output = results.get(part)
        if isinstance(output, Tensor) and output.shape == last.shape and torch.equal(output, last):
            return part
    raise NotAvailable("no part of the model is its final norm")
