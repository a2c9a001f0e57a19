"""Several processes, and several parts of a batch, make the same run as one process with whole batches."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from forked import together
from runs_of import ONE_THREAD, QUICK, command, config_of, own_files, results, series, wait_until
from two_processes import PAIRS, SETTINGS, run_pairs

from workbench import runs
from workbench.errors import UserError
from workbench.models.distributed import Processes
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.runs import execution, loading, stopping
from workbench.runs.checkpoints import latest_checkpoint
from workbench.runs.stopping import STOP
from workbench.tasks.samples import Task

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
SHARDED = ONE_THREAD | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


KEPT_FOR_BACKWARD = """
import json, sys
import torch
from workbench.models import processes
from workbench.models import load
from workbench.models import shard
from workbench.tasks import TaskSpec
from workbench.models import collate, encode, token_stats
team = processes()
lm = load("bio-full", device="cpu", precision="bfloat16")
shapes = {frozenset(p.shape) for p in lm.module.model.layers.parameters() if p.dim() > 1}
if team.sharded:
    lm = shard(lm, "cpu", "bfloat16")
batch = collate(lm, [encode(lm, s) for s in TaskSpec("biographies").load().forget[:2]])
lm.module.train().requires_grad_(True)
kept = {}
def keep(tensor):
    if tensor.dim() == 2 and frozenset(tensor.shape) in shapes:
        kept[tensor.untyped_storage().data_ptr()] = tensor
    return tensor
with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
    stats = token_stats(lm, batch, extras=False)
if team.main:
    print(json.dumps({"bytes": sum(tensor.untyped_storage().nbytes() for tensor in kept.values())}))
