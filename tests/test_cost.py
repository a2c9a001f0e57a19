"""The ledger's arithmetic against torch's own flop counter."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from runs_of import config_of, own_files
from torch.utils.flop_counter import FlopCounterMode

from workbench.cost import Ledger, Phase, peak_memory
from workbench.evals.generation import greedy
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.flops import forward_flops
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.runs.directory import cost_to_reach
from workbench.runs.execution import start
from workbench.tasks.samples import Task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn


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


@pytest.mark.parametrize("train", ["all", "lora", "layers:1-2"])
@pytest.mark.parametrize("retain_loss", ["states", "nll"])
def test_rmu_s_backward_pass_ends_at_its_layer(full: LanguageModel, small: Task, train: str, retain_loss: str) -> None:
    lm = full.frozen_copy()
    lm.module.set_attn_implementation("eager")
    token_stats(lm, collate(lm, [encode(lm, small.forget[0])]))
    settings = Settings(steps=2, batch_size=4, train=train, retain_loss=retain_loss, record_every=2)
    with FlopCounterMode(display=False) as counter:
        run = unlearn(lm, small, "rmu", "uniform", settings=settings, in_place=True)
    assert run.ledger.total.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert run.ledger.phases["backward"].flops < run.ledger.phases["forget"].flops * (4 if retain_loss == "nll" else 2)


@pytest.mark.parametrize("train", ["all", "lora", "layers:2-3"])
def test_a_whole_run_s_flops_match_torch(full: LanguageModel, small: Task, train: str) -> None:
    """Forward and backward passes, recording, reference and a scorer that learns along: all that ran is counted."""
    lm = full.frozen_copy()
    lm.module.set_attn_implementation("eager")
    token_stats(lm, collate(lm, [encode(lm, small.forget[0])]))  # the check of the head is behind us
    settings = Settings(steps=3, batch_size=4, train=train, retain_loss="kl", record_every=2)
    with FlopCounterMode(display=False) as counter:
        run = unlearn(lm, small, "npo", "atwu", settings=settings, in_place=True)
    assert run.ledger.total.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert {"forget", "retain", "backward", "scorer", "reference", "recording"} <= set(run.ledger.phases)


def test_peak_memory_of_phases_on_a_cpu() -> None:
    """A mark of the whole process, which rises in the phase that needs more and never falls."""
    ledger = Ledger()
    with ledger.phase("outer"):
        with ledger.phase("before"):
            pass
        more = int(peak_memory() - psutil.Process().memory_info().rss + 160e6)  # past the mark of earlier tests
        with ledger.phase("large"), mmap.mmap(-1, more) as pages:
            pages.write(b"x" * len(pages))
        with ledger.phase("small"):
            pass
    peaks = {name: phase.peak_bytes for name, phase in ledger.phases.items()}
    assert peaks["large"] > peaks["before"] + 100e6
    assert peaks["large"] == peaks["small"] == peaks["outer"] == ledger.as_dict()["peak_memory_bytes"]


def test_peak_memory_is_the_process_s_own() -> None:
    """Not that of the one which started it, as `ru_maxrss` is after a fork."""
    with mmap.mmap(-1, 160_000_000) as pages:
        pages.write(b"x" * len(pages))
        command = "from workbench.cost import peak_memory; print(peak_memory())"
        out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert 1e6 < int(out) < 100e6


def test_the_ledger_is_the_wall_clock(bio: Task, tmp_path: Path) -> None:
    """Within 5 % of the time from start to end: nothing of a run goes uncounted, nothing counts twice."""
    config = config_of(own_files(bio, tmp_path), probe_every=4)
    started = time.perf_counter()
    run = start(config, tmp_path / "run")
    wall = time.perf_counter() - started
    cost = run.json("cost.json")
    total = cost["total"]
    assert total["seconds"] == pytest.approx(wall, rel=0.05)
    assert cost["phases"]["other"]["seconds"] < 0.2 * wall
    events = run.events()
    assert [e["total_flops"] for e in events] == sorted(e["total_flops"] for e in events)
    assert sum(e["flops"] for e in events) < events[-1]["total_flops"] < total["flops"]
    curve = run.curve()
    assert list(curve[curve["probe_set"] == "forget"]["step"]) == [0, 4, 8, 12]


def test_cost_to_reach() -> None:
    columns = {"step": [0, 5, 10], "flops": [0.0, 5e9, 1e10], "seconds": [0.0, 2.0, 4.0]}
    curve = pd.DataFrame({**columns, "probe_set": "forget", "fact_accuracy": [1.0, 0.4, 0.1]})
    reached = cost_to_reach(curve, "forget", "fact_accuracy", 0.5)
    assert reached == {"step": 5, "value": 0.4, "flops": 5e9, "seconds": 2.0}
    assert cost_to_reach(curve, "forget", "fact_accuracy", 0.9, below=False)["step"] == 0
    assert cost_to_reach(curve, "forget", "fact_accuracy", 0.05) == {
        "value": None,
        "reason": "not reached: the lowest is 0.100",
    }
    for probe_set, metric in (("retain", "fact_accuracy"), ("forget", "perplexity")):
        assert "has no" in cost_to_reach(curve, probe_set, metric, 1.0)["reason"]


def test_a_run_s_ledger_adds_up_and_survives_json(full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "atwu", "atwu", settings=Settings(steps=4, batch_size=4))
    record = run.ledger.as_dict()
    assert {"forget", "retain", "scorer", "optimizer", "recording"} <= set(record["phases"])
    assert all(record["phases"][name]["flops"] > 0 for name in ("forget", "retain", "scorer", "recording"))
    for key in ("tokens", "flops", "seconds"):
        assert record["total"][key] == pytest.approx(sum(p[key] for p in record["phases"].values()))
    assert record["peak_memory_bytes"] > 50e6
    assert Ledger.from_dict(record).total == run.ledger.total
