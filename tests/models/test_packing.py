"""Answers in one row without padding, against the padded batch and against each answer alone."""

from __future__ import annotations

import contextlib
import itertools
import random
from typing import Any

import pytest
import torch
from test_forward import SAMPLES

from workbench.models import packing
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.flops import forward_flops
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.models.token_stats import token_stats


def padded(lengths: list[int], groups: list[list[int]], price: int) -> int:
    return sum(len(g) * max(lengths[i] for i in g) + price for g in groups)


@pytest.mark.parametrize("seed", range(20))
def test_groups_hold_every_row_once_and_no_other_split_is_cheaper(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randrange(1, 40) for _ in range(draw.randrange(1, 8))]
    price = draw.randrange(0, 60)
    groups = packing.length_groups(lengths, price)
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cheapest = min(
        padded(lengths, [order[a:b] for a, b in itertools.pairwise((0, *cuts, len(order)))], price)
        for count in range(len(order))
        for cuts in itertools.combinations(range(1, len(order)), count)
    )
    assert padded(lengths, groups, price) == cheapest


def made(family: str, vocabulary: int, **more: Any) -> Any:
    """A tiny model of a family, with random weights large enough for attention to matter."""
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    if family == "GPT2":
        size = {"n_embd": 32, "n_layer": 3, "n_head": 4}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(vocab_size=vocabulary, **size, initializer_range=0.3, **more)
    return getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM"))(config).eval()


FAMILIES = [
    ("Llama", {"num_key_value_heads": 2}),
    ("Qwen2", {"num_key_value_heads": 2}),
    ("Mistral", {"num_key_value_heads": 2, "sliding_window": 4096}),
    ("GPTNeoX", {}),
    ("Granite", {"num_key_value_heads": 2, "logits_scaling": 3.0}),  # so that the head is not plain
    ("GPT2", {"bos_token_id": 0, "eos_token_id": 0}),
]


