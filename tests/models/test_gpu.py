"""What a GPU computes is what the processor computes; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from workbench.cost import Ledger
from workbench.evals.probes import probe
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.scorers.base import plain_scorers, scorer
from workbench.tasks.samples import Task
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.scoring import score_task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

SETTINGS = Settings(steps=4, batch_size=8, lr=1e-3, warmup=1, record_every=2, checkpoint_every=2)
ELSEWHERE = ("deep_lift", "gradient_shap")  # no rule for SiLU; noise of the device's own generator
SCORERS = [*plain_scorers(), *(n for n in scorer if scorer[n].kind == "input" and n not in ELSEWHERE)]
METHODS = [
    ("grad_diff", "uniform", {}),
    ("npo", "surprisal", {"skip": 0.1}),
    ("simnpo", "specificity", {"retain_batch": 12, "retain_every": 2}),
    ("atwu", "atwu", {"retain_loss": "kl"}),
    ("undial", "uniform", {"micro_batch": 3}),
    ("rmu", "uniform", {"train": "layers:0-2"}),
    ("dpo", "uniform", {"train": "lora"}),
]


def on(device: str, name: str = "bio-full") -> LanguageModel:
    """A built-in model in float64, in which rounding does not differ between devices."""
    lm = load(name, device=device, precision="float32")
    lm.module.double()
    return lm


def series(events: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(events).drop(columns="seconds")


@pytest.mark.parametrize(("objective", "weights", "change"), METHODS)
def test_a_run_is_the_processors(small: Task, objective: str, weights: str, change: dict[str, Any]) -> None:
    """Step by step. Parameters are not compared: AdamW makes whole moves of gradients that are rounding."""
    settings = SETTINGS.replace(**change)
    here, there = (unlearn(on(d), small, objective, weights, settings=settings, say=print) for d in ("cpu", "cuda"))
    pd.testing.assert_frame_equal(series(there.events), series(here.events), check_exact=False, rtol=1e-5)


@pytest.mark.parametrize("name", SCORERS)
def test_a_score_is_the_processors(small: Task, name: str) -> None:
    few = replace(small, sets=small.sets | {"forget": small.forget[:2]})
    here, there = (score_task(on(d), few, [name], reference=on(d, "bio-retain")) for d in ("cpu", "cuda"))
    pd.testing.assert_frame_equal(there, here, check_exact=False, rtol=1e-4, atol=1e-6)


def test_a_stopped_run_goes_on_from_its_checkpoint(small: Task) -> None:
    """Sums on a GPU are not in a fixed order, so that equal means to rounding."""
    states: list[Checkpoint] = []
    stops = iter([False, True])
    lm = on("cuda")
    whole = unlearn(lm, small, "atwu", "atwu", settings=SETTINGS)
    part = unlearn(lm, small, "atwu", "atwu", settings=SETTINGS, on_checkpoint=states.append, stop=lambda: next(stops))
    rest = unlearn(lm, small, "atwu", "atwu", settings=SETTINGS, resume=states[-1])
    resumed = series([*part.events, *rest.events])
    pd.testing.assert_frame_equal(resumed, series(whole.events), check_exact=False, rtol=1e-6)


def test_half_precision_is_chosen_and_near(small: Task) -> None:
    half, full = load("bio-full"), load("bio-full", precision="float32")
    assert (half.device.type, half.precision) == ("cuda", "bfloat16")
    a, b = (unlearn(lm, small, "wga", "surprisal", settings=SETTINGS).events for lm in (half, full))
    assert a[0]["loss"] == pytest.approx(b[0]["loss"], rel=0.05, abs=0.005)
    before, again = (probe(lm, small, limit=4) for lm in (half, full))
    assert before.metrics["forget"].keys() == again.metrics["forget"].keys()
    for metrics in (before.metrics["forget"], again.metrics["forget"]):
        assert metrics["extraction_strength"] > 0.9


def test_a_full_gpu_makes_parts_of_the_same_step(bio: Task) -> None:
    settings = Settings(steps=2, batch_size=256, lr=1e-3, warmup=1, record_every=10, checkpoint_every=10)
    lm, ledger = on("cuda"), Ledger()
    whole = unlearn(lm, bio, "grad_diff", "uniform", settings=settings, ledger=ledger)
    assert ledger.phases["backward"].peak_bytes > 0
    del whole.lm
    torch.cuda.empty_cache()
    held, total = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    most = max(phase.peak_bytes for phase in ledger.phases.values())
    torch.cuda.set_per_process_memory_fraction((held + 0.6 * (most - held)) / total)
    try:
        short = unlearn(lm, bio, "grad_diff", "uniform", settings=settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= short.events[0]["micro_batch"] <= 128
    events, expected = (series(run.events).drop(columns="flops") for run in (short, whole))  # less padding in parts
    pd.testing.assert_frame_equal(events.drop(columns="micro_batch"), expected, check_exact=False, rtol=1e-6)
