"""Long texts cut into pieces of similar length, as MUSE's are."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from workbench.tasks.samples import Sample

PIECE_WORDS = 200  # a longer text is cut into pieces of at most so many words
WORD = re.compile(r"\S+")
# Scripts without spaces between words: Thai to Burmese, Khmer, kana (halfwidth too), Chinese characters and the mark
# that repeats one. There a character is a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf\u3005-\u3007\u303b\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
ANY_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def piece_ranges(text: str, word: re.Pattern[str] = WORD, most: int = PIECE_WORDS) -> list[tuple[int, int]]:
    """Character ranges of a text's pieces: at most so many words, cut between words, without the space there.

    A blank text has none.
    """
    words = [match.span() for match in word.finditer(text)]
    count = -(-len(words) // most)
    bounds = [part * len(words) // count for part in range(count)] + [len(words)]
    return [(words[first][0], words[last - 1][1]) for first, last in pairwise(bounds)]


def words_of(text: str) -> list[tuple[int, int]]:
    """Character ranges that tile a text, a word each: the spaces before a word are its, those at the end the last's."""
    ends = [match.end() for match in ANY_WORD.finditer(text)]
    bounds = [0, *ends[:-1], len(text)] if ends else []
    return list(pairwise(bounds))


def cut(sample: Sample, most: int) -> list[Sample]:
    """A plain text of more words as several samples, spans shared out among them; anything else is itself."""
    ranges = [] if sample.question else piece_ranges(sample.answer, ANY_WORD, most)
    if len(ranges) < 2:
        return [sample]
    return [
        replace(sample, id=f"{sample.id}-{part:03d}", answer=sample.answer[a:b], spans=_inside(sample.spans, a, b))
        for part, (a, b) in enumerate(ranges)
    ]


def _inside(spans: tuple[tuple[int, int], ...] | None, start: int, end: int) -> tuple[tuple[int, int], ...] | None:
    """The parts of spans within a range, counted from its start."""
    if spans is None:
        return None
    return tuple((max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and start < b)
