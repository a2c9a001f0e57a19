"""A sample as a function of its input tokens, for attribution methods to differentiate or to remove tokens from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.cost import Phase
from workbench.errors import NOT_FINITE, NotAvailable, UnsupportedError, UserError, check_known, unknown
from workbench.models import (
    TEMPLATE,
    Encoding,
    LanguageModel,
    TokenBatch,
    collate,
    count_forward,
    encode,
    free_memory,
    out_of_memory,
    token_stats,
)
from workbench.tasks import Sample

TARGETS = ("answer", "mean", "token:K", "contrast")
BASELINES = ("zero", "mean", "pad", "eos")
UNITS = ("token", "word")
MOST_TOKENS = 2048  # of one forward pass: more tokens need more memory and are no faster
T = TypeVar("T")


class Inputs:
    """The target of an attribution, as a function of input embeddings (n, L, d) -> (n,), in nats.

    The target is log p of the answer with its end token (`answer`), its mean over tokens (`mean`), log p of one answer
    token (`token:K`, counted from 0), or log p of the answer minus log p of the sample's first wrong answer
    (`contrast`; the wrong answer's own tokens are held fixed). The question's and answer's tokens before the last
    predicted one may change; the template around them stays. A removed token is replaced by the baseline: the embedding
    of the end token (`eos`) or of padding (`pad`), the mean embedding (`mean`), or the zero vector (`zero`).

    Attributes:
        positions: (F,) positions of the tokens that may change.
        groups: (F,) unit of each, numbered from 0: the token itself, or the word it is part of.
        units: how many units there are.
        embeddings: (1, L, d) of the sample.
        baseline: (1, L, d) the same with all tokens that may change removed.

    Raises:
        NotAvailable: the sample has no such target, or no token that could change it.
    """

    def __init__(
        self, lm: LanguageModel, sample: Sample, target: str, baseline: str, units: str, cost: Phase | None = None
    ) -> None:
        self.lm, self.cost = lm, cost or Phase()
        self.encoding = encode(lm, sample)
        answer = self.encoding.answer_positions
        if not any(self.encoding.text_of(p) for p in answer):
            raise NotAvailable("the answer has no token that stands for text")
        if not answer[0]:
            raise NotAvailable("nothing comes before the answer's first token, so the model does not predict it")
        self.weights = _target_weights(target, len(answer)).to(lm.device)
        self.wrong = _wrong_answer(lm, sample) if target == "contrast" else None
        last = answer[int(self.weights.nonzero().max())]
        places = [p for p, s in enumerate(self.encoding.segments) if s != TEMPLATE and p < last]
        if not places:
            raise NotAvailable("no token of the question or the answer comes before what is predicted")
        self.positions = torch.tensor(places, device=lm.device)
        self.groups = torch.tensor(_groups(self.encoding, places, units), device=lm.device)
        self.units = int(self.groups.max()) + 1
        with torch.no_grad():
            self.embeddings = self._embed(self.encoding)
            self.baseline = self.embeddings.clone()
            self.baseline[0, self.positions] = baseline_vector(lm, baseline)
            if self.wrong is not None:
                self._tail = self._embed(self.wrong)[:, answer[0] :]
        self._batches: dict[tuple[bool, int], TokenBatch] = {}

    def _embed(self, encoding: Encoding) -> Tensor:
        return self.lm.module.get_input_embeddings()(torch.tensor([encoding.ids], device=self.lm.device)).detach()

    def __call__(self, embeddings: Tensor) -> Tensor:
        """(n,) target of embeddings (n, L, d); differentiable."""
        logp = self.log_probabilities(embeddings)
        total = logp @ self.weights.to(logp)
        if self.wrong is None:
            return total
        head = embeddings.shape[1] - len(self.encoding.answer_positions)
        other = torch.cat([embeddings[:, :head], self._tail.expand(len(embeddings), -1, -1)], dim=1)
        return total - self.log_probabilities(other, wrong=True).sum(-1)

    def log_probabilities(self, embeddings: Tensor, *, wrong: bool = False) -> Tensor:
        """(n, T) log p of the answer's tokens, or of the wrong answer's."""
        batch = self.batch(len(embeddings), wrong=wrong)
        stats = token_stats(self.lm, batch, extras=False, embeddings=embeddings)
        count_forward(self.cost, self.lm, batch, passes=2 if embeddings.requires_grad else 1)
        if not bool(torch.isfinite(stats.logp).all()):
            raise NotAvailable(f"{NOT_FINITE} there")
        return stats.logp.view(len(embeddings), -1)

    def batch(self, copies: int, *, wrong: bool = False) -> TokenBatch:
        """A batch of copies of the sample, or of the sample with the wrong answer."""
        encoding = self.wrong if wrong and self.wrong is not None else self.encoding
        if (wrong, copies) not in self._batches:
            self._batches[wrong, copies] = collate(self.lm, [encoding] * copies)
        return self._batches[wrong, copies]

    def without(self, kept: Tensor) -> Tensor:
        """(n,) target where units are kept (1) or removed (0); `kept` is (n, units)."""
        share = torch.ones(len(kept), self.embeddings.shape[1], device=kept.device, dtype=self.embeddings.dtype)
        share[:, self.positions] = kept.to(share.dtype)[:, self.groups]
        return self(self.baseline + share[..., None] * (self.embeddings - self.baseline))

    def by_unit(self, values: Tensor) -> Tensor:
        """(units,) sums of values of positions (L,)."""
        return torch.zeros(self.units, dtype=values.dtype, device=values.device).index_add(
            0, self.groups, values[self.positions]
        )

    def per_token(self, values: Tensor) -> np.ndarray:
        """Values of units (units,) as one number per token, first the question's, then the answer's.

        Each token of a word gets the word's value; tokens after which nothing is predicted get 0.
        """
        full = torch.zeros(len(self.encoding.ids), dtype=torch.float64)
        full[self.positions.cpu()] = values.detach().double().cpu()[self.groups.cpu()]
        return full.numpy()[[p for p, s in enumerate(self.encoding.segments) if s != TEMPLATE]]

    def copies(self, gradient: bool) -> int:
        """How many copies of the sample fit into one pass, by the free memory."""
        both = [e for e in (self.encoding, self.wrong) if e]
        length, predicted = sum(len(e.ids) for e in both), sum(len(e.answer_positions) for e in both)
        return sequences_within(self.lm, length, predicted, gradient)


def sequences_within(lm: LanguageModel, length: int, predicted: int, gradient: bool) -> int:
    """How many sequences of `length` tokens, of which `predicted` are predicted, fit into one pass; at least one.

    A pass keeps about 8 d + 4 f numbers per token (d the model's width, f the MLP's) for each layer, or for two layers
    where no gradient is needed, and 4 rows of logits per predicted token. It may use half of the free memory.
    """
    config = lm.config
    width, inner = config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    inner = max(inner) if isinstance(inner, list) else inner  # Gemma 3n has one a layer
    layers = config.num_hidden_layers if gradient else 2
    numbers = length * (8 * width + 4 * inner) * layers + 4 * config.vocab_size * predicted
    room = free_memory(lm.device) // 2 // (4 * numbers)
    return max(1, min(int(room), MOST_TOKENS // length))


def _target_weights(target: str, tokens: int) -> Tensor:
    if target in {"answer", "contrast"}:
        return torch.ones(tokens)
    if target == "mean":
        return torch.full((tokens,), 1 / tokens)
    kind, _, place = target.partition(":")
    if kind != "token" or not place.isdecimal():
        raise unknown("target", target, list(TARGETS))
    if int(place) >= tokens:
        raise NotAvailable(f"the answer has {tokens} tokens, so there is no token {place} (counted from 0)")
    return torch.eye(tokens)[int(place)]


def _wrong_answer(lm: LanguageModel, sample: Sample) -> Encoding:
    if not sample.wrong_answers:
        raise NotAvailable("there is no wrong answer to contrast with")
    try:
        return encode(lm, replace(sample, answer=sample.wrong_answers[0], spans=None))
    except UserError as error:
        raise NotAvailable(f"with its wrong answer, {error}") from None


def _groups(encoding: Encoding, places: list[int], units: str) -> list[int]:
    """Unit of each position; a word begins after white space, at the start of a segment, or with a space of its own."""
    if units == "token":
        return list(range(len(places)))
    if units != "word":
        raise unknown("unit", units, list(UNITS))
    groups: list[int] = []
    segment, after_space, blank = -1, True, False  # blank: the word so far is white space
    for place in places:
        text = encoding.text_of(place)
        begins = encoding.segments[place] != segment or (
            bool(text) and not blank and (after_space or text[0].isspace())
        )
        groups.append((groups[-1] if groups else -1) + begins)
        segment = encoding.segments[place]
        if text:
            after_space, blank = text[-1].isspace(), (begins or blank) and not text.strip()
    return groups


def baseline_vector(lm: LanguageModel, baseline: str) -> Tensor:
    """(d,) the embedding that replaces a removed token."""
    embed = lm.module.get_input_embeddings()  # called, since some models scale the rows of its table
    if baseline == "zero":
        return torch.zeros_like(embed.weight[0])
    if baseline == "mean":
        ids = torch.arange(embed.weight.shape[0], device=lm.device)
        return torch.stack([embed(part).sum(0) for part in ids.split(8192)]).sum(0) / len(ids)
    check_known("baseline", baseline, BASELINES)
    token = getattr(lm.tokenizer, f"{baseline}_token_id")
    if token is None:
        raise UnsupportedError(f"{lm.name} has no {baseline} token; take another baseline: {', '.join(BASELINES)}")
    return embed(torch.tensor([token], device=lm.device))[0]


@contextlib.contextmanager
def frozen(lm: LanguageModel) -> Iterator[None]:
    """The model in evaluation mode and its parameters without gradient for a while, which saves memory."""
    before = [(p, p.requires_grad) for p in lm.module.parameters()]
    training = lm.module.training
    lm.module.eval().requires_grad_(False)
    try:
        yield
    finally:
        lm.module.train(training)
        for parameter, value in before:
            parameter.requires_grad_(value)


@contextlib.contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seeds the global random numbers that captum draws (torch's and numpy's) from a generator, for a while."""
    state = np.random.get_state()  # noqa: NPY002
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def within_memory(method: Callable[[int], T], copies: int) -> T:
    """`method(copies)`, with half as many copies each time memory runs out; NotAvailable where one does not fit."""
    while True:
        try:
            return method(copies)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        if copies == 1:
            raise NotAvailable("too long for the free memory, even one copy at a time")
        copies //= 2
