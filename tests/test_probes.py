"""Probes: greedy answers are greedy, whatever the model's own defaults say."""

from __future__ import annotations

import torch
from transformers import GenerationConfig

from workbench.models import LanguageModel
from workbench.probes import greedy
from workbench.tasks import Task
from workbench.tokens import encode


def test_greedy_is_the_argmax_loop(full: LanguageModel, small: Task) -> None:
    lm = full.frozen_copy()
    lm.module.generation_config = GenerationConfig(repetition_penalty=5.0, temperature=0.3, do_sample=True, top_k=5)
    expected = []
    with torch.no_grad():
        for sample in small.forget[:4]:
            ids = encode(lm, sample, answer=False).ids
            said: list[int] = []
            while len(said) < 12 and (not said or said[-1] != lm.tokenizer.eos_token_id):
                said.append(int(lm.module(torch.tensor([ids + said])).logits[0, -1].argmax()))
            expected.append(lm.tokenizer.decode(said, skip_special_tokens=True).strip())
    assert greedy(lm, small.forget[:4], 64, 12) == expected
    assert lm.module.generation_config.repetition_penalty == 5.0
