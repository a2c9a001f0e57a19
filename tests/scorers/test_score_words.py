"""Words of an answer: what is one word, in scripts with spaces and without, and which tokens are part of it."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.words import Words, word_spans
from workbench.tasks.samples import Sample

FAMILY = "👨\u200d👩\u200d👧\u200d👦"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zeno's café, in Bergen-on-Sea (1956).", ["Zeno", "s", "café", "in", "Bergen", "on", "Sea", "1956"]),
        ("Call 145-291-4697, or $1,000!", ["Call", "145-291-4697", "or", "1,000"]),
        ("at [bob_ray@me.com](mailto:bob_ray@me.com).", ["at", "bob_ray@me.com](mailto:bob_ray@me.com"]),
        ("snake_case, and an e\u0301tude", ["snake", "case", "and", "an", "e\u0301tude"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("«Война» и “мир”, (1869)!", ["Война", "и", "мир", "1869"]),
        ("彼は1956年に東京で地図を売る。", ["1956"]),
        ("アンナはｱﾝﾅﾞとラーメンを、ドゥ・ゴール", ["アンナ", "ｱﾝﾅﾞ", "ラーメン", "ドゥ", "ゴール"]),
        ("人々が時々、こゝろ", ["人々", "時々", "こゝ"]),
        ("葛\U000e0100城とか\u3099", ["葛\U000e0100", "か\u3099"]),
        ("بوبی می\u200cرود و نمی\u200cبیند", ["بوبی", "می\u200cرود", "و", "نمی\u200cبیند"]),
        ("ක්\u200dරිස්ටි Donau\u00addampf", ["ක්\u200dරිස්ටි", "Donau\u00addampf"]),
        ("a\u200b b\u200f, \u200cc", ["a", "b", "c"]),
        (f"the {FAMILY}👍🏽 ❤\ufe0f and 🇩🇪🇫🇷", ["the", FAMILY, "👍🏽", "❤\ufe0f", "and", "🇩🇪", "🇫🇷"]),
        ("1\ufe0f\u20e3 of 🎉1956🎉", ["1\ufe0f\u20e3", "of", "🎉", "1956", "🎉"]),
        ("\ufe0f, \ufe0f. -\u0301 \u200d", []),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        (" ... ", []),
        ("", []),
    ],
)
def test_what_a_word_is(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == expected


def test_words_are_units_and_punctuation_is_not_part_of_them(full: LanguageModel) -> None:
    encoding = encode(full, Sample("s", "Where?", "Zeno's café, in Bergen-on-Sea (26/08/1957)."))
    own = Words.of(encoding)
    assert [text for text in own.texts if text] == [
        "Zeno", "'", "s", "café", ",", "in", "Bergen", "-", "on", "-", "Sea", "(", "26/08/1957", ")", "."]  # fmt: skip
    assert own.texts[own.numbers[-1]] == ""  # ends the turn
    pairs = np.stack([np.ones(len(own.numbers)), np.arange(len(own.numbers))], axis=1)
    for word in range(len(own.texts)):
        mark = own.numbers == word
        np.testing.assert_allclose(own.sums(pairs)[mark], np.broadcast_to(pairs[mark].sum(0), (mark.sum(), 2)))
    assert own.per_token({text: len(text) for text in own.texts})[0] == 4


def test_a_script_without_spaces_has_a_word_a_token(full: LanguageModel) -> None:
    """Tokens of one character are one word: a byte-level tokenizer may cut it into three."""
    encoding = encode(full, Sample("s", "", "彼は大阪で地図を売る。"))
    numbers = Words.of(encoding).numbers
    begins = [a < b for a, b in (encoding.ranges[p] for p in encoding.answer_positions)]
    assert numbers[: -encoding.ends].tolist() == (np.cumsum(begins) - 1)[: -encoding.ends].tolist()


@pytest.mark.parametrize("text", [f"A {FAMILY}, and ❤\ufe0f.", "彼は人々とラーメン。", "می\u200cبیند \ufe0f"])
def test_tokens_of_one_word_are_together(full: LanguageModel, text: str) -> None:
    encoding = encode(full, Sample("s", "Who?", text))
    own = Words.of(encoding)
    places = [encoding.ranges[p] for p in encoding.answer_positions]
    for start, end in word_spans(text):
        assert text[start:end] in own.texts
        numbers = {n for n, (a, b) in zip(own.numbers, places, strict=True) if a < end and b > start}
        assert len(numbers) == 1
