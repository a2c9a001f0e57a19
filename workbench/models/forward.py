"""A model's forward pass over a token batch, reduced to what is needed: no padding, logits of answer tokens only.

The results equal those of the plain forward pass (one padded batch, all logits, one softmax) up to rounding.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models.packing import packed_arguments, packs

if TYPE_CHECKING:
    from workbench.models.batch import TokenBatch
    from workbench.models.language_model import LanguageModel

# Answer tokens whose distributions are held in float32 at once: so few that a CPU's cache holds them, and on a GPU.
PIECE, GPU_PIECE = 32, 256
LARGE = 1 << 22  # logits from which pieces pay off; below, autograd's own softmax is as fast


def states_and_head(
    lm: LanguageModel, batch: TokenBatch, layers: list[int], embeddings: Tensor | None, cache: Any = None
) -> tuple[dict[int, Tensor], Tensor, Tensor, Callable[[Tensor], Tensor] | None]:
    """One forward pass: the batch as one row without padding where the model supports that, else padded.

    Of a batch with chosen positions only these are computed. A `cache` is told all keys and values.

    Returns:
        (P, d) states of each of `layers` at all computed positions; the (N,) positions of the answer tokens; the N rows
        that predict them and the head. The rows are states (N, d) from which the head makes logits (N, V), or, where
        the model does more than apply its head, the logits themselves with None for the head.
    """
    model = lm.module
    inner = [layer for layer in layers if layer != -1]
    count = lm.config.num_hidden_layers + 1
    for layer in inner:
        if not -count <= layer < count:
            raise UserError(f"{lm.name} has layers 0 (embeddings) to {count - 1}, or -1 for the last; not {layer}")
    plain, packed = head_is_plain(lm, batch), packs(lm, batch.width)
    called: Any = model.get_decoder() if plain else model
    if plain and model.training and lm.compiled is not None:
        called = lm.compiled
    name = "input_ids" if embeddings is None else "inputs_embeds"
    inputs = batch.input_ids if embeddings is None else embeddings
    arguments: dict[str, Any] = {name: inputs, "attention_mask": batch.attention_mask}
    if packed:
        arguments = packed_arguments(batch.packing, inputs, name)
    arguments |= {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    if batch.chosen is not None:
        if layers or embeddings is not None:
            raise UserError("states are not kept where only chosen positions are computed; use share=1")
        with lm.autocast():
            out = batch.chosen.run(called)
    else:
        with lm.autocast():
            out = called(**arguments, output_hidden_states=bool(inner) or not plain)
    states = {
        layer: _one_stream(lm, out.last_hidden_state if plain and layer == -1 else out.hidden_states[layer])
        for layer in layers
    }
    places = batch.places(packed)
    predicting = places - 1 if batch.chosen is None else batch.chosen.predicting
    rows = (out.last_hidden_state if plain else out.logits).flatten(0, 1)[predicting]
    return states, places, rows, model.get_output_embeddings() if plain else None


def _one_stream(lm: LanguageModel, states: Tensor) -> Tensor:
    """(B L, d) from a layer's states (B, L, d); Gemma 3n has several streams (S, B, L, d), of which layers use one."""
    return (states[lm.config.altup_active_idx] if states.dim() == 4 else states).flatten(0, 1)


def compiled(lm: LanguageModel) -> Callable[..., Any]:
    """The decoder compiled by `torch.compile`, after a trial on a few tokens.

    Raises:
        UserError: there is no compiler, or it cannot compile this model.
    """
    decoder = torch.compile(lm.module.get_decoder(), dynamic=True)
    ids = torch.zeros(2, 3, dtype=torch.long, device=lm.device)
    try:
        with lm.autocast():
            decoder(input_ids=ids, attention_mask=ids + 1, use_cache=False, output_hidden_states=False)
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"torch.compile does not work here ({why}); use compile=false") from error
    return decoder


