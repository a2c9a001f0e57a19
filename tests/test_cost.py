"""The ledger's arithmetic against torch's own flop counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.cost import Ledger, Phase, forward_flops
from workbench.models import LanguageModel
from workbench.probes import greedy
from workbench.tasks import Task
from workbench.tokens import collate, encode, token_stats
from workbench.unlearn import Settings, unlearn


def test_forward_flops_match_torch(full: LanguageModel, small: Task) -> None:
    lm = full.frozen_copy()
    lm.module.set_attn_implementation("eager")
    batch = collate(lm, [encode(lm, s) for s in small.forget])
    token_stats(lm, batch)  # the check of the head is behind us
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        token_stats(lm, batch, extras=False)
    assert forward_flops(lm, batch) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_generation_flops_match_torch(full: LanguageModel, small: Task) -> None:
    lm = full.frozen_copy()
    lm.module.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        greedy(lm, small.forget, 64, 24, cost=(cost := Phase()))
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert cost.tokens > sum(len(encode(lm, s, answer=False).ids) for s in small.forget)


def test_a_run_s_ledger_adds_up_and_survives_json(full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "atwu", "atwu", settings=Settings(steps=4, batch_size=4))
    record = run.ledger.as_dict()
    assert {"forget", "retain", "scorer", "optimizer", "recording"} <= set(record["phases"])
    assert all(record["phases"][name]["flops"] > 0 for name in ("forget", "retain", "scorer", "recording"))
    for key in ("tokens", "flops", "seconds"):
        assert record["total"][key] == pytest.approx(sum(p[key] for p in record["phases"].values()))
    assert record["peak_memory_bytes"] > 50e6
    assert Ledger.from_dict(record).total == run.ledger.total
