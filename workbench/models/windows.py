"""Texts longer than a model's context: windows of their tokens, each token predicted where it has most context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from workbench.models.batch import TokenBatch, batches, in_sample_order
from workbench.models.encoding import UNPREDICTED, Encoding
from workbench.models.token_stats import TokenStats, token_stats
from workbench.models.whole_text import ANSWER, PROMPT, TEMPLATE

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

OVERLAP = 0.5  # of two windows: every token but the first ones has at least so much of a window before it
AT_ONCE = 4096  # tokens of one forward pass, or one window


def windows(encoding: Encoding, size: int, overlap: float = OVERLAP) -> list[Encoding]:
    """A sequence as windows of at most `size` tokens, of which each has the answer tokens that no earlier one has.

    So a token is in the answer of the window in which most tokens stand before it. Every window begins with what a
    template puts before the text, and with the whole prompt where that takes at most half of it. Windows end before a
    word where there is one in their second half. A sequence of at most `size` tokens is its own only window.
    """
    if len(encoding.ids) <= size:
        return [encoding]
    first = encoding.answer_positions[0]
    contents = [i for i, segment in enumerate(encoding.segments) if segment in (PROMPT, ANSWER, UNPREDICTED)]
    head = first if first <= size // 2 else min(contents[0], size // 2)
    body = size - head
    out: list[Encoding] = []
    start, done = head, 0
    while done < len(encoding.ids):
        end = _word_end(encoding, start + body, start + body // 2)
        places = [*range(head), *range(start, end)]
        segments = [ANSWER if place >= done and encoding.segments[place] == ANSWER else TEMPLATE for place in places]
        if ANSWER in segments:
            ids, ranges = [encoding.ids[place] for place in places], [encoding.ranges[place] for place in places]
            ends = encoding.ends if end == len(encoding.ids) else 0
            out.append(Encoding(encoding.sample, ids, segments, ranges, ends))
        done = end
        start = max(start + 1, end - max(1, int(overlap * body)))
    return out


def _word_end(encoding: Encoding, end: int, least: int) -> int:
    """The last position up to `end`, but after `least`, at which a word begins; `end` where there is none."""
    if end >= len(encoding.ids):
        return len(encoding.ids)
    begins = (place for place in range(end, least, -1) if encoding.text_of(place)[:1].isspace())
    return next(begins, end)


def long_stats(
    lm: LanguageModel, batch: TokenBatch, count: Callable[[TokenBatch], object] = lambda batch: None, **options: Any
) -> TokenStats:
    """`token_stats` of a batch whose sequences may be longer than the model's context; without gradient there.

    Args:
        lm: the model.
        batch: the sequences; of one that fits, the result is that of `token_stats`.
        count: called with each batch that goes through the model.
        options: of `token_stats`.
    """
    if batch.width <= lm.context:
        count(batch)
        return token_stats(lm, batch, **options)
    parts = [windows(encoding, lm.context) for encoding in batch.encodings]
    owners = [row for row, part in enumerate(parts) for _ in part]
    size = max(1, AT_ONCE // lm.context)
    done: list[tuple[list[int], list[TokenStats]]] = []
    with torch.no_grad():
        for indices, few in batches(lm, [window for part in parts for window in part], size):
            count(few)
            rest, each = token_stats(lm, few, **options), []
            for _ in indices[1:]:
                one, rest = rest.split(1)
                each.append(one)
            done.append((indices, [*each, rest]))
    ordered = in_sample_order(done)
    rows = [torch.full_like(stats.rows, owner) for stats, owner in zip(ordered, owners, strict=True)]
    values = {}
    for name in (each.name for each in fields(TokenStats) if each.name not in ("rows", "samples", "_counts")):
        if getattr(ordered[0], name) is not None:
            values[name] = torch.cat([getattr(stats, name) for stats in ordered])
    return TokenStats(rows=torch.cat(rows), samples=len(batch.encodings), **values)
