"""Samples as token ids: the prompt, the answer, their offsets, and the end of the turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.tasks import Sample

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

TEMPLATE, PROMPT, ANSWER = 0, 1, 2
_MARK = "\x00question\x00"  # stands for the question while the chat template is split around it


@dataclass(frozen=True)
class Encoding:
    """Token ids of one sample; per token its segment and its character range in that segment's text.

    The prompt segment's text is the question, the answer segment's text is the answer. Within a segment the ranges are
    consecutive and cover the text exactly. Where a character is split into several tokens (bytes), those after the
    first have empty ranges; so has the end token. Template tokens have the range (0, 0).
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
        """The sequence up to the last kept answer token; the answer tokens not kept become template tokens."""
        answer = self.answer_positions
        dropped = {place for place, keep in zip(answer, kept, strict=True) if not keep}
        end = 1 + max((place for place in answer if place not in dropped), default=answer[0] - 1)
        segments = [TEMPLATE if i in dropped else each for i, each in enumerate(self.segments[:end])]
        return Encoding(self.sample, self.ids[:end], segments, self.ranges[:end])

    def text_of(self, position: int) -> str:
        """The text of the token at `position`."""
        segment, (start, end) = self.segments[position], self.ranges[position]
        return {PROMPT: self.sample.question, ANSWER: self.sample.answer}.get(segment, "")[start:end]

    def span_labels(self) -> list[bool] | None:
        """For each answer token, whether it overlaps a labelled span; None without labels."""
        if self.sample.spans is None:
            return None
        return in_spans([self.ranges[i] for i in self.answer_positions], self.sample.spans)


def in_spans(ranges: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """For each token of an answer, whether its character range overlaps a span.

    A token with an empty range is a later byte of the character before it and shares its label; the last token, the
    end token, has none.
    """
    out: list[bool] = []
    for place, (a, b) in enumerate(ranges):
        if a < b:
            out.append(any(a < end and start < b for start, end in spans))
        else:
            out.append(place < len(ranges) - 1 and bool(out) and out[-1])
    return out


def _piece(tokenizer: object, text: str, lead: str, segment: int) -> list[tuple[int, int, tuple[int, int]]]:
    """Tokens of untrusted text: special-token strings in it stay plain text, and the ranges cover it exactly."""
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
    """The text before the question, between question and answer, and the space that leads each of them.

    Returns:
        (head, lead of the question, middle, lead of the answer).
    """
    tokenizer, is_question = lm.tokenizer, bool(sample.question) and not sample.continues
    if is_question and lm.prompt == "chat":
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
        )
        head, _, middle = text.partition(_MARK)
        return head, "", middle, ""
    start = (tokenizer.bos_token or tokenizer.eos_token or "") if not is_question or _adds_bos(tokenizer) else ""
    if is_question:
        return start + "Question:", " ", "\nAnswer:", " "
    apart = not sample.question or sample.question[-1].isspace() or sample.answer[:1].isspace()
    return start, "", "", "" if apart else " "


def _adds_bos(tokenizer: object) -> bool:
    return tokenizer("").input_ids == [tokenizer.bos_token_id]  # type: ignore[operator, attr-defined]


def encode(lm: LanguageModel, sample: Sample, *, answer: bool = True) -> Encoding:
    """Prompt tokens, then (with `answer`) answer tokens and the end token.

    The question and the answer are tokenised separately from the template, so that no token straddles two segments and
    nothing in them is taken for a special token. Plain text, and a beginning that the answer continues, get no
    template, not even in chat models.

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
            "shorten the text (plain texts: --piece-words) or choose a model with a longer context"
        )
    ids, segments, ranges = zip(*tokens, strict=True) if tokens else ((), (), ())
    return Encoding(sample, list(ids), list(segments), list(ranges))
