"""The table of docs/models.md is what is seen: each architecture as a tiny random model, through all that it says."""

from __future__ import annotations

import model_matrix
import pytest
from tiny_models import MODELS, Tiny

# One of each kind: dense, experts, several streams or parts, own attention, hybrid, state space, refused.
FAST = {
    "Llama 2", "Mixtral", "Gemma 3, with vision", "Gemma 3n, text", "GPT-2", "Falcon", "DeepSeek-V3", "Falcon-H1",
    "Zamba 2", "Mamba", "RWKV",
}  # fmt: skip


def test_the_page_has_every_architecture() -> None:
    rows = model_matrix.read_table(model_matrix.PAGE.read_text(encoding="utf-8"))
    assert list(rows) == [tiny.name for tiny in MODELS]
    assert model_matrix.read_table(model_matrix.BEGIN + model_matrix.table(rows) + model_matrix.END) == rows


@pytest.mark.parametrize(
    "tiny",
    [pytest.param(tiny, id=tiny.name, marks=[] if tiny.name in FAST else pytest.mark.slow) for tiny in MODELS],
)
def test_an_architecture_does_what_the_page_says(tiny: Tiny) -> None:
    page = model_matrix.read_table(model_matrix.PAGE.read_text(encoding="utf-8"))
    assert model_matrix.attempt(tiny) == page[tiny.name]
