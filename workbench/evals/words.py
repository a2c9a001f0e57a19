"""What a word is, in any script: a run of letters and digits, or one character where a script has no spaces.

On ASCII text these are the words of `rouge-score`, which knows a-z and 0-9 alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import regex

# Scripts that write without spaces between words, so that a character with its marks stands for a word.
UNSPACED = "".join(
    rf"\p{{scx={name}}}" for name in ("Han", "Hira", "Kana", "Thai", "Lao", "Khmr", "Mymr", "Lana", "Tavt")
)
_CHARACTER = rf"[[{UNSPACED}]&&[\p{{L}}\p{{Nl}}]]\p{{M}}*"
_WORD = regex.compile(
    rf"{_CHARACTER}|(?:[[\p{{L}}\p{{N}}]--[[{UNSPACED}]&&[\p{{L}}\p{{Nl}}]]]\p{{M}}*)+", regex.VERSION1
)
_UNSPACED_CHARACTER = regex.compile(_CHARACTER, regex.VERSION1)
_IGNORED = regex.compile(r"[\u00ad\u200c\u200d\u2060\ufeff]")  # they shape or hyphenate words and are not read


def normal(text: str) -> str:
    """A text as it is compared: letter case, composed and decomposed characters and invisible joiners aside.

    It is Unicode's compatibility caseless form (NFKC of the case-folded NFKC).
    """
    folded = unicodedata.normalize("NFKC", _IGNORED.sub("", text)).casefold()
    return unicodedata.normalize("NFKC", folded)


def words(text: str) -> list[str]:
    """The words of a text, in `normal` form; combining marks belong to their letters."""
    return _WORD.findall(normal(text))


def unspaced(word: str) -> bool:
    """Whether a word is one character of a script that has no spaces between words."""
    return not word.isascii() and bool(_UNSPACED_CHARACTER.fullmatch(word))


def spaced(text: str) -> str:
    """A text with spaces around each character of a script that has none between words."""
    return text if text.isascii() else _UNSPACED_CHARACTER.sub(r" \g<0> ", text)


class RougeWords:
    """The tokenizer that `rouge-score` takes: `words`, those of more than 3 letters stemmed as it does."""

    def __init__(self, stem: bool) -> None:
        self.stem: Callable[[str], str] = str
        if stem:
            from nltk.stem.porter import PorterStemmer

            self.stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        """The words to compare."""
        return [self.stem(word) if len(word) > 3 else word for word in words(text)]
