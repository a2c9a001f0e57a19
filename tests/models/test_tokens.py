"""One encode, one shift, one mask: against plain loops and transformers' own loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.models.batch import batches, collate
from workbench.models.encoding import ANSWER, PROMPT, encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.tasks.samples import Sample, Task

TEXTS = [
    "plain words",
    "  two leading spaces, a tab\tand a newline\n",
    "emoji 🙂 and a family 👩‍👩‍👧‍👦, skin 👍🏽",
    "e\u0301 and n\u0303 combining, \u200bzero width\u200d",
    "שלום עולם and العربية right to left",
    "漢字 かな 한국어 ไทย",
    "<script>alert(1)</script> </s> <eos> <|im_end|> &amp;",
    "\U0001f600",
    "\x1b[31mred\x1b[0m",
    "x" * 200,
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("segment", [PROMPT, ANSWER])
def test_ranges_tile_the_text_exactly(full: LanguageModel, text: str, segment: int) -> None:
    sample = Sample("x", text, "an answer") if segment == PROMPT else Sample("x", "a question?", text)
    encoding = encode(full, sample)
    places = [r for r, s in zip(encoding.ranges, encoding.segments, strict=True) if s == segment]
    assert "".join(text[a:b] for a, b in places) == text
    assert all(a <= b for a, b in places)
    assert [a for a, _ in places[1:]] == [b for _, b in places[:-1]]


@pytest.fixture(scope="module")
def byte_fallback(full: LanguageModel) -> LanguageModel:
    """A tokenizer in the manner of SentencePiece: words begin with a mark, rare characters are spelled in bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Replace("▁", " ")])
    pieces = ["<unk>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False)
    tokenizer.train_from_iterator(["plain words are known here, and a question has an answer?"] * 3, trainer)
    return replace(full, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>"))


@pytest.mark.parametrize("text", TEXTS)
def test_ranges_tile_the_text_where_characters_are_bytes(byte_fallback: LanguageModel, text: str) -> None:
    encoding = encode(byte_fallback, Sample("x", "a question?", text, spans=((0, len(text)),)))
    positions = encoding.answer_positions
    assert "".join(encoding.text_of(p) for p in positions) == text
    assert encoding.ids[-1] == byte_fallback.tokenizer.eos_token_id not in encoding.ids[:-1]
    if text == "\U0001f600":
        assert [encoding.text_of(p) for p in positions if encoding.text_of(p)] == [text]
        assert len(positions) >= 5  # four bytes and the end


def test_special_tokens_in_text_stay_text(full: LanguageModel) -> None:
    eos = full.tokenizer.eos_token
    encoding = encode(full, Sample("x", f"what is {eos}?", f"{eos} is a mark"))
    ends = [i for i, token in enumerate(encoding.ids) if token == full.tokenizer.eos_token_id]
    assert ends == [len(encoding.ids) - 1]


def test_plain_text_has_a_token_before_its_first(full: LanguageModel) -> None:
    encoding = encode(full, Sample("x", "", "A lamp burns in the window."))
    assert encoding.answer_positions[0] == 1


def test_stats_equal_a_plain_loop(full: LanguageModel, small: Task) -> None:
    encodings = [encode(full, s) for s in small.forget[:3]]
    stats = token_stats(full, collate(full, encodings), hidden="predicting", top_k=3)
    expected = []
    with torch.no_grad():
        for encoding in encodings:
            logits = full.module(torch.tensor([encoding.ids])).logits[0].double()
            for position in encoding.answer_positions:
                row = logits[position - 1]
                p = torch.softmax(row, 0)
                label = encoding.ids[position]
                expected.append(
                    (float(p[label].log()), float(-(p * p.log()).sum()), int((row > row[label]).sum()), int(p.argmax()))
                )
    logp, entropy, rank, top = zip(*expected, strict=True)
    assert stats.entropy is not None
    assert stats.rank is not None
    assert stats.top_ids is not None
    np.testing.assert_allclose(stats.logp.detach(), logp, atol=1e-4)
    np.testing.assert_allclose(stats.entropy, entropy, atol=1e-4)
    assert stats.rank.tolist() == list(rank)
    assert stats.top_ids[:, 0].tolist() == list(top)


def test_mean_nll_equals_transformers_loss(full: LanguageModel, small: Task) -> None:
    encoding = encode(full, small.forget[0])
    ids = torch.tensor([encoding.ids])
    labels = torch.tensor([[t if s == ANSWER else -100 for t, s in zip(encoding.ids, encoding.segments, strict=True)]])
    with torch.no_grad():
        loss = full.module(ids, labels=labels).loss
        ours = token_stats(full, collate(full, [encoding])).nll.mean()
    assert float(ours) == pytest.approx(float(loss), rel=1e-5)


def test_padding_changes_nothing(full: LanguageModel, small: Task) -> None:
    encodings = [encode(full, s) for s in [*small.forget, *small.sets["general"]]]
    together, alone = token_stats(full, collate(full, encodings)), []
    for encoding in encodings:
        alone.append(token_stats(full, collate(full, [encoding])).logp)
    np.testing.assert_allclose(together.logp.detach(), torch.cat(alone).detach(), atol=2e-5)


def test_states_at_the_token_are_those_one_later(full: LanguageModel, small: Task) -> None:
    batch = collate(full, [encode(full, small.forget[0])])
    at, before = (token_stats(full, batch, hidden=kind).hidden for kind in ("token", "predicting"))
    assert at is not None
    assert before is not None
    np.testing.assert_array_equal(at[:-1].numpy(), before[1:].numpy())


def test_models_that_change_their_logits_after_the_head(full: LanguageModel, small: Task) -> None:
    """A model that caps its logits must be read through its own forward."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(full.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5,
    )  # fmt: skip
    capped = LanguageModel(Gemma2ForCausalLM(config).eval(), full.tokenizer, "capped")
    encoding = encode(capped, small.forget[0])
    with torch.no_grad():
        logits = capped.module(torch.tensor([encoding.ids])).logits[0].log_softmax(-1)
        expected = [float(logits[p - 1, encoding.ids[p]]) for p in encoding.answer_positions]
        logp = token_stats(capped, collate(capped, [encoding])).logp
    np.testing.assert_allclose(logp, expected, atol=1e-5)


def test_batches_cover_every_sample_once(full: LanguageModel, small: Task) -> None:
    encodings = [encode(full, s) for s in small.forget]
    seen = [i for indices, _ in batches(full, encodings, 5) for i in indices]
    assert sorted(seen) == list(range(len(encodings)))


def test_answer_longer_than_the_context(full: LanguageModel) -> None:
    with pytest.raises(UserError, match="context"):
        encode(full, Sample("long", "q?", "word " * full.context))


def test_every_byte_of_a_labelled_character_is_in_the_span(byte_fallback: LanguageModel) -> None:
    encoding = encode(byte_fallback, Sample("x", "q?", "漢字", spans=((0, 1),)))
    texts, labels = [encoding.text_of(p) for p in encoding.answer_positions], encoding.span_labels()
    first, second = texts.index("漢"), texts.index("字")
    assert second == first + 3  # three bytes each
    assert labels == [first <= place < second for place in range(len(texts))]
    labels = encode(byte_fallback, Sample("x", "q?", "漢字", spans=((1, 2),))).span_labels()
    assert labels == [second <= place < len(texts) - 1 for place in range(len(texts))]


def test_what_is_measured_has_logits_of_full_precision(full: LanguageModel, small: Task) -> None:
    """The states may be rough under bfloat16, the head on them must not be: 8 bits of a logit are steps of 1/8."""
    low = replace(full, precision="bfloat16")
    batch = collate(low, [encode(low, s) for s in small.forget])
    with torch.no_grad():
        stats = token_stats(low, batch, logits=True, hidden="predicting")
        expected = stats.hidden @ full.module.get_output_embeddings().weight.T
    assert stats.logits is not None
    np.testing.assert_allclose(stats.logits, expected, atol=1e-4)
    assert not torch.equal(stats.logits, stats.logits.bfloat16().float())
