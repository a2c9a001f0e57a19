"""A forward pass through chosen positions of a batch, against keys and values of all others that carry no gradient.

In every layer the chosen positions see one another with gradient and everything else without: TokenTune's selection
(arXiv 2501.18824). The others' keys and values are computed along with them (`workbench.models.lockstep`), each
position once. Or they were computed before, as contexts: then all positions were, and the chosen ones' fresh keys and
values take the places of the old ones. Contexts can be kept for several steps, and tell which tokens to choose.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import UserError
from workbench.models.batch import TokenBatch, collate
from workbench.models.contexts import Keys, contexts, inserter
from workbench.models.encoding import Encoding
from workbench.models.language_model import LanguageModel
from workbench.models.lockstep import meeting
from workbench.models.packing import Group, group_of, packs, windowed
from workbench.models.token_stats import token_stats


@dataclass(frozen=True)
class Part:
    """Some positions of each sample of a batch, as one pass computes them.

    Attributes:
        inputs: arguments of the model or its decoder, but for the cache.
        index: (B, S) where their keys and values go among those of all positions.
        place: for a sample and a position, its place among the computed ones.
        positions: how many are computed, with padding.
        pairs: query-key pairs that attention computes, in a layer.
    """

    inputs: dict[str, Any]
    index: Tensor
    place: dict[tuple[int, int], int]
    positions: int
    pairs: int


@dataclass(frozen=True)
class Chosen:
    """The chosen positions of a batch, and what they are computed against: contexts, or a pass that goes along.

    Attributes:
        own: the chosen positions.
        predicting: (N,) for each answer token, the place of its predicting position among the computed ones.
        tokens: how many are chosen.
        along: how many others go along.
        context: keys and values of the whole batch, by layer; None where the others go along.
        rest: the other positions; None where there is a context.
        places: how many keys a row of the batch has.
    """

    own: Part
    predicting: Tensor
    tokens: int
    along: int
    context: Keys | None
    rest: Part | None
    places: int

    def run(self, called: Callable[..., Any]) -> Any:
        """What a model or its decoder makes of the chosen positions."""
        arguments = {"use_cache": True, "output_hidden_states": False}
        if self.context is not None:
            cache = inserter(self.context, self.own.index)
            return called(**self.own.inputs, **arguments, past_key_values=cache)
        rest = self.rest
        assert rest is not None
        cache = meeting(
            lambda cache: called(**rest.inputs, **arguments, past_key_values=cache),
            self.own.index,
            rest.index,
            self.places,
        )
        try:
            return called(**self.own.inputs, **arguments, past_key_values=cache)
        finally:
            with torch.no_grad():  # it stands in the last layer; what it still has open ends as it began
                cache.other.throw()


def choose(
    lm: LanguageModel, encodings: Sequence[Encoding], chosen: list[list[int]], parts: list[Keys] | None = None
) -> TokenBatch:
    """A batch of which only chosen positions are computed with gradient.

    Args:
        lm: the model.
        encodings: the samples.
        chosen: for each sample its positions, in order; those that predict an answer token must be among them.
        parts: of `contexts`; longer ones are cut to the samples' lengths. None computes the others along with these.
    """
    batch = collate(lm, encodings)
    packed = packs(lm, batch.width)
    build = _packed if packed else _padded
    own, context, rest, along = build(batch, chosen), None, None, 0
    if parts is None:
        # A sample of which all is chosen has its first position computed twice: a pass has all samples.
        others = [sorted(set(range(len(e.ids))) - set(c)) or [0] for e, c in zip(encodings, chosen, strict=True)]
        rest, along = build(batch, others), sum(map(len, others))
    else:
        context = _context(batch, parts, packed)
    pairs = zip(batch.rows.tolist(), batch.columns.tolist(), strict=True)
    predicting = [own.place[row, column - 1] for row, column in pairs]
    predicting = torch.tensor(predicting, dtype=torch.long, device=batch.device)  # type: ignore[assignment]
    places = sum(len(e.ids) for e in encodings) if packed else batch.width + 1
    return replace(batch, chosen=Chosen(own, predicting, sum(map(len, chosen)), along, context, rest, places))  # type: ignore[arg-type]


def _context(batch: TokenBatch, parts: list[Keys], packed: bool) -> Keys:
    """Keys and values of a whole batch, by layer, as its packing has them, or padded to a place more than its width."""
    lengths, width = [len(e.ids) for e in batch.encodings], batch.width + 1
    order: list[int] = torch.argsort(batch.packing.starts).tolist() if packed else []

    def joined(layer: int, which: int) -> Tensor:
        own = [part[layer][which][:, :n] for part, n in zip(parts, lengths, strict=True)]
        if packed:
            return torch.cat([own[row] for row in order], 1)[None]
        return torch.stack([F.pad(each, (0, 0, 0, width - each.shape[1])) for each in own])

    return {layer: (joined(layer, 0), joined(layer, 1)) for layer in parts[0]}


def _packed(batch: TokenBatch, chosen: list[list[int]]) -> Part:
    """Positions of each sample as one row, sample after sample in the order of the batch's own packing."""
    packing, device = batch.packing, batch.device
    order: list[int] = torch.argsort(packing.starts).tolist()
    rows = [row for row in order for _ in chosen[row]]
    columns = [column for row in order for column in chosen[row]]
    place = {pair: i for i, pair in enumerate(zip(rows, columns, strict=True))}
    at_row, at_column = (torch.tensor(each, dtype=torch.long, device=device) for each in (rows, columns))
    groups, start, first = [], 0, 0
    for keys in packing.groups:
        members = order[first : first + len(keys.lengths)]
        first += len(members)
        counts = [len(chosen[row]) for row in members]
        queries = group_of(start, counts, device)
        own = at_column[queries.start : queries.stop]
        at = (own if queries.padded_from is None else own[queries.padded_from]).view(len(members), -1)
        start = queries.stop
        groups.append((queries, keys, _causal(at, keys.width)))
    inputs = {
        "input_ids": batch.input_ids[at_row, at_column][None],
        "position_ids": at_column[None],
        "attention_mask": torch.empty(1, 1, 1, 1, dtype=torch.bool, device=device),
        "packing": SparsePacking(groups),
    }
    index = (packing.starts[at_row] + at_column)[None]
    pairs = sum(len(q.lengths) * q.width * k.width for q, k, _ in groups)
    return Part(inputs, index, place, len(rows), pairs)


