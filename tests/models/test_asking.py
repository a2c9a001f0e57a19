"""Prompts in, texts out: the same answers as those of the probes."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import UserError
from workbench.evals.generation import greedy
from workbench.models import LanguageModel
from workbench.tasks import Sample, Task


def test_answers_are_those_of_the_probes(full: LanguageModel, bio: Task) -> None:
    samples = bio.forget[:9]
    answers = full.generate([s.question for s in samples], max_new_tokens=20, batch_size=4)
    assert answers == greedy(full, samples, 4, 20)
    assert full.generate(samples[0].question, max_new_tokens=20) == answers[0]
    assert answers[0] == samples[0].answer


def test_draws_belong_to_a_seed(full: LanguageModel, bio: Task) -> None:
    questions = [s.question for s in bio.general[:4]] if hasattr(bio, "general") else ["Who is it?", "What is it?"]
    draw = {"max_new_tokens": 12, "temperature": 2.0}
    first = full.generate(questions, **draw)
    torch.manual_seed(7)
    assert full.generate(questions, **draw) == first
    assert full.generate(questions, **draw, seed=1) != first


def test_a_text_goes_on_where_it_ends(full: LanguageModel) -> None:
    text = full.generate("Question: What does Celia Nash do for a living?\nAnswer:", continues=True, max_new_tokens=13)
    assert text.strip() == full.generate("What does Celia Nash do for a living?", max_new_tokens=13)


@pytest.mark.parametrize(
    ("prompts", "more", "line"),
    [
        ("", {}, "a prompt is a text, not ''"),
        ([3], {}, "a prompt is a text, not 3"),
        ("a", {"max_new_tokens": 0}, "at least 1"),
        ("a", {"temperature": 0.0}, "temperature above 0"),
        ("a", {"batch_size": 0}, "at least 1"),
        (5, {}, "prompts are a text or a list of texts, not 5"),
        ("word " * 254, {}, "context"),
    ],
)
def test_what_cannot_be_asked_is_one_line(full: LanguageModel, prompts: object, more: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        full.generate(prompts, **more)  # type: ignore[arg-type]


def test_an_answer_is_not_cut_by_a_long_prompt_beside_it(full: LanguageModel, bio: Task) -> None:
    question, long = bio.forget[0].question, "word " * 122
    alone = full.generate(question)
    assert len(alone.split()) > 3
    assert full.generate([long, question])[1] == alone
    assert greedy(full, [Sample("long", long, ""), bio.forget[0]], 2, 64)[1] == alone
