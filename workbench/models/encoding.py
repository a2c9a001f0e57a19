"""Samples as token ids: the prompt, the answer, their offsets, and the end of the turn.

The ids of a sample are those of its whole text: what a chat template renders, or `Question: ... Answer: ...`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.models.chat_template import Around, render
from workbench.models.whole_text import ANSWER, END, PROMPT, SPACE, TEMPLATE, Token, control_tokens, tokenize
from workbench.tasks import Sample

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

UNPREDICTED = 5  # an answer's first token where nothing stands before it


@dataclass(frozen=True)
class Encoding:
    """Token ids of one sample; per token its segment and its character range in that segment's text.

    The prompt segment's text is the question, the answer segment's text is the answer. Within a segment the ranges are
    consecutive and cover the text exactly. Where a character is split into several tokens (bytes), those after the
    first have empty ranges; so have the tokens that end the turn, the answer's last. Template tokens have the range
    (0, 0). A text's first token is UNPREDICTED where the tokenizer has nothing to put before it.
    """

    sample: Sample
    ids: list[int]
    segments: list[int]
    ranges: list[tuple[int, int]]
    ends: int = 1  # tokens that end the turn
    left: str = ""  # of a prompt without its answer: its last characters, which the answer's first token has too

    def positions(self, segment: int) -> list[int]:
        """Positions of a segment's tokens in the sequence."""
        return [i for i, each in enumerate(self.segments) if each == segment]

    @property
    def answer_positions(self) -> list[int]:
        """Positions of the answer tokens in the sequence, those that end the turn included."""
        return self.positions(ANSWER)

    def only(self, kept: Sequence[bool]) -> Encoding:
        """The sequence up to the last kept answer token; the answer tokens not kept become template tokens."""
        answer = self.answer_positions
        dropped = {place for place, keep in zip(answer, kept, strict=True) if not keep}
        end = 1 + max((place for place in answer if place not in dropped), default=answer[0] - 1)
        segments = [TEMPLATE if i in dropped else each for i, each in enumerate(self.segments[:end])]
        ends = sum(kept[len(kept) - self.ends :])
        return Encoding(self.sample, self.ids[:end], segments, self.ranges[:end], ends)

    def text_of(self, position: int) -> str:
        """The text of the token at `position`."""
        segment, (start, end) = self.segments[position], self.ranges[position]
        texts = {PROMPT: self.sample.question, ANSWER: self.sample.answer, UNPREDICTED: self.sample.answer}
        return texts.get(segment, "")[start:end]

    def span_labels(self) -> list[bool] | None:
        """For each answer token, whether it overlaps a labelled span; None without labels."""
        if self.sample.spans is None:
            return None
        return in_spans([self.ranges[i] for i in self.answer_positions], self.sample.spans, self.ends)


def in_spans(ranges: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]], ends: int = 1) -> list[bool]:
    """For each token of an answer, whether its character range overlaps a span.

    A token with an empty range is a later byte of the character before it and shares its label; the last tokens, as
    many as end the turn, have none.
    """
    out: list[bool] = []
    for place, (a, b) in enumerate(ranges):
        if a < b:
            out.append(any(a < end and start < b for start, end in spans))
        else:
            out.append(place < len(ranges) - ends and bool(out) and out[-1])
    return out


def encode(lm: LanguageModel, sample: Sample, *, answer: bool = True, any_length: bool = False) -> Encoding:
    """Prompt tokens, then (with `answer`) answer tokens and those that end the turn.

    Plain text, and a beginning that the answer continues, get no template, not even in chat models. The answer begins
    with the first token that has a character of it, or of the spaces before it: without `answer` these characters are
    left to the model, since a space is one token with the word after it in most vocabularies.

    Raises:
        UserError: the sample does not fit the model's context (unless `any_length`: see `windows`), or its chat
            template cannot be used.
    """
    prefix, tokens, suffix, text = _tokens(lm, sample)
    ids = [*prefix, *(token.id for token in tokens), *suffix]
    if len(ids) > lm.context and not any_length:
        raise UserError(
            f"sample '{sample.id}' has {len(ids)} tokens and the context of {lm.name} holds {lm.context}; "
            "shorten the text (plain texts: --piece-words) or choose a model with a longer context"
        )
    length, ends = len(sample.answer), len(suffix) + sum(token.segment == END for token in tokens)
    own = {SPACE: (ANSWER, (0, 0)), END: (ANSWER, (length, length))}
    pairs = [own.get(token.segment, (token.segment, token.range)) for token in tokens]
    pairs = [(TEMPLATE, (0, 0))] * len(prefix) + pairs + [(ANSWER, (length, length))] * len(suffix)
    segments, ranges = [segment for segment, _ in pairs], [each for _, each in pairs]
    if segments[:1] == [ANSWER]:
        segments[0] = UNPREDICTED
    if answer:
        return Encoding(sample, ids, segments, ranges, ends)
    begin = next(i for i, segment in enumerate(segments) if segment in (ANSWER, UNPREDICTED))
    left = text[tokens[begin - len(prefix)].start :]
    return Encoding(sample, ids[:begin], segments[:begin], ranges[:begin], 0, left)


