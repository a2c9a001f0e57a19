"""Two passes in lockstep: they end together, whatever happens in either, and leave nothing behind."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from test_sparse import drawn

from workbench.models import sparse
from workbench.models.language_model import LanguageModel
from workbench.models.lockstep import inserted
from workbench.models.token_stats import token_stats


class Failed(Exception):
    """Raised by a layer."""


def meetings() -> list[Any]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each).__name__ == "Meeting"]


def test_fresh_keys_take_their_places_in_a_row_and_in_padded_rows() -> None:
    base, fresh = torch.zeros(2, 1, 4, 1), torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 1, 2, 1)
    index = torch.tensor([[0, 3], [2, 1]])
    assert inserted(base, index, fresh).flatten(1).tolist() == [[1, 0, 0, 2], [0, 4, 3, 0]]
    assert inserted(base[:1], index[:1], fresh[:1]).flatten().tolist() == [1, 0, 0, 2]


def test_after_a_step_nothing_is_left(full: LanguageModel) -> None:
    lm = full.frozen_copy()
    lm.module.requires_grad_(True)
    encodings, chosen = drawn(lm, 1, 0.3)
    stats = token_stats(lm, sparse.choose(lm, encodings, chosen), extras=False)
    assert stats.logp.requires_grad
    assert torch.is_grad_enabled()
    stats.logp.sum().backward()
    del stats
    assert not meetings()


@pytest.mark.parametrize("gradient", [False, True], ids=["in the other pass", "in the pass with gradient"])
def test_an_error_in_either_pass_ends_both(full: LanguageModel, gradient: bool) -> None:
    lm = full.frozen_copy()
    lm.module.requires_grad_(True)
    encodings, chosen = drawn(lm, 1, 0.3)
    batch = sparse.choose(lm, encodings, chosen)

    def fail(*_: Any) -> None:
        if torch.is_grad_enabled() == gradient:
            raise Failed

    hook = lm.module.model.layers[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(Failed):
        token_stats(lm, batch, extras=False)
    assert torch.is_grad_enabled()
    hook.remove()
    assert not meetings()
    again = token_stats(lm, batch, extras=False).logp
    fresh = token_stats(lm, sparse.choose(lm, encodings, chosen), extras=False).logp
    assert torch.equal(again, fresh)
