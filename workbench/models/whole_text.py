"""Tokens of a whole text made of parts, some of them untrusted, as the tokenizer makes them of any text."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

# Segments. SPACE is the space that closes a template before the answer.
TEMPLATE, PROMPT, ANSWER, END, SPACE = 0, 1, 2, 3, 4
CONTENT = (PROMPT, ANSWER)
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Token(NamedTuple):
    """One token of a text in parts.

    Attributes:
        id: in the vocabulary.
        segment: of the part that it belongs to.
        range: its characters in that part; (0, 0) in template parts.
        start: its first character in the joined text.
    """

    id: int
    segment: int
    range: tuple[int, int]
    start: int


def tokenize(tokenizer: Any, parts: Sequence[tuple[str, int]]) -> list[Token]:
    """Tokens of the parts' joined text, each with its segment and its range in that part.

    The ids are those of `tokenizer(text, add_special_tokens=False)`: neighbouring characters of two parts may share a
    token, which belongs to the content, and of question and answer to the answer. Special tokens are taken from
    template parts only; the same strings in content are plain text.

    Within each content part the ranges are consecutive and cover it. Where a character is split into several tokens
    (bytes), those after the first have empty ranges.
    """
    control = control_tokens(tokenizer, parts)
    coded = _plain(tokenizer, "".join(text for text, _ in parts))
    tokens = _assign(parts, *coded, control)
    contents = [text for text, segment in parts if segment in CONTENT]
    if _is_forged(tokenizer, parts, coded, control) or any(mark in text for mark in control for text in contents):
        tokens = _assign(*_guarded(tokenizer, parts, control), control)
    return tokens


def control_tokens(tokenizer: Any, parts: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The strings that content must not forge, with their ids: special tokens, and added tokens that the template has.

    White space may be an added token too (Gemma's newlines) and stays one, as do the bytes of rare characters.
    """
    template = "".join(text for text, segment in parts if segment not in CONTENT)
    return {
        token.content: index
        for index, token in tokenizer.added_tokens_decoder.items()
        if not _BYTE.fullmatch(token.content)
        and (token.special or (token.content in template and not token.content.isspace()))
    }


def _plain(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return coded["input_ids"], coded["offset_mapping"]


def _unknown(tokenizer: Any, control: dict[str, int]) -> set[int]:
    """The id of unknown characters, which content may have, unless it has other uses."""
    unknown = tokenizer.unk_token_id
    return {unknown} - {tokenizer.eos_token_id, tokenizer.bos_token_id} if unknown in control.values() else set()


def _is_forged(tokenizer: Any, parts: Sequence[tuple[str, int]], coded: Any, control: dict[str, int]) -> bool:
    """Whether a control token came out of content, perhaps by normalisation."""
    marks = set(control.values()) - _unknown(tokenizer, control)
    owners = [segment for text, segment in parts for _ in text]
    return any(
        index in marks and any(segment in CONTENT for segment in owners[start:end])
        for index, (start, end) in zip(*coded, strict=True)
    )


def _assign(
    parts: Sequence[tuple[str, int]], ids: list[int], offsets: list[tuple[int, int]], control: dict[str, int]
) -> list[Token]:
    """The segment and range of each token, from its offsets in the joined text."""
    owners = [segment for text, segment in parts for _ in text]
    starts = {}
    place = 0
    for text, segment in parts:
        if segment in CONTENT:
            starts[segment] = (place, place + len(text))
        place += len(text)
    marks = set(control.values())
    tokens: list[Token] = []
    cursors = dict.fromkeys(CONTENT, 0)
    for index, (start, end) in zip(ids, offsets, strict=True):
        # Byte-level tokenizers may cut the space off a token's offsets, so that a token of spaces alone is empty.
        covered = set(owners[start:end] or owners[max(0, end - 1) : end] or owners[:1])
        content = covered.intersection(CONTENT)
        if index in marks and covered - content:
            content = set()  # a template's mark may swallow the white space beside it
        if not content:
            segment = TEMPLATE if TEMPLATE in covered else max(covered)
            tokens.append(Token(index, segment, (0, 0), start))
            continue
        segment = max(content)
        first, last = starts[segment]
        upto = max(cursors[segment], min(end, last) - first)
        tokens.append(Token(index, segment, (cursors[segment], upto), start))
        cursors[segment] = upto
    return _covering(tokens, {segment: last - first for segment, (first, last) in starts.items()})


def _covering(tokens: list[Token], lengths: dict[int, int]) -> list[Token]:
    """The tokens with the last range of each content part stretched to its end, over what no token stands for."""
    for segment, length in lengths.items():
        last = max((i for i, token in enumerate(tokens) if token.segment == segment), default=None)
        if last is not None and tokens[last].range[1] < length:
            tokens[last] = tokens[last]._replace(range=(tokens[last].range[0], length))
    return tokens


def _guarded(
    tokenizer: Any, parts: Sequence[tuple[str, int]], control: dict[str, int]
) -> tuple[list[tuple[str, int]], list[int], list[tuple[int, int]]]:
    """Parts, ids and offsets with another spelling of the control tokens, which the content does not have.

    A copy of the tokenizer knows each control token by a private character; in template parts it stands for them.
    """
    content = "".join(text for text, segment in parts if segment in CONTENT)
    first = 0xF0000
    while any(chr(first + i) in content for i in range(len(control))):
        first += len(control)
    aliases = {mark: chr(first + i) for i, mark in enumerate(control)}
    pattern = re.compile("|".join(map(re.escape, sorted(aliases, key=len, reverse=True))) or "(?!)")
    spelt = [
        (text if segment in CONTENT else pattern.sub(lambda mark: aliases[mark[0]], text), segment)
        for text, segment in parts
    ]
    coded = _respelt(tokenizer, aliases).encode("".join(text for text, _ in spelt), add_special_tokens=False)
    return spelt, coded.ids, coded.offsets


_copies: weakref.WeakKeyDictionary[Any, dict[tuple[tuple[str, str], ...], Any]] = weakref.WeakKeyDictionary()


def _respelt(tokenizer: Any, aliases: dict[str, str]) -> Any:
    """A copy of the tokenizer's backend in which the control tokens, ids unchanged, are spelt by their aliases."""
    copies, key = _copies.setdefault(tokenizer, {}), tuple(aliases.items())
    if key not in copies:
        from tokenizers import Tokenizer

        record = json.loads(tokenizer.backend_tokenizer.to_str())
        record |= {"post_processor": None, "truncation": None, "padding": None}
        for token in record["added_tokens"]:
            token["content"] = aliases.get(token["content"], token["content"])
        _respell_model(record["model"], aliases)
        copies[key] = Tokenizer.from_str(json.dumps(record))
    return copies[key]


def _respell_model(model: dict[str, Any], aliases: dict[str, str]) -> None:
    """Spell the control tokens by their aliases in a model's vocabulary, so that no text can make them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {aliases.get(piece, piece): index for piece, index in vocabulary.items()}
    else:
        model["vocab"] = [[aliases.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in aliases:
        model["unk_token"] = aliases[model["unk_token"]]
    if "merges" in model:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)} & aliases.keys()]
