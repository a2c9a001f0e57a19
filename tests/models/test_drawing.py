"""Draws that share the model's passes are the draws that each row by itself would get, whatever the model caches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers

from workbench.models import Draws, LanguageModel, draw, generate

ENDS = {1, 2}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0, 5.0, 3.0, 2.0]}
LONG |= {"original_max_position_embeddings": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "GPT2": {},
    "Bloom": {},  # no position ids
    "Mamba": {"state_size": 4},  # no keys and values
    "Bamba": {"num_key_value_heads": 2, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16}
    | {"mamba_d_state": 8},  # does not count positions on from its cache
    # These make their inputs for generation in a way of their own; Phi3 has one rope for short texts and one for long.
    "CpmAnt": {"dim_head": 8, "prompt_length": 2},  # takes the whole text although it has a cache
    "Phi3": {
        "original_max_position_embeddings": 8,
        "max_position_embeddings": 32,
        "rope_parameters": LONG,
    },  # two ropes
    "Lfm2": {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},  # both kinds of state
}


def made(full: LanguageModel, family: str) -> LanguageModel:
    """A small model with random weights, whose draws are neither all alike nor all different."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    tokens = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.5}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**size | tokens | FAMILIES[family])
    name = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
    return LanguageModel(getattr(transformers, name)(config).eval(), full.tokenizer, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_as_each_row_by_itself(full: LanguageModel, family: str) -> None:
    lm = made(full, family)
    prompts = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [5, 6, 7, 8, 9]])
    of = torch.arange(3).repeat_interleave(12)
    names = [f"try {number}" for number in range(36)]
    tokens, finite = draw(lm, prompts, of, Draws(lm.device, 0.8, names, 9), ENDS)
    assert all(finite)
    assert len({tuple(row) for row in tokens[:12]}) > 3
    assert min(map(len, tokens)) < 9  # some end
    for row, name in enumerate(names):  # transformers' own loop, without neighbours
        alone, _ = generate(lm, prompts[of[row]][None], torch.ones(1, 5), 9, ENDS, Draws(lm.device, 0.8, [name], 9))
        ended = [*alone[0].tolist(), 1]
        assert tokens[row] == ended[: min(ended.index(end) for end in ENDS if end in ended)]


def test_passes_are_shared(full: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows share their prompt, and no two rows of a pass are alike."""
    lm = made(full, "Llama")
    seen: list[int] = []
    forward = lm.module.forward

    def counted(*args: Any, **more: Any) -> Any:
        seen.append(len(more["input_ids"]))
        return forward(*args, **more)

    monkeypatch.setattr(lm.module, "forward", counted)
    draws = Draws(lm.device, 1e-4, [str(number) for number in range(50)], 6)
    tokens, _ = draw(lm, torch.tensor([[5, 6, 7]]), torch.zeros(50, dtype=torch.long), draws, set())
    assert seen == [1] * 6
    assert len({tuple(row) for row in tokens}) == 1


def test_tokens_are_taken_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([[0.0, -math.inf, 1.0, 2.0], [3.0, 0.0, 0.0, -1.0]]).clamp(min=-1e4)
    rows = torch.arange(40_000)
    draws = Draws(logits.device, 2.0, [f"row {row}" for row in rows.tolist()], 1)
    tokens = draws.take(logits, 0, rows, rows % 2)
    for of in (0, 1):
        shares = torch.bincount(tokens[of::2], minlength=4) / 20_000
        assert shares.tolist() == pytest.approx((logits[of] / 2).softmax(-1).tolist(), abs=0.015)
    assert not (tokens[::2] == 1).any()


def test_logits_that_are_not_finite_are_told_of_the_rows_that_met_them(full: LanguageModel) -> None:
    lm = made(full, "Llama")
    lm.module.get_input_embeddings().weight.data[9] = math.nan
    draws = Draws(lm.device, 1.0, [str(number) for number in range(8)], 4)
    tokens, finite = draw(lm, torch.tensor([[5, 6], [5, 9]]), torch.arange(2).repeat_interleave(4), draws, set())
    assert not any(finite[4:])
    assert [9 not in row[:-1] for row in tokens[:4]] == finite[:4]
