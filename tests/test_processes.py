"""Several processes, and several parts of a batch, make the same run as one process with whole batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from runs_of import QUICK, command, own_files, results, wait_until
from two_processes import PAIRS, SETTINGS, run_pairs

from workbench import execution, runs, terms
from workbench.models import LanguageModel
from workbench.ownership import STOP
from workbench.processes import Processes
from workbench.registry import UserError
from workbench.scorers import TaskScoring, save_scorer
from workbench.scorers.amortised import fit_map
from workbench.tasks import Task
from workbench.unlearn import Diverged, unlearn

COMPARED = ("loss", "forget_loss", "forget_nll", "retain_loss", "retain_nll", "grad_norm")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"))


def series(events: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(events)[list(COMPARED)]


def read(folder: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return series(json.loads((folder / f"{name}.json").read_text())), pd.read_parquet(folder / f"{name}.parquet")


def test_two_processes_are_one_with_double_accumulation(own: dict[str, str], tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("two", "micro", "plain")}
    for folder in folders.values():
        folder.mkdir()
    script = str(Path(__file__).with_name("two_processes.py"))
    words = [*LAUNCH, script, json.dumps(own), str(folders["two"])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    run_pairs(own, folders["micro"], replace(SETTINGS, micro_batch=4))
    run_pairs(own, folders["plain"])
    for objective, _ in PAIRS:
        losses, scores = read(folders["two"], objective)
        for other in ("micro", "plain"):
            expected, their_scores = read(folders[other], objective)
            pd.testing.assert_frame_equal(losses, expected, check_exact=False, rtol=1e-6)
            assert (scores["token"] == their_scores["token"]).all()
            assert (scores["score"] - their_scores["score"]).abs().max() < 1e-6


def test_two_processes_from_the_shell_stop_and_resume(own: dict[str, str], tmp_path: Path) -> None:
    """One run directory, costs of both; stopped, it goes on in one process alone."""
    settings = replace(QUICK, steps=4000, checkpoint_every=2000, record_every=2000)
    words = [*LAUNCH, *command(own, tmp_path / "run", settings)[1:]]
    child = subprocess.Popen(words, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "run" / "config.json").exists())
    directory = runs.RunDirectory(tmp_path / "run")
    wait_until(lambda: directory.status()["step"] >= 3)
    (directory.path / STOP).touch()
    child.communicate(timeout=120)
    status = directory.status()
    assert status["status"] == "unfinished"
    assert status["reason"] == f"stopped at step {status['step']}"
    assert directory.config["processes"] == 2
    steps: list[int] = []
    with pytest.raises(execution.Stopped):
        execution.resume(directory.path, on_step=lambda e: steps.append(e["step"]), stop=lambda: len(steps) == 2)
    assert steps == [status["step"] + 1, status["step"] + 2]


@pytest.mark.slow
def test_a_whole_run_of_two_processes(own: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*LAUNCH, *command(own, tmp_path / "two")[1:]], env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "finished"
    one = subprocess.run(command(own, tmp_path / "one"), env=ONE_THREAD, capture_output=True, check=False)
    assert one.returncode == 0
    a, b = (runs.RunDirectory(tmp_path / name) for name in ("two", "one"))
    before = [results(d.path)[1]["before"] for d in (a, b)]
    assert before[0] == before[1]
    split = ("forget", "retain", "backward")
    flops = [sum(d.json("cost.json")["phases"][name]["flops"] for name in split) for d in (a, b)]
    assert flops[0] == pytest.approx(flops[1], rel=0.05)  # parts are padded to other lengths


def test_a_batch_that_cannot_be_split() -> None:
    team = Processes()
    team.world, team.rank = 4, 1
    assert list(team.part(range(8))) == [2, 3]
    with pytest.raises(UserError, match=r"a batch of 10 cannot be split evenly over 4 processes; .* such as 8"):
        team.part(range(10))


def test_sharding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="does not shard its model yet"):
        Processes()


@pytest.mark.parametrize("micro_batch", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(("objective", "weights"), [("atwu", "atwu"), ("simnpo", "surprisal"), ("undial", "map")])
def test_parts_make_the_same_step(
    full: LanguageModel, small: Task, tmp_path: Path, objective: str, weights: str, micro_batch: int
) -> None:
    """Objectives over tokens and over samples; a live scorer; a saved one with weights relative to the batch."""
    if weights == "map":
        weights = str(tmp_path / "map.safetensors")
        save_scorer(fit_map(TaskScoring(full, small), full, small.retain), Path(weights))
    lm = full.frozen_copy()
    lm.module.double()
    settings = replace(SETTINGS, steps=3, batch_size=4, retain_loss="nll")
    whole = unlearn(lm, small, objective, weights, settings=settings)
    parts = unlearn(lm, small, objective, weights, settings=replace(settings, micro_batch=micro_batch))
    pd.testing.assert_frame_equal(series(parts.events), series(whole.events), check_exact=False, rtol=1e-6)
    assert [e["micro_batch"] for e in parts.events] == [micro_batch] * 3
    assert "micro_batch" not in whole.events[0]


def short_of_memory(most: int) -> Any:
    """`token_stats` on a device whose memory holds so many samples at once."""
    real = terms.token_stats

    def limited(lm: LanguageModel, batch: Any, **more: Any) -> Any:
        if len(batch.encodings) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(lm, batch, **more)

    return limited


def test_out_of_memory_makes_parts_of_the_same_step(
    full: LanguageModel, small: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = full.frozen_copy()
    lm.module.double()
    settings = replace(SETTINGS, steps=3, batch_size=8)
    whole = unlearn(lm, small, "atwu", "atwu", settings=settings)
    monkeypatch.setattr(terms, "token_stats", short_of_memory(3))
    short = unlearn(lm, small, "atwu", "atwu", settings=settings)
    pd.testing.assert_frame_equal(series(short.events), series(whole.events), check_exact=False, rtol=1e-6)
    assert [e["micro_batch"] for e in short.events] == [2, 2, 2]  # halved twice, then kept
    assert float(short.scorer.state["step"]) == 3  # once a step, though the first was tried three times
    monkeypatch.setattr(terms, "token_stats", short_of_memory(0))
    with pytest.raises(UserError, match="does not hold one sample at a time; train=lora"):
        unlearn(lm, small, "wga", "uniform", settings=settings)


def test_a_real_lack_of_memory(own: dict[str, str]) -> None:
    """An allocation that truly fails: what torch's CPU allocator says is taken for what it is."""
    code = (
        "import resource, torch; from workbench.cost import out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))\n"
        "try: torch.ones(1 << 33)\n"
        "except RuntimeError as error: print(out_of_memory(error), out_of_memory(RuntimeError('shapes differ')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_loss_that_is_no_number_names_step_and_samples(full: LanguageModel, small: Task) -> None:
    settings = replace(SETTINGS, steps=60, batch_size=4, lr=1e30, retain_loss="nll")
    with pytest.raises(Diverged, match="at step") as stopped:
        unlearn(full, small, "grad_diff", "uniform", settings=replace(settings, clip=1e30))
    known = {s.id for s in [*small.forget, *small.retain]}
    assert stopped.value.step > 1
    assert len(stopped.value.samples) == 8
    assert set(stopped.value.samples) <= known