def _padded(batch: TokenBatch, chosen: list[list[int]]) -> Part:
    """Positions of each sample in rows, padded to the longest; keys of padding go to a last place that nothing sees."""
    width, most, device = batch.width, max(map(len, chosen)), batch.device
    columns = torch.tensor([own + own[-1:] * (most - len(own)) for own in chosen], device=device)
    real = torch.arange(most, device=device) < torch.tensor([len(own) for own in chosen], device=device)[:, None]
    place = {(row, column): row * most + i for row, own in enumerate(chosen) for i, column in enumerate(own)}
    inputs = {
        "input_ids": batch.input_ids.gather(1, columns),
        "position_ids": columns,
        "attention_mask": _causal(columns, width + 1),
    }
    count = len(chosen) * most
    return Part(inputs, columns.where(real, width), place, count, count * (width + 1))


def _causal(columns: Tensor, width: int) -> Tensor:
    """(B, 1, S, width) whether a query at these (B, S) positions sees a key."""
    return (torch.arange(width, device=columns.device) <= columns[..., None])[:, None]


@dataclass(frozen=True)
class SparsePacking:
    """What `packing.attention` needs: for each group its queries, its keys, and which query sees which key."""

    parts: list[tuple[Group, Group, Tensor]]


_works: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


def check_sparse(lm: LanguageModel, width: int) -> None:
    """Raise a UserError where chosen positions of samples of at most `width` tokens cannot be computed alone."""
    if hasattr(lm.module, "run_inside") or lm.compiled is not None:
        raise UserError("sparse steps are for runs of one process, and not compiled; use share=1 and retain_share=1")
    if not windowed(lm, width):
        if lm.module not in _works:
            _works[lm.module] = _try(lm)
        if _works[lm.module]:
            return
    raise UserError(
        f"{lm.name} cannot be computed at chosen positions alone: its attention takes no mask of theirs, or has a "
        "window shorter than the texts; use share=1 and retain_share=1"
    )


@torch.no_grad()
def _try(lm: LanguageModel) -> bool:
    """Whether a few chosen positions of two samples get the logits that they get in the plain pass."""
    from workbench.tasks import Sample

    ids = [(7 * i + 3) % lm.config.vocab_size for i in range(9)]
    made = [Encoding(Sample("", "", ""), ids[:n], [1] + [2] * (n - 1), [(0, 0)] * n) for n in (6, 9)]
    chosen = [[1, 3, 4], [0, 2, 5, 6, 7]]
    training = lm.module.training
    lm.module.eval()
    try:
        kept = [[p - 1 in own for p in e.answer_positions] for e, own in zip(made, chosen, strict=True)]
        encodings = [e.only(mask) for e, mask in zip(made, kept, strict=True)]
        batch = collate(lm, encodings)
        plain = token_stats(lm, batch, extras=False, logits=True).logits
        near = {"rtol": 1e-2, "atol": 1e-2 if lm.precision == "bfloat16" else 1e-3}
        for parts in (contexts(lm, batch)[0], None):
            sparse = token_stats(lm, choose(lm, encodings, chosen, parts), extras=False, logits=True).logits
            if not torch.allclose(plain, sparse, **near):  # type: ignore[arg-type]
                return False
        return True
    except (AttributeError, TypeError, ValueError, RuntimeError, LookupError):
        return False
    finally:
        lm.module.train(training)
