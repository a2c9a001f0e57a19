"""Samples as token ids: the prompt, the answer, their offsets, and the end of the turn.

The ids of a sample are those of its whole text: what a chat template renders, or `Question: ... Answer: ...`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.models.chat_template import Around, render
from workbench.models.whole_text import ANSWER, END, PROMPT, TEMPLATE, Token, control_tokens, tokenize
from workbench.tasks import Sample

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

UNPREDICTED = 4  # an answer's first token where nothing stands before it
_ANY_ANSWER = "A"  # stands for the answer where a prompt is cut before it


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


def encode(lm: LanguageModel, sample: Sample, *, answer: bool = True) -> Encoding:
    """Prompt tokens, then (with `answer`) answer tokens and those that end the turn.

    Plain text, and a beginning that the answer continues, get no template, not even in chat models. Without `answer`
    the sequence ends before the first token that any answer would have a character of: a space that closes the
    template, and would be one token with an answer's first word, is the answer's.

    Raises:
        UserError: the sample does not fit the model's context, or its chat template cannot be used.
    """
    prefix, tokens, suffix = _tokens(lm, sample, sample.answer if answer else _ANY_ANSWER)
    length, first = len(sample.answer), _begin(tokens)
    if not answer:
        tokens, suffix = tokens[:first], []
    elif first and tokens[first - 1][1] == TEMPLATE and lm.tokenizer.decode([tokens[first - 1][0]]) == " ":
        begin = _begin(_tokens(lm, sample, _ANY_ANSWER)[1])
        tokens[begin:first] = [(index, ANSWER, (0, 0)) for index, _, _ in tokens[begin:first]]
    ids = [*prefix, *(t[0] for t in tokens), *suffix]
    if len(ids) > lm.context:
        raise UserError(
            f"sample '{sample.id}' has {len(ids)} tokens and the context of {lm.name} holds {lm.context}; "
            "shorten the text or choose a model with a longer context"
        )
    ends = len(suffix) + sum(t[1] == END for t in tokens)
    segments = [TEMPLATE] * len(prefix) + [ANSWER if t[1] == END else t[1] for t in tokens] + [ANSWER] * len(suffix)
    ranges = [(0, 0)] * len(prefix) + [(length, length) if t[1] == END else t[2] for t in tokens]
    if segments[:1] == [ANSWER]:
        segments[0] = UNPREDICTED
    return Encoding(sample, ids, segments, ranges + [(length, length)] * len(suffix), ends)


def _begin(tokens: list[Token]) -> int:
    """Where the answer begins."""
    return next((i for i, token in enumerate(tokens) if token[1] == ANSWER), len(tokens))


def end_of_turn(lm: LanguageModel) -> tuple[set[int], str]:
    """Ids that end a generation, and the text that does where a template ends a turn without a special token."""
    configured = getattr(lm.module.generation_config, "eos_token_id", None)
    ids = set(configured if isinstance(configured, list) else [configured]) | {lm.tokenizer.eos_token_id}
    if lm.prompt != "chat":
        return (ids | set(_added(lm.tokenizer)[1][:1])) - {None}, ""
    around = render(lm, _ANY_ANSWER, _ANY_ANSWER)
    marks = control_tokens(lm.tokenizer, [(around.after, TEMPLATE)]).values()
    special = {token[0] for token in _turn(lm, around)[-1:] if token[0] in marks}
    return (ids | special) - {None}, "" if special else around.after


def _tokens(lm: LanguageModel, sample: Sample, answer: str) -> tuple[list[int], list[Token], list[int]]:
    """What the tokenizer puts before a text, the tokens of the text, and what ends it."""
    question, tokenizer = sample.question, lm.tokenizer
    if question and not sample.continues and lm.prompt == "chat":
        around = render(lm, question, answer)
        tokens = _in_full(_turn(lm, around), PROMPT, question, around.question)
        return [], _in_full(tokens, ANSWER, answer, around.answer), []
    prefix, suffix = _added(tokenizer)
    if question and not sample.continues:
        parts = [("Question: ", TEMPLATE), (question, PROMPT), ("\nAnswer: ", TEMPLATE), (answer, ANSWER)]
    else:
        starts = (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id)
        prefix = prefix or [start for start in starts if start is not None][:1]
        apart = not question or question[-1].isspace() or answer[:1].isspace()
        parts = [(question, PROMPT), ("" if apart else " ", TEMPLATE), (answer, ANSWER)]
    return prefix, tokenize(tokenizer, parts), suffix


def _in_full(tokens: list[Token], segment: int, text: str, written: str) -> list[Token]:
    """Ranges in the text of a segment, of whose ends a template has cut white space."""
    places = [i for i, token in enumerate(tokens) if token[1] == segment]
    if written == text or not places:
        return tokens
    offset, tokens = text.index(written), list(tokens)
    for i in places:
        index, _, (start, end) = tokens[i]
        tokens[i] = (
            index,
            segment,
            (0 if i == places[0] else start + offset, len(text) if i == places[-1] else end + offset),
        )
    return tokens


def _turn(lm: LanguageModel, around: Around) -> list[Token]:
    """The tokens of a whole turn, up to the special token that ends it; without one, all that the template writes."""
    parts = list(zip(around, (TEMPLATE, PROMPT, TEMPLATE, ANSWER, END), strict=True))
    marks, tokens = set(control_tokens(lm.tokenizer, parts).values()), tokenize(lm.tokenizer, parts)
    last = next((i for i, token in enumerate(tokens) if token[1] == END and token[0] in marks), len(tokens))
    return tokens[: last + 1]


def _added(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer itself puts before and after a text; after it at least its end token, if any."""
    text, whole = (tokenizer("a", add_special_tokens=special).input_ids for special in (False, True))
    place = next((i for i in range(len(whole)) if whole[i : i + len(text)] == text), 0)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return whole[:place], whole[place + len(text) :] or end