@pytest.mark.parametrize(("family", "more"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_a_row_says_what_the_padded_batch_says_with_its_gradient(
    full: LanguageModel, family: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "CALL", 2)
    own = LanguageModel(made(family, len(full.tokenizer), **more), full.tokenizer, family)
    batch = collate(own, [encode(own, s) for s in SAMPLES])
    assert len(batch.packing.groups) > 2
    assert packing.packs(own, batch.width)
    results = []
    for how in (contextlib.nullcontext(), packing.padding(own)):
        own.module.zero_grad()
        with how:
            stats = token_stats(own, batch, hidden="token", states=2, logits=True)
            (stats.nll.mean() + stats.states.square().mean()).backward()  # type: ignore[union-attr]
            results.append((stats, [p.grad for p in own.module.parameters()], forward_flops(own, batch)))
    (row, of_row, less), (plain, of_plain, more_flops) = results
    assert less < more_flops
    assert torch.equal(row.labels, plain.labels)
    for name in ("logp", "logit", "entropy", "hidden", "states", "logits"):
        torch.testing.assert_close(getattr(row, name), getattr(plain, name), rtol=1e-4, atol=1e-4, msg=name)
    for a, b in zip(of_row, of_plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_row_says_what_each_answer_says_alone(full: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "CALL", 2)
    encodings = [encode(full, s) for s in SAMPLES]
    batch = collate(full, encodings)
    assert packing.packs(full, batch.width)
    whole = {k: token_stats(full, batch, hidden=k, states=2, top_k=3, logits=True) for k in ("token", "predicting")}
    for row, encoding in enumerate(encodings):
        single = collate(full, [encoding])
        for kind, stats in whole.items():
            alone = token_stats(full, single, hidden=kind, states=2, top_k=3, logits=True)  # type: ignore[arg-type]
            mine = stats.rows == row
            for name in ("logp", "logit", "entropy", "hidden", "states", "logits", "top_logp"):
                torch.testing.assert_close(
                    getattr(stats, name)[mine], getattr(alone, name), rtol=1e-4, atol=1e-4, msg=name
                )
            assert torch.equal(stats.rank[mine], alone.rank)
            assert torch.equal(stats.labels[mine], alone.labels)


def test_embeddings_are_read_as_ids_are(full: LanguageModel) -> None:
    batch = collate(full, [encode(full, s) for s in SAMPLES])
    embeddings = full.module.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    stats = token_stats(full, batch, embeddings=embeddings, extras=False)
    torch.testing.assert_close(stats.logp, token_stats(full, batch, extras=False).logp)
    (pull,) = torch.autograd.grad(stats.logp.sum(), embeddings)
    assert not pull[batch.attention_mask == 0].any()  # padding is read by nobody
    assert pull[batch.rows, batch.columns - 1].abs().sum(-1).min() > 0


@pytest.mark.parametrize("family", ["Bloom", "Mamba", "Gemma2"])
def test_a_model_that_cannot_be_packed_is_padded(full: LanguageModel, family: str) -> None:
    """Bloom's attention knows places by the mask alone; Mamba has none; Gemma 2 caps scores, eagerly."""
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": len(full.tokenizer)}
    more: dict[str, Any] = {"Bloom": {"n_head": 4}, "Mamba": {}}.get(
        family, {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}
    )  # fmt: skip
    torch.manual_seed(0)
    module = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**size, **more))
    before = module.config._attn_implementation
    own = LanguageModel(module.eval(), full.tokenizer, family)
    encodings = [encode(own, s) for s in SAMPLES[:6]]
    batch = collate(own, encodings)
    assert not packing.packs(own, batch.width)
    assert module.config._attn_implementation == before
    stats = token_stats(own, batch)
    alone = torch.cat([token_stats(own, collate(own, [e])).logp for e in encodings])
    torch.testing.assert_close(stats.logp, alone, rtol=1e-3, atol=1e-3)


def test_a_copy_of_a_model_that_packs_packs_too(full: LanguageModel) -> None:
    batch = collate(full, [encode(full, s) for s in SAMPLES])
    assert packing.packs(full, batch.width)
    with packing.padding(full):
        inside = full.frozen_copy()
        assert not packing.packs(full, batch.width)
    for own in (full.frozen_copy(), inside):
        assert packing.packs(own, batch.width)
        assert forward_flops(own, batch) == forward_flops(full, batch)
        assert torch.equal(token_stats(own, batch).logp, token_stats(full, batch).logp)


def test_a_window_narrower_than_the_samples_is_not_overlooked(full: LanguageModel) -> None:
    own = LanguageModel(
        made("Mistral", len(full.tokenizer), num_key_value_heads=2, sliding_window=8), full.tokenizer, "window"
    )
    assert packing.packs(own, 8)
    assert not packing.packs(own, 9)


def test_eager_attention_stays_eager(full: LanguageModel) -> None:
    own = full.frozen_copy()
    own.module.set_attn_implementation("eager")
    assert not packing.packs(own, 8)
    assert own.module.config._attn_implementation == "eager"


def test_a_packed_model_is_saved_and_generates_as_before(full: LanguageModel, tmp_path: Any) -> None:
    fresh = load("bio-full", device="cpu", precision="float32")
    prompt = collate(fresh, [encode(fresh, s, answer=False) for s in SAMPLES[:3]])
    arguments = {"input_ids": prompt.input_ids, "attention_mask": prompt.attention_mask, "max_new_tokens": 8}
    before = fresh.module.generate(**arguments, do_sample=False)
    assert packing.packs(fresh, 8)
    assert torch.equal(fresh.module.generate(**arguments, do_sample=False), before)
    fresh.save(tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()
    assert load(str(tmp_path)).fingerprint() == full.fingerprint()


def test_padding_of_attention_comes_back_out(full: LanguageModel) -> None:
    """A group's padding and its inverse, with any lengths."""
    draw = random.Random(3)
    for _ in range(20):
        lengths = [draw.randrange(1, 30) for _ in range(draw.randrange(1, 9))]
        packed = packing.Packing.of(lengths, torch.device("cpu"))
        values = torch.arange(sum(lengths), dtype=torch.float32)[None, None, :, None].expand(1, 2, -1, 3)
        out = torch.cat([g.flat(g.padded(values).transpose(1, 2)) for g in packed.groups])
        assert torch.equal(out[:, 0, 0], values[0, 0, :, 0])
        for row, length in enumerate(lengths):
            own = slice(int(packed.starts[row]), int(packed.starts[row]) + length)
            assert (packed.rows[own] == row).all()
            assert packed.columns[own].tolist() == list(range(length))
