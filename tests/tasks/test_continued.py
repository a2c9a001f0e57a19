"""A question that is the beginning of a text: no template around it."""

from __future__ import annotations

import pytest

from workbench.evals.generation import greedy
from workbench.models.encoding import ANSWER, PROMPT, TEMPLATE, encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Sample, Task


def continued(question: str, answer: str) -> Sample:
    return Sample("s", question, answer, continues=True)


@pytest.mark.parametrize(
    ("sample", "between"),
    [
        (continued("Anyone may ask: who is it", "that mends watches?"), " "),
        (continued("Question: Who?\nAnswer: ", "Ada Keller"), ""),
        (continued("Anyone may ask:", "\nwho?"), ""),
    ],
)
def test_a_continued_text_is_encoded_without_a_template(full: LanguageModel, sample: Sample, between: str) -> None:
    encoding = encode(full, sample)
    tokens = range(len(encoding.ids))
    assert encoding.segments == sorted(encoding.segments)
    assert encoding.positions(TEMPLATE) == [0]
    for segment, text in ((PROMPT, sample.question), (ANSWER, sample.answer)):
        assert "".join(encoding.text_of(i) for i in tokens if encoding.segments[i] == segment) == text
    assert encoding.ids[0] == encode(full, Sample("s", "", "Some text.")).ids[0]
    assert encoding.ids[-1] == full.tokenizer.eos_token_id
    whole = full.tokenizer.decode(encoding.ids[1:-1])
    assert whole == sample.question + between + sample.answer
    assert encode(full, sample, answer=False).ids == encoding.ids[: -len(encoding.answer_positions)]


def test_a_continued_text_has_no_template_in_a_chat_model(full: LanguageModel) -> None:
    chat = LanguageModel(full.module, full.tokenizer, full.name, "chat")
    sample = continued("Who is it", "that asks?")
    assert encode(chat, sample).ids == encode(full, sample).ids
    assert encode(chat, Sample("s", "", "Text.", continues=True)).ids == encode(full, Sample("s", "", "Text.")).ids


def test_a_model_continues_what_it_knows(full: LanguageModel, bio: Task) -> None:
    known = bio.forget[:8]
    prompts = [continued(f"Question: {s.question}\nAnswer:", s.answer) for s in known]
    said = greedy(full, prompts, 4, 40)
    assert said == greedy(full, known, 4, 40)
    assert all(text and value in text for text, s in zip(said, known, strict=True) for value in s.values)
