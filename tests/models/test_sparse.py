"""Chosen positions computed alone, against a plain pass whose attention detaches all other keys and values."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_forward import SAMPLES
from test_packing import FAMILIES, made
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workbench.errors import UserError
from workbench.models import packing, sparse
from workbench.models.adapters import choose_trained
from workbench.models.batch import TokenBatch, collate
from workbench.models.contexts import contexts
from workbench.models.encoding import Encoding, encode
from workbench.models.flops import backward_products, context_flops, flops_of, forward_flops
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn


def detached(module: Any, query: Any, key: Any, value: Any, mask: Any, **rest: Any) -> Any:
    """Eager attention in which only chosen positions' keys and values carry gradient: `KEEP` is (B, L)."""
    keep = KEEP[0][:, None, :, None]
    key, value = (torch.where(keep, each, each.detach()) for each in (key, value))
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    scores = query @ key.transpose(2, 3) * rest["scaling"]
    places = torch.arange(query.shape[2])
    seen = places[:, None] >= places
    return (scores.masked_fill(~seen, -1e9).softmax(-1) @ value).transpose(1, 2), None


KEEP: list[torch.Tensor] = []


def slow(lm: LanguageModel, batch: TokenBatch, chosen: list[list[int]]) -> torch.Tensor:
    """(N,) log-probabilities by one padded pass over all positions; states of those not chosen carry no gradient."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("detached", detached)
    AttentionMaskInterface.register("detached", sdpa_mask)
    keep = torch.zeros(batch.input_ids.shape, dtype=torch.bool)
    for row, own in enumerate(chosen):
        keep[row, own] = True
    KEEP[:] = [keep]
    with packing.attention_by(lm, "detached"):
        logits = lm.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    logp = logits[batch.rows, batch.columns - 1].log_softmax(-1)
    return logp.gather(-1, batch.input_ids[batch.rows, batch.columns][:, None])[:, 0]


def drawn(lm: LanguageModel, seed: int, share: float) -> tuple[list[Encoding], list[list[int]]]:
    """Samples with some answer tokens kept, and the positions that predict these, with a few more."""
    draw = random.Random(seed)
    encodings, chosen = [], []
    for sample in SAMPLES:
        whole = encode(lm, sample)
        kept = [draw.random() < share for _ in whole.answer_positions]
        kept[draw.randrange(len(kept))] = True
        encoding = whole.only(kept)
        own = {p - 1 for p in encoding.answer_positions}
        own |= {p for p in range(max(own)) if draw.random() < share / 2}
        encodings.append(encoding)
        chosen.append(sorted(own) if share < 1 else list(range(len(encoding.ids) - 1)))
    return encodings, chosen


def gradients(lm: LanguageModel, logp: torch.Tensor) -> list[torch.Tensor]:
    lm.module.zero_grad()
    (logp * torch.linspace(0.5, 1.5, len(logp))).sum().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in lm.module.parameters()]


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("context", ["before", "along"])
@pytest.mark.parametrize("how", ["packed", "padded"])
@pytest.mark.parametrize(("family", "more"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_gradients_are_those_of_the_slow_pass(
    full: LanguageModel,
    family: str,
    more: dict[str, Any],
    how: str,
    context: str,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "CALL", 2)
    own = LanguageModel(made(family, len(full.tokenizer), **more), full.tokenizer, family)
    encodings, chosen = drawn(own, 1, share)
    batch = collate(own, encodings)
    assert packing.packs(own, batch.width)
    with packing.padding(own) if how == "padded" else contextlib.nullcontext():
        sparse.check_sparse(own, batch.width)
        parts = contexts(own, batch)[0] if context == "before" else None
        logp = token_stats(own, sparse.choose(own, encodings, chosen, parts), extras=False).logp
    mine = gradients(own, logp)
    reference = slow(own, batch, chosen)
    torch.testing.assert_close(logp, reference, rtol=1e-4, atol=1e-4)
    for a, b in zip(mine, gradients(own, reference), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()) + 1e-6)
    if share == 1:
        plain = token_stats(own, batch, extras=False).logp
        for a, b in zip(mine, gradients(own, plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()) + 1e-6)


@pytest.mark.parametrize(
    ("family", "more", "train"),
    [
        (*FAMILIES[0], "all"),
        (*FAMILIES[0], "lora"),
        (*FAMILIES[0], "layers:2"),
        (*FAMILIES[3], "all"),
        (*FAMILIES[5], "all"),
    ],
    ids=["Llama", "Llama-lora", "Llama-layers", "GPTNeoX", "GPT2"],
)
def test_flops_are_what_torch_counts(full: LanguageModel, family: str, more: dict[str, Any], train: str) -> None:
    own = LanguageModel(made(family, len(full.tokenizer), **more), full.tokenizer, family)
    choose_trained(own, train)
    encodings, chosen = drawn(own, 2, 0.3)
    batch = collate(own, encodings)
    sparse.check_sparse(own, batch.width)
    with sdpa_kernel(SDPBackend.MATH):  # whose products torch counts; those of the CPU's own kernel it does not
        for stats in (False, True):
            with FlopCounterMode(display=False) as counter:
                parts, _ = contexts(own, batch, stats=stats)
            ours = forward_flops(own, batch) if stats else context_flops(own, batch)
            assert counter.get_total_flops() == pytest.approx(ours, rel=0.02)
        for before in (parts, None):
            some = sparse.choose(own, encodings, chosen, before)
            with FlopCounterMode(display=False) as counter:
                logp = token_stats(own, some, extras=False).logp
            assert counter.get_total_flops() == pytest.approx(forward_flops(own, some), rel=0.02)
            with FlopCounterMode(display=False) as counter:
                logp.sum().backward()
            ours = flops_of(backward_products(own), own, some)
            assert counter.get_total_flops() == pytest.approx(ours, rel=0.03)


@pytest.mark.parametrize(
    ("family", "more"),
    [("Bloom", {"n_head": 4}), ("Mamba", {}), ("Mistral", {"num_key_value_heads": 2, "sliding_window": 4})],
)
def test_what_cannot_be_computed_apart_is_refused_in_a_line(
    full: LanguageModel, family: str, more: dict[str, Any]
) -> None:
    import transformers

    size = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": len(full.tokenizer)}
    more = more | ({"num_attention_heads": 4, "intermediate_size": 48} if family == "Mistral" else {})
    torch.manual_seed(0)
    module = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**size, **more))
    with pytest.raises(UserError, match="cannot be computed at chosen positions alone"):
        sparse.check_sparse(LanguageModel(module.eval(), full.tokenizer, family), 12)


def test_long_text_with_a_tenth_important_takes_a_third_of_the_flops(full: LanguageModel) -> None:
    """Passages of 512 tokens; the context is kept for two visits."""
    own = LanguageModel(made("Llama", len(full.tokenizer), max_position_embeddings=600), full.tokenizer, "long")
    one = Sample("", "", " ".join(["Oslo", "Lima", "Bern"] * 400))
    text = encode(own, one, any_length=True)
    end = text.ranges[511][0]
    sets = {name: [Sample(f"{name}{i}", "", one.answer[i:end]) for i in (0, 5)] for name in ("forget", "retain")}
    sets["retain"] = [replace(s, answer=s.answer[10:]) for s in sets["retain"]]
    task = Task("long", sets)
    assert 500 < len(encode(own, task.forget[0]).ids) < 520
    plain = Settings(steps=4, batch_size=2, warmup=1)
    less = plain.replace(share=0.1, retain_share=0.1, retain_by="random", reuse=2, drift=0.0)
    spent = []
    for settings in (plain, less):
        phases = unlearn(own, task, "wga", "surprisal", settings=settings).ledger.phases
        spent.append(sum(phases[n].flops for n in ("context", "forget", "retain", "backward") if n in phases))
    assert spent[0] > 3 * spent[1]
