"""One encode, one shift, one mask: samples become token batches, and a model's view of their answer tokens.

Answer-token statistics are packed: one entry an answer token, over all samples, without padding. Whatever works on
them needs no mask and no label shift, because `token_stats` has done both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench import forward
from workbench.packing import Packing
from workbench.registry import UserError
from workbench.tasks import Sample

if TYPE_CHECKING:
    from workbench.models import LanguageModel

TEMPLATE, PROMPT, ANSWER = 0, 1, 2
_MARK = "\x00question\x00"
ROWS = 512  # answer tokens whose distributions are made at once where no gradient is needed


@dataclass(frozen=True)
class Encoding:
    """Token ids of one sample; per token its segment and its character range in that segment's text.

    The prompt segment's text is the question and the answer segment's text the answer; within a segment the ranges
    follow on each other and cover the text exactly. Tokens of one character (byte pieces) after the first, and the
    end token, have empty ranges. Template tokens have no range.
    """

    sample: Sample
    ids: list[int]
    segments: list[int]
    ranges: list[tuple[int, int]]

    def positions(self, segment: int) -> list[int]:
        """Positions of a segment's tokens in the sequence."""
        return [i for i, each in enumerate(self.segments) if each == segment]

    @property
    def answer_positions(self) -> list[int]:
        """Positions of the answer tokens in the sequence, the end token included."""
        return self.positions(ANSWER)

    def only(self, kept: Sequence[bool]) -> Encoding:
        """The sequence up to the last kept answer token; other answer tokens are read, as the template is."""
        answer = self.answer_positions
        dropped = {place for place, keep in zip(answer, kept, strict=True) if not keep}
        end = 1 + max((place for place in answer if place not in dropped), default=answer[0] - 1)
        segments = [TEMPLATE if i in dropped else each for i, each in enumerate(self.segments[:end])]
        return Encoding(self.sample, self.ids[:end], segments, self.ranges[:end])

    def text_of(self, position: int) -> str:
        """The piece of text that the token at `position` stands for."""
        segment, (start, end) = self.segments[position], self.ranges[position]
        return {PROMPT: self.sample.question, ANSWER: self.sample.answer}.get(segment, "")[start:end]

    def span_labels(self) -> list[bool] | None:
        """For each answer token, whether its range meets a labelled span; None without labels."""
        if self.sample.spans is None:
            return None
        return in_spans([self.ranges[i] for i in self.answer_positions], self.sample.spans)


