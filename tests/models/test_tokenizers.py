"""Models trained elsewhere, with the tokenizers and templates that people have, are read as they were trained."""

from __future__ import annotations

import numpy as np
import pytest
import trained_outside as outside

from workbench.evals import probe
from workbench.models import LanguageModel, encode, load
from workbench.models.encoding import ANSWER, PROMPT
from workbench.tasks import Sample, Task


def squeezed(text):
    """Without spaces: word pieces come back with other ones."""
    return text.replace(" ", "")


def template_ids(encoding):
    return [i for i, s in zip(encoding.ids, encoding.segments, strict=True) if s not in (PROMPT, ANSWER)]


def samples_of(pairs):
    return [
        Sample(f"s{i}", q, a, spans=((a.index(f), a.index(f) + len(f)),))
        for i, ((q, a), f) in enumerate(zip(pairs, outside.FACTS, strict=True))
    ]


@pytest.fixture(scope="module", params=list(outside.KINDS))
def trained(request, tmp_path_factory):
    """A model of each kind, trained and saved with plain transformers, and loaded by the package."""
    tokenizer = outside.make_tokenizer(outside.KINDS[request.param])
    values = {"date_string": "26 Jul 2024"} if outside.KINDS[request.param].dated else {}
    model = outside.train(tokenizer, **values)
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(str(folder)), tokenizer, model, values


def test_a_model_trained_elsewhere_is_read_as_it_was_trained(trained):
    lm, tokenizer, model, values = trained
    samples = samples_of(outside.PAIRS)
    expected = outside.answer_probabilities(model, tokenizer, outside.PAIRS, **values)
    task = Task("own", {"forget": samples[:2], "retain": samples[2:]})
    rows = probe(lm, task).rows
    rows = rows.set_index("sample_id").loc[[s.id for s in samples]]
    assert [squeezed(text) for text in rows["generation"]] == [squeezed(answer) for _, answer in outside.PAIRS]
    np.testing.assert_allclose(rows["probability"], expected, atol=0.01)
    assert rows["probability"].min() > 0.98
    assert (rows["extraction_strength"] == 1).all()
    assert (rows["fact_accuracy"] == 1).all()


def test_the_ids_are_those_of_the_whole_text_and_the_ranges_tile(trained):
    lm, tokenizer, _, values = trained
    for sample in samples_of(outside.PAIRS):
        encoding = encode(lm, sample)
        whole = outside.whole_ids(tokenizer, sample.question, sample.answer, **values)
        assert encoding.ids == whole[: len(encoding.ids)]
        assert not tokenizer.decode(whole[len(encoding.ids) :]).strip(" \n</s>")  # the template's line break, at most
        for segment, text in ((PROMPT, sample.question), (ANSWER, sample.answer)):
            assert "".join(encoding.text_of(i) for i in encoding.positions(segment)) == text
        prompt = encode(lm, sample, answer=False)
        assert prompt.ids == encoding.ids[: encoding.answer_positions[0]]


def test_special_tokens_in_a_text_are_plain_text(trained):
    """The ids around the texts are the template's, and the texts' own ids have no mark and give the texts back."""
    lm, tokenizer, _, _ = trained
    marks = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if not t.content.startswith("<0x")}
    harmless = encode(lm, Sample("a", "Who taught Bo Lund?", "Zoë Ek"))
    for mark in marks:
        question, answer = f"Who {mark} taught{mark} Bo?", f"Zoë {mark}Ek"
        encoding = encode(lm, Sample("b", question, answer))
        inside = [i for i, s in zip(encoding.ids, encoding.segments, strict=True) if s in (PROMPT, ANSWER)]
        inside = inside[: len(inside) - encoding.ends]
        assert not set(inside) & (set(marks.values()) - {tokenizer.unk_token_id})
        assert template_ids(encoding) == template_ids(harmless)
        assert encoding.ids[-encoding.ends :] == harmless.ids[-encoding.ends :]
        for segment, text in ((PROMPT, question), (ANSWER, answer)):
            assert "".join(encoding.text_of(i) for i in encoding.positions(segment)) == text
        if tokenizer.unk_token_id not in inside:
            assert squeezed(question) in squeezed(tokenizer.decode(inside))


@pytest.mark.parametrize(
    "kind", ["mistral, plain", "llama-2 legacy, plain", "unigram, plain", "phi-3", "word pieces, plain"]
)
def test_a_text_and_a_beginning_that_continues_are_whole_texts_too(full, kind):
    tokenizer = outside.make_tokenizer(outside.KINDS[kind])
    lm = LanguageModel(full.module, tokenizer, kind, "plain" if tokenizer.chat_template is None else "chat")
    for question, answer in [
        ("Bo Lund moved", "to Oslo in 1984."),
        ("In ", "1984"),
        ("Ana Prieto was born in Lis", "bon."),
    ]:
        sample = Sample("s", question, answer, continues=True)
        space = "" if question.endswith(" ") else " "
        assert encode(lm, sample).ids[: -encode(lm, sample).ends] == plain_ids(tokenizer, question + space + answer)
        text = Sample("t", "", question + answer)
        assert encode(lm, text).ids[: -encode(lm, text).ends] == plain_ids(tokenizer, question + answer)


def plain_ids(tokenizer, text):
    """As the tokenizer codes a text, which begins with its first mark in any case, without the end."""
    ids = tokenizer(text).input_ids
    ids = ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids
    return ids if ids[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id, *ids]


def test_a_tokenizer_that_adds_both_marks_keeps_both(full):
    lm = LanguageModel(full.module, outside.make_tokenizer(outside.KINDS["word pieces, plain"]), "both")
    for sample in (Sample("q", "Who taught Bo?", "Zoë Ek"), Sample("t", "", "Zoë Ek")):
        ids = encode(lm, sample).ids
        assert (ids[0], ids[-1]) == (lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id)
