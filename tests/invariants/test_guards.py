"""What a run does where a batch is too large for the memory, or a loss is no number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from runs_of import ONE_THREAD, series
from two_processes import SETTINGS

from workbench.errors import UserError
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.scorers.amortised import fit_map
from workbench.scorers.base import TaskContext
from workbench.scorers.saved import save_scorer
from workbench.tasks.samples import Task
from workbench.unlearning import losses, trainer
from workbench.unlearning.trainer import Diverged
from workbench.unlearning.unlearn import unlearn


@pytest.mark.parametrize("micro_batch", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(("objective", "weights"), [("atwu", "atwu"), ("simnpo", "surprisal"), ("undial", "map")])
def test_parts_make_the_same_step(
    full: LanguageModel, small: Task, tmp_path: Path, objective: str, weights: str, micro_batch: int
) -> None:
    """Objectives over tokens and over samples; a live scorer; a saved one with weights relative to the batch."""
    if weights == "map":
        weights = str(tmp_path / "map.safetensors")
        save_scorer(fit_map(TaskContext(full, small), full, small.retain), Path(weights))
    lm = full.frozen_copy()
    lm.module.double()
    settings = SETTINGS.replace(steps=3, batch_size=4, retain_loss="nll")
    whole = unlearn(lm, small, objective, weights, settings=settings)
    parts = unlearn(lm, small, objective, weights, settings=settings.replace(micro_batch_size=micro_batch))
    pd.testing.assert_frame_equal(series(parts.events), series(whole.events), check_exact=False, rtol=1e-6)
    assert [e["micro_batch"] for e in parts.events] == [micro_batch] * 3
    assert "micro_batch" not in whole.events[0]


def short_of_memory(most: int) -> Any:
    """`token_stats` on a device whose memory holds so many samples at once."""

    def limited(lm: LanguageModel, batch: Any, **more: Any) -> Any:
        if len(batch.encodings) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return token_stats(lm, batch, **more)

    return limited


def test_out_of_memory_makes_parts_of_the_same_step(
    full: LanguageModel, small: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = full.frozen_copy()
    lm.module.double()
    settings = SETTINGS.replace(steps=3, batch_size=8)
    whole = unlearn(lm, small, "atwu", "atwu", settings=settings)
    for module in (losses, trainer):
        monkeypatch.setattr(module, "token_stats", short_of_memory(3))
    short = unlearn(lm, small, "atwu", "atwu", settings=settings)
    pd.testing.assert_frame_equal(series(short.events), series(whole.events), check_exact=False, rtol=1e-6)
    assert [e["micro_batch"] for e in short.events] == [2, 2, 2]  # halved twice, then kept
    assert float(short.scorer.state["step"]) == 3  # once a step, though the first was tried three times
    monkeypatch.setattr(trainer, "token_stats", short_of_memory(0))
    with pytest.raises(UserError, match="does not hold one sample at a time; train=lora"):
        unlearn(lm, small, "wga", "uniform", settings=settings)


SHORT_OF_MEMORY = """
import json, resource, sys
from pathlib import Path
import torch
from workbench.models import load
from workbench.tasks import TaskSpec
from workbench.unlearning import Settings, unlearn
torch.set_num_threads(1)
lm, task = load("bio-full", device="cpu"), TaskSpec("biographies").load()
settings = Settings(steps=2, batch_size=48, lr=1e-3, record_every=2, record_samples=4)
unlearn(lm, task, "wga", "uniform", settings=settings.replace(batch_size=4))  # what is needed once and then kept
if sys.argv[1:]:
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + (int(sys.argv[1]) << 20),) * 2)
print(json.dumps(unlearn(lm, task, "wga", "uniform", settings=settings).events))
"""


def test_what_torch_says_where_memory_is_short() -> None:
    """An allocation that truly fails: what torch's CPU allocator says is taken for what it is."""
    code = (
        "import resource, torch; from workbench.models import out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))\n"
        "try: torch.ones(1 << 33)\n"
        "except RuntimeError as error: print(out_of_memory(error), out_of_memory(RuntimeError('shapes differ')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is set by what Linux says is in use")
def test_a_real_lack_of_memory() -> None:
    """Allocations that truly fail, with 64 MiB for a step that takes over 100 whole: the run goes on in parts."""
    events = []
    for limit in ([], ["64"]):
        words = [sys.executable, "-c", SHORT_OF_MEMORY, *limit]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=ONE_THREAD)
        assert done.returncode == 0, done.stderr
        events.append(json.loads(done.stdout.splitlines()[-1]))
    whole, short = events
    assert "micro_batch" not in whole[0]
    assert 0 < short[-1]["micro_batch"] < 48
    losses = [[e["loss"] for e in each] for each in (short, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_that_is_no_number_names_step_and_samples(full: LanguageModel, small: Task) -> None:
    settings = SETTINGS.replace(steps=60, batch_size=4, lr=1e15, retain_loss="nll")
    with pytest.raises(Diverged, match="the loss is nan at step") as stopped:
        unlearn(full, small, "grad_diff", "uniform", settings=settings.replace(clip=1e30))
    known = {s.id for s in [*small.forget, *small.retain]}
    assert stopped.value.step > 1
    assert len(stopped.value.samples) == 8
    assert set(stopped.value.samples) <= known


def test_layers_that_the_loss_does_not_reach_are_told(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="train=layers:3 trains nothing that the loss depends on"):
        unlearn(full, small, "rmu", "uniform", settings=SETTINGS.replace(train="layers:3"))
