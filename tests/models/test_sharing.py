"""Models that share what is equal: less memory, and the same numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench.evals.generation import greedy
from workbench.models.adapters import choose_trained
from workbench.models.sharing import memory_of, share_weights


@pytest.mark.parametrize("train", ["all", "lora"])
def test_equal_weights_are_there_once(full: Any, bio: Any, train: str) -> None:
    other = full.frozen_copy()
    other = replace(other, name="other")
    if train == "lora":
        choose_trained(other, "lora", rank=4)
    changed = other.module.get_decoder().norm.weight
    changed.data *= 1.01
    before = greedy(other, bio.forget[:2], 2, 12)
    alone = memory_of(other)[1]
    share_weights(other, full)
    own = memory_of(other, [full])[1]
    assert changed.numel() * 4 <= own < alone / 2
    assert greedy(other, bio.forget[:2], 2, 12) == before
    assert not torch.equal(changed, full.module.get_decoder().norm.weight)
