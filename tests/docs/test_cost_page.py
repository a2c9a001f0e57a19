"""The page on costs: its arithmetic is the ledger's, and its table is its arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.models import batch as batches
from workbench.models import load
from workbench.models import sparse as chosen_positions
from workbench.models.contexts import contexts
from workbench.models.encoding import encode
from workbench.models.flops import context_flops, forward_flops
from workbench.models.packing import padding
from workbench.tasks.samples import Task

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "cost.md"
SHAPES = {"1B": (0.973e9, 0.263e9, 16, 2048), "8B": (6.98e9, 0.525e9, 32, 4096), "70B": (68.5e9, 1.05e9, 80, 8192)}
LENGTHS = {"60": (60, 40, 20, 8), "512": (512, 480, 64, 48)}


def forward(shape: tuple[float, float, int, int], n: int, a: int) -> float:
    decoder, head, layers, width = shape
    return 2 * decoder * n + 4 * layers * width * n**2 + 2 * head * a


def test_a_forward_pass_is_the_ledgers(small: Task) -> None:
    lm = load("bio-full")
    one = batches.collate(lm, [encode(lm, small.forget[0])])
    decoder = sum(p.numel() for name, p in lm.module.model.named_parameters() if p.dim() > 1 and "embed" not in name)
    shape = decoder, lm.module.lm_head.weight.numel(), lm.config.num_hidden_layers, lm.config.hidden_size
    with padding(lm):
        assert forward_flops(lm, one) == pytest.approx(forward(shape, one.width, len(one.rows)))


def test_a_sparse_step_is_the_ledgers(small: Task) -> None:
    """The chosen positions to a hundredth; the others at most as on the page, since they end at the last keys."""
    lm = load("bio-full")
    encoding = encode(lm, small.forget[0])
    some = encoding.only([i % 4 == 1 for i in range(len(encoding.answer_positions))])
    decoder = sum(p.numel() for name, p in lm.module.model.named_parameters() if p.dim() > 1 and "embed" not in name)
    head, layers, width = lm.module.lm_head.weight.numel(), lm.config.num_hidden_layers, lm.config.hidden_size
    with padding(lm):
        whole = batches.collate(lm, [some])
        positions = sorted({place - 1 for place in some.answer_positions} | {0, 3})
        batch = chosen_positions.choose(lm, [some], [positions], contexts(lm, whole)[0])
        n, c, b = whole.width, len(positions), len(some.answer_positions)
        chosen = 2 * decoder * c + 4 * layers * width * c * n + 2 * head * b
        assert forward_flops(lm, batch) == pytest.approx(chosen, rel=0.01)
        assert context_flops(lm, whole) < forward((decoder, head, layers, width), n, 0)
        along = forward_flops(lm, chosen_positions.choose(lm, [some], [positions])) - chosen
        others = 2 * decoder * (n - c) + 4 * layers * width * n * (n - c)
        assert 0.8 * others < along < 1.02 * others


def test_the_table_is_the_arithmetic() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] in SHAPES]
    assert len(rows) == 12
    for model, length, trained, plain, sparse, kept, *_ in rows:
        decoder, head, layers, width = shape = SHAPES[model]
        n, a, c, b = LENGTHS[length]
        passes = 2 if trained == "LoRA" else 3
        context = 2 * decoder * n + 4 * layers * width * n**2
        chosen = passes * (2 * decoder * c + 4 * layers * width * c * n + 2 * head * b)
        along = 2 * decoder * (n - c) + 4 * layers * width * n * (n - c)
        values = [passes * forward(shape, n, a), along + chosen, context / 4 + chosen]
        cells = [float(cell.split(" ")[0]) for cell in (plain, sparse, kept)]
        assert cells == pytest.approx([9000 * value / 1e15 for value in values], rel=0.01)