"""


def accelerate(config: str, *words: str) -> list[str]:
    """Two processes started by a configuration of `docs/accelerate`, as a user does."""
    file = Path(__file__).parents[2] / "docs" / "accelerate" / f"{config}.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [*launcher, "--num_processes", "2", *words]


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"))


def read(folder: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return series(json.loads((folder / f"{name}.json").read_text())), pd.read_parquet(folder / f"{name}.parquet")


def agree(folder: Path, other: Path, objective: str, rtol: float) -> None:
    """Events and scores of two runs of one objective; `loss` may be near 0, and is compared relative to its terms."""
    (losses, scores), (expected, their_scores) = read(folder, objective), read(other, objective)
    terms = expected["forget_loss"].abs() + expected["retain_loss"].abs()
    assert ((losses.pop("loss") - expected.pop("loss")).abs() <= rtol * terms).all()
    pd.testing.assert_frame_equal(losses, expected, check_exact=False, rtol=rtol, atol=1e-4 * rtol)
    assert (scores["token"] == their_scores["token"]).all()
    # Scores are float32, and recorded in batches of other sizes where there is a `micro_batch`.
    assert (scores["score"] - their_scores["score"]).abs().max() < 5e-6


def test_two_processes_are_one_with_double_accumulation(own: dict[str, str], tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("two", "micro", "plain")}
    for folder in folders.values():
        folder.mkdir()
    words = [json.dumps(own), str(folders["two"]), json.dumps(PAIRS)]
    ends = together(2, "two_processes", *words, env=ONE_THREAD, errors=tmp_path / "errors")
    assert ends == [0, 0], (tmp_path / "errors").read_text()
    run_pairs(own, folders["micro"], SETTINGS.replace(micro_batch_size=4))
    run_pairs(own, folders["plain"])
    for objective, _ in PAIRS:
        agree(folders["two"], folders["micro"], objective, 1e-9)
        agree(folders["two"], folders["plain"], objective, 1e-6)  # a live scorer learns in float32


def test_sharded_weights_make_the_same_run(own: dict[str, str], tmp_path: Path) -> None:
    """Live scorer; two forwards before a backward (dpo); states of a layer, with gradient (rmu). Tied embeddings."""
    pairs = [("atwu", "atwu"), ("dpo", "uniform"), ("rmu", "uniform")]
    folders = {name: tmp_path / name for name in ("sharded", "micro")}
    for folder in folders.values():
        folder.mkdir()
    words = [json.dumps(own), str(folders["sharded"]), json.dumps(pairs)]
    ends = together(2, "two_processes", *words, env=SHARDED, errors=tmp_path / "errors")
    assert ends == [0, 0], (tmp_path / "errors").read_text()
    run_pairs(own, folders["micro"], SETTINGS.replace(micro_batch_size=4), pairs)
    for objective, _ in pairs:
        agree(folders["sharded"], folders["micro"], objective, 1e-9)


@pytest.mark.parametrize(
    ("config", "by_signal"),
    [
        ("2-processes-cpu", False),
        pytest.param("2-processes-cpu", True, marks=pytest.mark.slow),
        pytest.param("8-gpus-fsdp2", True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_from_the_shell_stop_and_resume(
    own: dict[str, str], tmp_path: Path, config: str, by_signal: bool
) -> None:
    """One run directory, costs of both; stopped, it goes on in one process alone, and in two."""
    settings = QUICK.replace(steps=60, checkpoint_every=100, record_every=100)
    level = "forget.probability<=1"
    more = ["--probe-every", "40", "--stop-at", level]  # for both at the same step
    words = accelerate(config, *command(own, tmp_path / "run", settings)[1:], *more)
    child = subprocess.Popen(words, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "run" / "config.json").exists())
    directory = runs.RunDirectory(tmp_path / "run")
    wait_until(lambda: directory.status()["step"] >= 3)
    child.send_signal(signal.SIGTERM) if by_signal else (directory.path / STOP).touch()
    child.communicate(timeout=120)
    status = directory.status()
    assert status["status"] == "unfinished"
    assert status["reason"] == f"stopped at step {status['step']}"
    assert latest_checkpoint(directory.path) is not None
    assert directory.config["processes"] == 2
    alone = shutil.copytree(directory.path, tmp_path / "alone")
    steps: list[int] = []
    with pytest.raises(stopping.Stopped):
        execution.resume(alone, on_step=lambda e: steps.append(e["step"]), stop=lambda: len(steps) == 2)
    assert steps == [status["step"] + 1, status["step"] + 2]
    words = ["runs", "resume", str(directory.path)]
    environment = SHARDED if "fsdp" in config else ONE_THREAD | {"ACCELERATE_USE_CPU": "true"}
    ends = together(2, "workbench", *words, env=environment, errors=tmp_path / "errors")
    assert ends == [0, 0], (tmp_path / "errors").read_text()
    assert directory.json("run.json") == {"status": "finished", "steps": 40, "reason": f"reached {level}"}
    events = directory.events()
    assert [e["step"] for e in events] == list(range(1, 41))
    again = runs.RunDirectory(alone).events()
    for mine, theirs in zip(events[status["step"] : status["step"] + 2], again[-2:], strict=True):
        assert mine["forget_nll"] == pytest.approx(theirs["forget_nll"], rel=1e-3)


REPEATED = ("probes", "recording")  # what every process does alike, in a run like this; elsewhere scoring, reference


@pytest.mark.slow
@pytest.mark.parametrize("config", ["2-processes-cpu", "8-gpus-fsdp2"])
def test_a_whole_run_of_two_processes(own: dict[str, str], tmp_path: Path, config: str) -> None:
    """In float32, as users run it: rounding of small gradients, which AdamW magnifies, is in the tolerances."""
    settings = QUICK.replace(steps=6, record_every=3)
    words = accelerate(config, *command(own, tmp_path / "two", settings)[1:])
    done = subprocess.run(words, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "finished"
    execution.start(config_of(own, settings.replace(micro_batch_size=4)), tmp_path / "micro")
    execution.start(config_of(own, settings), tmp_path / "plain")
    two, micro, plain = (runs.RunDirectory(tmp_path / name) for name in ("two", "micro", "plain"))
    for one in (micro, plain):
        (_, metrics, scores, _), (_, expected, their_scores, _) = results(two.path), results(one.path)
        assert metrics["before"] == expected["before"]
        for name, values in metrics["after"].items():
            numbers = {k: v for k, v in values.items() if isinstance(v, float)}
            assert numbers == pytest.approx({k: expected["after"][name][k] for k in numbers}, rel=1e-4)
        assert (scores["score"] - their_scores["score"]).abs().max() < 2e-4
        # Not `loss`: a difference of the two terms, it may come near 0.
        columns = ["forget_nll", "retain_nll", "grad_norm"]
        losses, theirs = (series(d.events())[columns] for d in (two, one))
        pd.testing.assert_frame_equal(losses, theirs, check_exact=False, rtol=2e-4, atol=0.0)
    cost = {d.name: d.json("cost.json")["phases"] for d in (two, micro, plain)}
    for name in ("forget", "retain", "backward"):
        assert cost["two"][name]["flops"] == pytest.approx(cost["micro"][name]["flops"], rel=1e-9)
        assert cost["two"][name]["flops"] == pytest.approx(cost["plain"][name]["flops"], rel=0.05)  # other padding
    for name in REPEATED:
        assert cost["two"][name]["flops"] == pytest.approx(2 * cost["plain"][name]["flops"], rel=1e-9)
    a, b = (load(str(d.path / "model"), device="cpu").module for d in (two, plain))
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(tensor, b.state_dict()[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("train", ["lora", "layers:1"])
def test_a_sharded_model_of_which_a_part_is_trained(own: dict[str, str], tmp_path: Path, train: str) -> None:
    settings = QUICK.replace(steps=6, record_every=3, train=train)
    words = accelerate("8-gpus-fsdp2", *command(own, tmp_path / "two", settings)[1:], "--set", f"train={train}")
    done = subprocess.run(words, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    execution.start(config_of(own, settings), tmp_path / "one")
    left = "adapter" if train == "lora" else "model"
    a, b = (load(str(tmp_path / name / left), device="cpu").module.state_dict() for name in ("two", "one"))
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=0, atol=1e-5, msg=name)


def test_a_batch_that_cannot_be_split() -> None:
    team = Processes()
    team.world, team.rank = 4, 1
    assert list(team.part(range(8))) == [2, 3]
    with pytest.raises(UserError, match=r"a batch of 10 cannot be split evenly over 4 processes; .* such as 8"):
        team.part(range(10))


def test_a_run_that_cannot_be_split_is_refused_before_any_work(
    own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Processes()
    team.world = 4
    monkeypatch.setattr(loading, "processes", lambda: team)
    config = config_of(own)
    loading.checked_task(config)
    with pytest.raises(UserError, match="a batch of 10 cannot be split"):
        loading.checked_task(config.replace(settings=QUICK.replace(batch_size=10)))
    team.sharded = True
    loading.checked_task(config)
    with pytest.raises(UserError, match=r"a sharded model cannot be scored by 'saliency'; .* use the table"):
        loading.checked_task(config.replace(weights="saliency"))


@pytest.mark.slow
def test_a_sharded_step_in_bfloat16_keeps_no_whole_layers(own: dict[str, str], tmp_path: Path) -> None:
    """Autocast would keep a copy of every weight for the backward pass, in every process."""
    script = tmp_path / "kept.py"
    script.write_text(KEPT_FOR_BACKWARD)
    kept = []
    for words, environment in (([sys.executable], ONE_THREAD), (LAUNCH, SHARDED)):
        done = subprocess.run([*words, str(script)], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        kept.append(json.loads(done.stdout.splitlines()[-1])["bytes"])
    assert kept[0] > 1e6
    assert kept[1] == 0
    settings = QUICK.replace(steps=2)
    words = [*accelerate("8-gpus-fsdp2", *command(own, tmp_path / "two", settings)[1:]), "--precision", "bfloat16"]
    done = subprocess.run(words, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    execution.start(config_of(own, settings, precision="bfloat16"), tmp_path / "one")
    two, one = (series(runs.RunDirectory(tmp_path / name).events()) for name in ("two", "one"))
    columns = ["forget_nll", "retain_nll", "grad_norm"]  # bfloat16 has 3 digits, and -log p is near 0 here
    pd.testing.assert_frame_equal(two[columns][:1], one[columns][:1], check_exact=False, rtol=0.1)


def test_a_sharded_model_is_not_copied(full: LanguageModel) -> None:
    lm = full.frozen_copy()
    lm.module.run_inside = lambda compute: compute()
    with pytest.raises(UserError, match="is sharded, and this needs a copy"):
        lm.frozen_copy()


@pytest.mark.slow
def test_a_batch_that_cannot_be_split_is_one_line(own: dict[str, str], tmp_path: Path) -> None:
    words = accelerate("2-processes-cpu", *command(own, tmp_path / "run", QUICK.replace(batch_size=7))[1:])
    done = subprocess.run(words, env=ONE_THREAD, capture_output=True, text=True, check=False)
    said = {line for line in done.stderr.splitlines() if line.startswith("workbench: ")}  # each process says it
    assert said == {
        "workbench: a batch of 7 cannot be split evenly over 2 processes; set batch_size to a multiple, such as 6"
    }
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "set fsdp_version to 2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DEEPSPEED, which a run cannot use"),
    ],
)
def test_other_ways_to_shard_are_refused(monkeypatch: pytest.MonkeyPatch, names: dict[str, str], line: str) -> None:
    for name, value in ({"WORLD_SIZE": "2"} | names).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=line):
        Processes()
