"""Texts longer than the context: every answer token once, with the numbers of a plain pass over its window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench.errors import UserError
from workbench.models import UNPREDICTED, LanguageModel, collate, encode, long_stats, token_stats, windows
from workbench.tasks import Sample, Task

TEXTS = {
    "words": " ".join(f"Word number {n} of a long text," for n in range(200)),
    "no spaces": "漢字かな" * 300,
    "one word": "x" * 1500,
    "emoji and lines": "🙂👩‍👩‍👧\n\n\tand " * 120,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("question", ["", "What is it?", "Why? " * 150])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_every_answer_token_is_in_one_window(full: LanguageModel, name: str, question: str, overlap: float) -> None:
    encoding = encode(full, Sample("x", question, TEXTS[name]), any_length=True)
    parts = windows(encoding, full.context, overlap)
    assert len(parts) > 2
    assert all(len(part.ids) <= full.context for part in parts)
    assert all(part.answer_positions[0] > 0 for part in parts)  # something stands before
    ids = [part.ids[place] for part in parts for place in part.answer_positions]
    ranges = [part.ranges[place] for part in parts for place in part.answer_positions]
    assert ids == [encoding.ids[place] for place in encoding.answer_positions]
    assert ranges == [encoding.ranges[place] for place in encoding.answer_positions]
    assert [part.ends for part in parts] == [0] * (len(parts) - 1) + [encoding.ends]


def test_half_a_window_stands_before_every_later_token(full: LanguageModel) -> None:
    encoding = encode(full, Sample("x", "", TEXTS["words"]), any_length=True)
    for part in windows(encoding, 64)[1:]:
        assert part.answer_positions[0] >= 31
        assert part.text_of(part.answer_positions[0])[:1].isspace()  # a word is not torn


def test_long_texts_have_the_numbers_of_a_plain_loop(full: LanguageModel, compare: Any) -> None:
    encoding = encode(full, Sample("x", "", TEXTS["words"]), any_length=True)
    stats = long_stats(full, collate(full, [encoding]), top_k=2)
    expected = []
    with torch.no_grad():
        for part in windows(encoding, full.context):
            logits = full.module(torch.tensor([part.ids])).logits[0].log_softmax(-1)
            expected += [float(logits[place - 1, part.ids[place]]) for place in part.answer_positions]
    compare("long text, log p", stats.logp, expected)
    assert stats.labels.tolist() == [encoding.ids[place] for place in encoding.answer_positions]
    assert stats.counts.tolist() == [len(encoding.answer_positions)]
    assert stats.top_ids.shape == (len(expected), 2)


@torch.no_grad()
def test_long_and_short_texts_in_one_batch(full: LanguageModel, bio: Task, compare: Any) -> None:
    samples = [bio.forget[0], Sample("x", "", TEXTS["words"]), bio.forget[1]]
    stats = long_stats(full, collate(full, [encode(full, s, any_length=True) for s in samples]))
    for row in (0, 2):
        alone = token_stats(full, collate(full, [encode(full, samples[row])]))
        compare("short beside long", stats.logp[stats.rows == row], alone.logp)


@torch.no_grad()
def test_where_the_context_suffices_it_is_a_full_pass(full: LanguageModel, compare: Any) -> None:
    """The first window is that of the full pass; later tokens differ by no more than what a shorter context changes."""
    text = " ".join(TEXTS["words"].split()[:60])
    batch = collate(full, [encode(full, Sample("x", "", text))])
    whole = token_stats(full, batch)
    compare("long_stats within the context", long_stats(full, batch).logp, whole.logp, abs=0)
    short = limited(full, 64)
    windowed = long_stats(short, batch)
    first = len(windows(batch.encodings[0], 64)[0].answer_positions)
    compare("first window", windowed.logp[:first], whole.logp[:first])
    apart = (windowed.logp - whole.logp).abs()
    assert apart.median() < 0.2 * whole.logp.abs().median()
    assert torch.corrcoef(torch.stack([windowed.logp, whole.logp]))[0, 1] > 0.9


def limited(lm: LanguageModel, context: int) -> LanguageModel:
    """The same weights with a shorter context."""

    class Short(LanguageModel):
        @property
        def context(self) -> int:
            return context

    return Short(**{name: getattr(lm, name) for name in lm.__dataclass_fields__})


def test_without_a_beginning_the_first_token_is_left_out(full: LanguageModel) -> None:
    tokenizer = type(full.tokenizer).from_pretrained(full.path)
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.cls_token = None
    encoding = encode(replace(full, tokenizer=tokenizer), Sample("x", "", TEXTS["words"]), any_length=True)
    if UNPREDICTED not in encoding.segments:
        pytest.skip("the tokenizer puts a token before every text")
    parts = windows(encoding, full.context)
    assert sum(len(part.answer_positions) for part in parts) == len(encoding.answer_positions)


def test_what_does_not_fit_is_still_refused_elsewhere(full: LanguageModel) -> None:
    with pytest.raises(UserError, match="the context of bio-full holds 256"):
        encode(full, Sample("x", "", TEXTS["words"]))
