"""Drawn continuations of prompts: draws that agree so far share one row of the model's passes."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from workbench.models.decoding import exclusive, until

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel


class Draws:
    """Which token each row takes: the first whose cumulated probability exceeds a uniform number of the row's own.

    Args:
        device: of the logits.
        temperature: of softmax(logits / temperature), from all of which is drawn.
        names: one a row. Its numbers are made from its name alone, so that what a row takes depends on no other row.
        room: how many tokens a row takes at most.
    """

    def __init__(self, device: torch.device, temperature: float, names: Sequence[str], room: int) -> None:
        digests = [hashlib.sha256(name.encode(errors="surrogatepass")).digest() for name in names]
        generators = [torch.Generator().manual_seed(int.from_bytes(digest[:6], "big")) for digest in digests]
        numbers = [torch.rand(room, generator=generator, dtype=torch.float64) for generator in generators]
        self.numbers = torch.stack(numbers).to(device)
        self.temperature = temperature

    def take(self, logits: torch.Tensor, step: int, rows: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        """The tokens (R,) that `rows` (R,) take as their token number `step`, row i from `logits[of[i]]` (N, V).

        What is taken from logits that are not finite means nothing.
        """
        shares = (logits.nan_to_num().double() / self.temperature).softmax(-1).cumsum(-1)
        # One sorted list for all rows: the shares of row n are n to n + 1.
        places = torch.arange(len(logits), device=logits.device)[:, None] + shares / shares[:, -1:]
        first = torch.searchsorted(places.flatten(), of + self.numbers[rows, step], right=True)
        return (first - of * logits.shape[-1]).clamp(max=logits.shape[-1] - 1)


@torch.no_grad()
def next_logits(lm: LanguageModel, whole: torch.Tensor, new: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
    """(B, V) logits after the texts `whole` (B, T), in float32, and the model's cache, which has all of them then.

    `new` is their end that `cache` does not have. Where the model keeps none, the cache is None, and `new` is `whole`.
    The model itself makes its inputs of them, as in `generate`: some families want more than the new tokens, or drop
    their cache where the text outgrows it.
    """
    takes = inspect.signature(lm.module.forward).parameters
    # Some models do not count on from their cache by themselves.
    more = {"position_ids": torch.arange(whole.shape[1], device=lm.device).expand(whole.shape), "logits_to_keep": 1}
    more = {name: value for name, value in more.items() if name in takes}
    more |= {"is_first_iteration": True} if cache is None else {"next_sequence_length": new.shape[1]}
    with exclusive(lm), lm.autocast():
        inputs = lm.module.prepare_inputs_for_generation(
            whole, past_key_values=cache, attention_mask=torch.ones_like(whole), use_cache=True, **more
        )
        out = lm.module(**inputs)
    return out.logits[:, -1].float(), out.get("past_key_values")


@torch.no_grad()
def draw(
    lm: LanguageModel, prompts: torch.Tensor, of: torch.Tensor, draws: Draws, ends: set[int]
) -> tuple[list[list[int]], list[bool]]:
    """The tokens that each row of `draws` takes after its prompt, up to an end, and whether all its logits were finite.

    It is what drawing each row by itself gives, up to rounding. But a beginning that several rows share goes through
    the model once: their prompt, and as much of the answer. A memorised answer drawn 200 times costs hardly more than
    one.

    Args:
        lm: the model.
        prompts: (B, L) prompts of one length.
        of: (R,) each row's prompt.
        draws: the numbers of R rows.
        ends: tokens that end a turn.
    """
    count, room = draws.numbers.shape
    rows = torch.arange(count, device=lm.device)
    taken = torch.zeros(count, room, dtype=torch.long, device=lm.device)
    finite = torch.ones(count, dtype=torch.bool, device=lm.device)
    stops = torch.tensor(sorted(ends), device=lm.device, dtype=torch.long)
    cache, whole, new = None, prompts, prompts
    for step in range(room):
        logits, cache = next_logits(lm, whole, new, cache)
        known = logits.sum(-1).isfinite()
        finite[rows[~known[of]]] = False
        tokens = draws.take(logits, step, rows, of)
        taken[rows, step] = tokens
        goes_on = known[of] & ~torch.isin(tokens, stops)
        rows, of, tokens = rows[goes_on], of[goes_on], tokens[goes_on]
        if not len(rows) or step == room - 1:
            break
        different, of = torch.unique(of * logits.shape[-1] + tokens, return_inverse=True)
        parents, new = different // logits.shape[-1], (different % logits.shape[-1])[:, None]
        whole = torch.cat([whole[parents], new], dim=1)
        if cache is None:
            new = whole  # the model keeps none
        else:
            cache.reorder_cache(parents)
    return until(taken, ends), finite.tolist()