def in_spans(ranges: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """For each token of an answer, whether its character range meets a span.

    An empty range is a later byte of the character before it and shares its label; the last one is the end token.
    """
    out: list[bool] = []
    for place, (a, b) in enumerate(ranges):
        if a < b:
            out.append(any(a < end and start < b for start, end in spans))
        else:
            out.append(place < len(ranges) - 1 and bool(out) and out[-1])
    return out


def _piece(tokenizer: object, text: str, lead: str, segment: int) -> list[tuple[int, int, tuple[int, int]]]:
    """Tokens of untrusted text: special-token strings inside it stay plain text; ranges tile it exactly."""
    if not text:
        return []
    coded = tokenizer(  # type: ignore[operator]
        lead + text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    cursor, out = 0, []
    for token_id, (_, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
        end = max(cursor, min(end - len(lead), len(text)))
        out.append((token_id, segment, (cursor, end)))
        cursor = end
    if out and cursor < len(text):
        out[-1] = (out[-1][0], segment, (out[-1][2][0], len(text)))
    return out


def _template(lm: LanguageModel, sample: Sample) -> tuple[str, str, str, str]:
    """(head, lead of the question, middle, lead of the answer) of the model's prompt."""
    tokenizer, asked = lm.tokenizer, bool(sample.question) and not sample.continues
    if asked and lm.prompt == "chat":
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
        )
        head, _, middle = text.partition(_MARK)
        return head, "", middle, ""
    start = (tokenizer.bos_token or tokenizer.eos_token or "") if not asked or _adds_bos(tokenizer) else ""
    if asked:
        return start + "Question:", " ", "\nAnswer:", " "
    apart = not sample.question or sample.question[-1].isspace() or sample.answer[:1].isspace()
    return start, "", "", "" if apart else " "


def _adds_bos(tokenizer: object) -> bool:
    return tokenizer("").input_ids == [tokenizer.bos_token_id]  # type: ignore[operator, attr-defined]


def encode(lm: LanguageModel, sample: Sample, *, answer: bool = True) -> Encoding:
    """Prompt tokens, then (with `answer`) answer tokens and the end token.

    The question and the answer are tokenised apart from the template, so that no token straddles two segments and
    nothing in them is taken for a special token. Plain text, and a beginning that the answer continues, have no
    template, in chat models neither.

    Raises:
        UserError: the sample does not fit the model's context.
    """
    head, lead, middle, answer_lead = _template(lm, sample)

    def plain(text: str) -> list[tuple[int, int, tuple[int, int]]]:
        return [(i, TEMPLATE, (0, 0)) for i in lm.tokenizer(text, add_special_tokens=False).input_ids] if text else []

    tokens = plain(head) + _piece(lm.tokenizer, sample.question, lead, PROMPT) + plain(middle)
    if answer:
        end = len(sample.answer)
        tokens += _piece(lm.tokenizer, sample.answer, answer_lead, ANSWER)
        if lm.tokenizer.eos_token_id is not None:
            tokens.append((lm.tokenizer.eos_token_id, ANSWER, (end, end)))
    if len(tokens) > lm.context:
        raise UserError(
            f"sample '{sample.id}' has {len(tokens)} tokens and the context of {lm.name} holds {lm.context}; "
            "shorten the text or choose a model with a longer context"
        )
    ids, segments, ranges = zip(*tokens, strict=True) if tokens else ((), (), ())
    return Encoding(sample, list(ids), list(segments), list(ranges))


@dataclass(frozen=True)
class TokenBatch:
    """Encodings padded to one length L: `input_ids` and `attention_mask` (B, L); padded on the right."""

    encodings: list[Encoding]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor  # (N,) sample of each answer token
    columns: Tensor  # (N,) its position in the sequence

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.input_ids.device

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return sum(len(e.ids) for e in self.encodings)

    @functools.cached_property
    def packing(self) -> Packing:
        """The same as one row without padding."""
        return Packing.of([len(e.ids) for e in self.encodings], self.device)

    @property
    def width(self) -> int:
        """L: tokens of the longest."""
        return self.input_ids.shape[1]

    def places(self, packed: bool) -> Tensor:
        """(N,) position of each answer token in the one row, or in the padded rows one after the other."""
        starts = self.packing.starts if packed else self.width * torch.arange(len(self.encodings), device=self.device)
        return starts[self.rows] + self.columns


def collate(lm: LanguageModel, encodings: Sequence[Encoding]) -> TokenBatch:
    """Pad on the right; the mask comes from the lengths, never from the padding id (it may equal the end token)."""
    lengths = [len(e.ids) for e in encodings]
    pad = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else 0
    ids = torch.full((len(encodings), max(lengths)), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    rows, columns = [], []
    for row, encoding in enumerate(encodings):
        ids[row, : lengths[row]] = torch.tensor(encoding.ids)
        mask[row, : lengths[row]] = 1
        positions = encoding.answer_positions
        rows += [row] * len(positions)
        columns += positions
    device = lm.device
    return TokenBatch(
        list(encodings),
        ids.to(device),
        mask.to(device),
        rows=torch.tensor(rows, dtype=torch.long, device=device),
        columns=torch.tensor(columns, dtype=torch.long, device=device),
    )


def batches(lm: LanguageModel, encodings: Sequence[Encoding], size: int) -> Iterator[tuple[list[int], TokenBatch]]:
    """Batches of at most `size` samples of like length, each with the indices of its samples in `encodings`."""
    order = sorted(range(len(encodings)), key=lambda i: (len(encodings[i].ids), i))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, collate(lm, [encodings[i] for i in chosen])


@dataclass
class TokenStats:
    """What a model thinks of each answer token; N tokens packed over the batch.

    Attributes:
        rows: (N,) sample of each token, as an index into the batch.
        labels: (N,) token ids.
        logp: (N,) log-probability of the token, in nats; carries gradient if the model does.
        logit: (N,) the token's own logit, with gradient if the model has it.
        entropy: (N,) entropy of the predictive distribution, in nats.
        rank: (N,) how many tokens are more probable; 0 is the argmax.
        hidden: (N, d) state at the token itself, or at the position that predicts it, if asked for.
        logits: (N, V) in float32 at least, with gradient if the model has it, if asked for.
        states: (N, d) state of one layer at the position that predicts the token, with gradient if the model has it,
            if asked for.
        top_ids: (N, k) most probable tokens, with `top_logp` (N, k), if asked for.
        samples: number of samples in the batch.
    """

    rows: Tensor
    labels: Tensor
    logp: Tensor
    samples: int
    entropy: Tensor | None = None
    rank: Tensor | None = None
    hidden: Tensor | None = None
    logits: Tensor | None = None
    logit: Tensor | None = None
    states: Tensor | None = None
    top_ids: Tensor | None = None
    top_logp: Tensor | None = None
    _counts: Tensor | None = field(default=None, repr=False)

    @property
    def nll(self) -> Tensor:
        """(N,) l_t = -log p_t, in nats."""
        return -self.logp

    @property
    def counts(self) -> Tensor:
        """(B,) answer tokens of each sample."""
        if self._counts is None:
            self._counts = torch.bincount(self.rows, minlength=self.samples)
        return self._counts

    def split(self, samples: int) -> tuple[TokenStats, TokenStats]:
        """Statistics of the first so many samples, and of the others."""
        tokens = int(self.counts[:samples].sum())
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("samples", "_counts")}
        first = {name: value[:tokens] for name, value in values.items() if value is not None}
        rest = {name: value[tokens:] for name, value in values.items() if value is not None}
        rest["rows"] = rest["rows"] - samples
        return TokenStats(**first, samples=samples), TokenStats(**rest, samples=self.samples - samples)

    def sample_sum(self, values: Tensor) -> Tensor:
        """(B,) sum of a per-token value over each sample."""
        return torch.zeros(self.samples, dtype=values.dtype, device=values.device).index_add(0, self.rows, values)

    def sample_mean(self, values: Tensor) -> Tensor:
        """(B,) mean of a per-token value over each sample."""
        return self.sample_sum(values) / self.counts.clamp(min=1)


def token_stats(
    lm: LanguageModel,
    batch: TokenBatch,
    *,
    extras: bool = True,
    hidden: Literal["token", "predicting"] | None = None,
    layer: int = -1,
    logits: bool = False,
    states: int | None = None,
    top_k: int = 0,
    embeddings: Tensor | None = None,
) -> TokenStats:
    """Statistics of the answer tokens: the only label shift and mask in the package.

    The token at position c is predicted by the state at c - 1. Logits are computed there and nowhere else.

    Args:
        lm: the model.
        batch: B samples with N answer tokens in all.
        extras: also entropy and rank (without gradient).
        hidden: also the states at the token, or at the position that predicts it; float32, detached.
        layer: of which layer, as an index into the model's hidden states (0 embeddings, -1 last).
        logits: also the logits themselves.
        states: also the predicting states of this layer, float32, with gradient.
        top_k: also the k most probable tokens and their log-probabilities.
        embeddings: (B, L, d) what the model reads in place of the embeddings of the batch's tokens.
    """
    layers = [*([layer] if hidden is not None else []), *([states] if states is not None else [])]
    labels = batch.input_ids[batch.rows, batch.columns]
    forward.head_is_plain(lm, batch)  # tried outside: a sharded model cannot be called within its own forward

    def compute() -> dict[str, Tensor]:
        found, places, predicting, head = forward.states_and_head(lm, batch, layers, embeddings)
        training = predicting.requires_grad and lm.module.training
        if training and not (logits or extras or top_k) and forward.in_pieces(head, len(labels)):
            values = dict(zip(("logp", "logit"), forward.label_logp(lm, head, predicting, labels), strict=True))
        else:
            # Without gradient the vocabulary-wide rows are made a piece at a time: for a set of answers gigabytes.
            whole = logits or predicting.requires_grad
            pieces = [slice(None)] if whole else [slice(i, i + ROWS) for i in range(0, max(1, len(labels)), ROWS)]
            parts: list[dict[str, Tensor]] = []
            for piece in pieces:
                scores = forward.logits_of(lm, head, predicting[piece])
                parts.append(_values(scores, labels[piece], extras, top_k))
            values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if logits:
                values["logits"] = scores
        if states is not None:
            values["states"] = found[states][places - 1].float()
        if hidden is not None:
            values["hidden"] = found[layer].detach()[places - int(hidden == "predicting")].float()
        return values

    return TokenStats(batch.rows, labels, samples=len(batch.encodings), **lm.run(compute))


def _values(scores: Tensor, labels: Tensor, extras: bool, top_k: int) -> dict[str, Tensor]:
    """What is taken from logits (N, V): the labels' log-probability and logit, and what else is asked for."""
    logp = -F.cross_entropy(scores, labels, reduction="none")
    values = {"logp": logp, "logit": scores.gather(-1, labels[:, None])[:, 0]}
    with torch.no_grad():
        if extras or top_k:
            log_all = scores.detach().log_softmax(-1)
        if extras:
            values["entropy"] = -(log_all.exp() * log_all).sum(-1)
            values["rank"] = (scores > values["logit"][:, None]).sum(-1)
        if top_k:
            top = log_all.topk(min(top_k, scores.shape[-1]), dim=-1)
            values |= {"top_ids": top.indices, "top_logp": top.values}
    return values
