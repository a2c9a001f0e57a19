"""What a model answers: prompts in, texts out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from workbench.errors import NOT_FINITE, UserError
from workbench.models.decoding import generate, in_batches, padded, until
from workbench.models.drawing import Draws
from workbench.models.encoding import encode, end_of_turn
from workbench.tasks import Sample

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel


def replies(
    lm: LanguageModel,
    prompts: Iterable[str],
    *,
    max_new_tokens: int = 64,
    temperature: float | None = None,
    seed: int = 0,
    continues: bool = False,
    batch_size: int = 16,
) -> list[str]:
    """A text for each prompt; arguments and errors as of `LanguageModel.generate`."""
    texts = list(prompts)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"a prompt is a text, not {text!r:.40}")
    if min(max_new_tokens, batch_size) < 1 or (temperature is not None and not temperature > 0):
        raise UserError(
            "max_new_tokens and batch_size must be at least 1, and temperature above 0, or None for the likeliest token"
        )
    coded = [
        encode(lm, Sample(f"prompt {n}", text, "", continues=continues), answer=False) for n, text in enumerate(texts)
    ]
    ends, end_text = end_of_turn(lm)
    order = sorted(range(len(texts)), key=lambda n: len(coded[n].ids))
    out = [""] * len(texts)
    for some, room in in_batches(order, batch_size, lambda n: min(max_new_tokens, lm.context - len(coded[n].ids))):
        if room < 1:
            raise UserError(
                f"a prompt of {len(coded[some[0]].ids)} tokens leaves no room in the context of {lm.name}; shorten it"
            )
        ids, mask = padded(lm, [coded[n].ids for n in some])
        draws = None
        if temperature is not None:
            draws = Draws(lm.device, temperature, [f"{seed} prompt {n}" for n in some], room)
        with torch.no_grad():
            tokens, finite = generate(lm, ids, mask, room, ends, draws)
        if not all(finite):
            raise UserError(f"{lm.name} cannot generate: {NOT_FINITE}")
        decoded = lm.tokenizer.batch_decode(until(tokens, ends), skip_special_tokens=True)
        for n, text in zip(some, decoded, strict=True):
            text = text.partition(end_text)[0] if end_text else text
            out[n] = text if continues else text.strip().removeprefix(coded[n].left.strip()).strip()
    return out