def logits_of(lm: LanguageModel, head: Callable[[Tensor], Tensor] | None, rows: Tensor) -> Tensor:
    """(N, V) logits, in float32 at least, from the rows and the head of `states_and_head`."""
    if head is not None:
        with _head_format(lm):
            rows = head(rows.to(head.weight.dtype))  # type: ignore[attr-defined]
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _head_format(lm: LanguageModel) -> contextlib.AbstractContextManager[Any]:
    """The number format of logits: in training the model's own, for speed; otherwise that of the weights.

    Measurements need float32: near 20, bfloat16 logits are 1/8 apart, so that ranks tie and probabilities come in
    steps.
    """
    return lm.autocast() if lm.module.training else contextlib.nullcontext()


def in_pieces(head: Callable[[Tensor], Tensor] | None, tokens: int) -> TypeGuard[torch.nn.Linear]:
    """Whether `label_logp` can be used: the head is linear, and there are enough logits for it to pay off.

    It is for training steps only: it cannot be differentiated twice, as some scorers do.
    """
    return type(head) is torch.nn.Linear and head.bias is None and tokens * head.out_features >= LARGE


def label_logp(lm: LanguageModel, head: torch.nn.Linear, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) log-probability and logit of each label, in float32, with gradient to states (N, d) and the head's weight.

    For the backward pass it keeps the derivative of the log-probabilities, in the number format of the product, and
    nothing else of that size; what is left to do there are products.
    """
    weight = head.weight
    with _head_format(lm):
        device = rows.device.type
        format = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(rows.device.type, enabled=False):
        logp, logit = _LabelLogp.apply(rows.to(format), weight.to(format), labels)
    return logp, logit


class _LabelLogp(torch.autograd.Function):
    """log softmax(rows @ weight.T) at the labels, and the logits there."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = rows @ weight.T
        wide = torch.promote_types(logits.dtype, torch.float32)
        logit = logits.gather(-1, labels[:, None])[:, 0].to(wide)
        logp = torch.empty_like(logit)
        piece = PIECE if rows.device.type == "cpu" else GPU_PIECE
        buffer = torch.empty(min(piece, len(rows)), len(weight), dtype=wide, device=rows.device)
        for part, own, value, label in zip(*(x.split(piece) for x in (logits, logit, logp, labels)), strict=True):
            p = buffer[: len(part)].copy_(part)
            top = p.amax(-1, keepdim=True)
            own_place = label[:, None]
            own_share = p.sub_(top).exp_().gather(-1, own_place)
            others = p.scatter_(-1, own_place, 0.0).sum(-1, keepdim=True)
            total = others + own_share
            value.copy_(own - (top + total.log())[:, 0])
            # -d logp / d logits is p, and p - 1 at the label: by the others, since 1 - p has no digits left near 0.
            part.copy_(p.div_(total).scatter_(-1, own_place, -others / total))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows, weight, labels, logits)
        return logp, logit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_logp: Tensor | None, of_logit: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight, labels, derivative = ctx.saved_tensors
        for_rows = for_weight = None
        if ctx.needs_input_grad[0]:
            for_rows = torch.zeros_like(rows) if of_logp is None else (derivative @ weight).mul_(-of_logp[:, None])
            if of_logit is not None:
                for_rows += of_logit[:, None] * weight[labels]
        if ctx.needs_input_grad[1]:
            if of_logp is None:
                for_weight = torch.zeros_like(weight)
            else:
                for_weight = derivative.T @ (rows * -of_logp[:, None]).to(rows.dtype)
            if of_logit is not None:
                for_weight.index_add_(0, labels, (rows * of_logit[:, None]).to(rows.dtype))
        return for_rows, for_weight, None


_plain_head: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


def head_is_plain(lm: LanguageModel, batch: TokenBatch) -> bool:
    """Whether the logits are the last state times the output embeddings; some models cap or scale them."""
    if lm.module not in _plain_head:
        _plain_head[lm.module] = _try_head(lm, batch)
    return _plain_head[lm.module]


@torch.no_grad()
def _try_head(lm: LanguageModel, batch: TokenBatch) -> bool:
    ids = batch.input_ids[:1, :4]
    model = lm.module
    training = model.training
    model.eval()
    try:
        decoder, head = model.get_decoder(), model.get_output_embeddings()
        with lm.autocast():
            logits = lm.run(lambda: head(decoder(input_ids=ids, use_cache=False).last_hidden_state))
            return torch.allclose(logits, model(input_ids=ids, use_cache=False).logits)
    except (AttributeError, TypeError):
        return False
    finally:
        model.train(training)