def end_of_turn(lm: LanguageModel) -> tuple[set[int], str]:
    """Ids that end a generation, and the text that does where a template ends a turn without a special token."""
    configured = getattr(lm.module.generation_config, "eos_token_id", None)
    ids = set(configured if isinstance(configured, list) else [configured]) | {lm.tokenizer.eos_token_id}
    if lm.prompt != "chat":
        return (ids | set(_added(lm.tokenizer)[1][:1])) - {None}, ""
    around = render(lm, "A", "A")
    marks = control_tokens(lm.tokenizer, [(around.after, TEMPLATE)]).values()
    special = {token.id for token in _turn(lm, around)[-1:] if token.id in marks}
    return (ids | special) - {None}, "" if special else around.after


def _tokens(lm: LanguageModel, sample: Sample) -> tuple[list[int], list[Token], list[int], str]:
    """What the tokenizer puts before a text, the tokens of the text, what ends it; and the text before the answer."""
    question, answer, tokenizer = sample.question, sample.answer, lm.tokenizer
    history = [(_without_marks(tokenizer, q), _without_marks(tokenizer, a)) for q, a in sample.history]
    if question and not sample.continues and lm.prompt == "chat":
        around = render(lm, question, answer, history)
        tokens = _in_full(_turn(lm, around), PROMPT, question, around.question)
        return [], _in_full(tokens, ANSWER, answer, around.answer), [], "".join(around[:3])
    prefix, suffix = _added(tokenizer)
    if question and not sample.continues:
        earlier = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in history)
        parts = [(f"{earlier}Question: ", TEMPLATE), (question, PROMPT), ("\nAnswer:", TEMPLATE), (" ", SPACE)]
    else:
        starts = (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id)
        prefix = prefix or [start for start in starts if start is not None][:1]
        apart = not question or question[-1].isspace() or answer[:1].isspace()
        parts = [(question, PROMPT), ("" if apart else " ", SPACE)]
    tokens = tokenize(tokenizer, [*parts, (answer, ANSWER)])
    return prefix, tokens, suffix, "".join(text for text, _ in parts)


def _without_marks(tokenizer: Any, text: str) -> str:
    """An earlier turn's text with a space for each special token's string: it stands where a template's text stands."""
    marks = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    return re.sub("|".join(map(re.escape, marks)), " ", text) if marks else text


def _in_full(tokens: list[Token], segment: int, text: str, written: str) -> list[Token]:
    """Ranges in the text of a segment, of whose ends a template has cut white space."""
    places = [i for i, token in enumerate(tokens) if token.segment == segment]
    if written == text or not places:
        return tokens
    offset, tokens = text.index(written), list(tokens)
    for i in places:
        start, end = (each + offset for each in tokens[i].range)
        start = 0 if i == places[0] else start
        tokens[i] = tokens[i]._replace(range=(start, len(text) if i == places[-1] else end))
    return tokens


def _turn(lm: LanguageModel, around: Around) -> list[Token]:
    """The tokens of a whole turn, up to the special token that ends it; without one, all that the template writes."""
    closed = around.between.rstrip(" ")
    texts = (around.before, around.question, closed, around.between[len(closed) :], around.answer, around.after)
    parts = list(zip(texts, (TEMPLATE, PROMPT, TEMPLATE, SPACE, ANSWER, END), strict=True))
    marks, tokens = set(control_tokens(lm.tokenizer, parts).values()), tokenize(lm.tokenizer, parts)
    last = next((i for i, token in enumerate(tokens) if token.segment == END and token.id in marks), len(tokens))
    return tokens[: last + 1]


def _added(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer itself puts before and after a text; after it at least its end token, if any."""
    text, whole = (tokenizer("a", add_special_tokens=special).input_ids for special in (False, True))
    place = next((i for i in range(len(whole)) if whole[i : i + len(text)] == text), 0)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return whole[:place], whole[place + len(text) :] or end
