"""The words of a text, and which of them each answer token is part of: numbers and addresses are words as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import regex

from workbench.models import Encoding
from workbench.tasks import UNSPACED

_MARK = r"[\p{M}\uff9e\uff9f]"  # halfwidth kana have their two marks as letters
_INSIDE = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"  # marks, joiners, hyphenation points: no word begins or ends here
_LETTER = r"[\p{L}\p{N}]"
_WORD = regex.compile(rf"{_LETTER}(?:{_INSIDE}*{_LETTER})*{_MARK}*")
_UNSPACED = regex.compile(f"[{UNSPACED}]")
# What spaces do not set apart: signs that make one picture, katakana, a character with its marks or what repeats it.
_APART = (
    rf"\p{{Extended_Pictographic}}{_INSIDE}*(?:(?<=\u200d)\p{{Extended_Pictographic}}{_INSIDE}*)*",
    rf"\p{{RI}}\p{{RI}}{_INSIDE}*",
    rf"\p{{Katakana}}(?:{_INSIDE}*\p{{WB=Katakana}})*{_MARK}*",
    rf"[{UNSPACED}](?:{_INSIDE}|[々〻ゝゞ])+",
)
_WORDS_APART = regex.compile("|".join(_APART))


def is_number(word: str) -> bool:
    """Whether it is a number, a date or an address: something with a digit or an at sign."""
    return "@" in word or any(c.isdigit() for c in word)


def unspaced(character: str) -> bool:
    """Whether it is of a script that puts no spaces between words."""
    return bool(_UNSPACED.match(character))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where words are; characters of scripts without spaces, which are words by themselves, are in none.

    They are near the default words of Unicode (UAX 29). A word is a run of letters and digits, with their accents and
    the joiners inside; or a run of katakana; a character of a script without spaces with its marks, or with those that
    repeat it (人々); a pictogram with all that is joined to it. Unlike there, an apostrophe or underscore parts words,
    and what stands between spaces and is a number, or an address, is one word with the marks inside it: 145-291-4697,
    26/08/1957, bob_ray@me.com.
    """
    out = [match.span() for match in _WORDS_APART.finditer(text)]
    plain = _UNSPACED.sub(" ", _WORDS_APART.sub(lambda match: " " * len(match.group()), text))
    for chunk in regex.finditer(r"\S+", plain):
        runs = [run.span() for run in _WORD.finditer(plain, *chunk.span())]
        out += [(runs[0][0], runs[-1][1])] if runs and is_number(chunk.group()) else runs
    return sorted(out)


@dataclass(frozen=True)
class Words:
    """The words of an answer.

    Attributes:
        numbers: (T,) for each answer token, the number of the word that it is part of, from 0. A mark of punctuation is
            a word of its own. In a script without spaces a word is one token, or the tokens of one character; in
            katakana it is the tokens of a run.
        texts: the words without spaces, by their numbers; empty for tokens that end the turn.
    """

    numbers: np.ndarray
    texts: list[str]

    @classmethod
    def of(cls, encoding: Encoding) -> Words:
        """The words of a sample's answer."""
        text, answer = encoding.sample.answer, encoding.answer_positions
        owner = np.full(len(text) + 1, -1)
        for number, (start, end) in enumerate(word_spans(text)):
            owner[start:end] = number
        numbers: list[int] = []
        texts: list[str] = []
        last = -1
        for place, position in enumerate(answer):
            start, end = encoding.ranges[position]
            own = int(next((n for n in owner[start:end] if n >= 0), -1))
            piece = start == end and place < len(answer) - encoding.ends  # of a character that began before
            if not texts or not (piece or 0 <= own == last):
                texts.append("")
            numbers.append(len(texts) - 1)
            texts[-1] += text[start:end].strip()
            last = last if piece else own
        return cls(np.array(numbers), texts)

    def per_token(self, values: dict[str, float]) -> np.ndarray:
        """(T,) each word's value at its tokens."""
        return np.array([values[word] for word in self.texts])[self.numbers]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(T, ...) the sum over each word's tokens, at its tokens."""
        out = np.zeros((len(self.texts), *values.shape[1:]))
        np.add.at(out, self.numbers, values)
        return out[self.numbers]
