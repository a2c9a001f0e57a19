"""The run directory: whole or absent, resumable to the bit after Ctrl-C and kill -9, readable at any moment."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import forked
import pandas as pd
import pytest
import torch
from runs_of import command, config_of, own_files, results, same

from workbench import runs
from workbench.errors import UserError
from workbench.models.language_model import LanguageModel
from workbench.runs import execution, stages, stopping
from workbench.runs.checkpoints import latest_checkpoint, read_checkpoint
from workbench.scorers.amortised import fit_map
from workbench.scorers.base import TaskContext
from workbench.scorers.saved import save_scorer
from workbench.tasks.samples import Task
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.settings import Settings

FILES = [
    "config.json",
    "events.jsonl",
    "scores.parquet",
    "probes.parquet",
    "tokens.parquet",
    "metrics.json",
    "cost.json",
]


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def undisturbed(own: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with (folder / "printed").open("w") as out, (folder / "errors").open("w") as err:
        done = forked.Popen(command(own, folder / "whole"), stdout=out, stderr=err)
    assert done.wait() == 0, (folder / "errors").read_text()
    assert json.loads((folder / "printed").read_text().splitlines()[-1])["status"] == "finished"
    return folder / "whole"


def test_a_finished_run_has_every_file(undisturbed: Path) -> None:
    assert all((undisturbed / name).exists() for name in [*FILES, "run.json", "model/model.safetensors"])
    config = runs.RunDirectory(undisturbed).config
    assert {"seed", "steps"} <= set(config["settings"])
    assert {"versions", "model_sha256", "data_sha256"} <= set(config)
    assert not list(undisturbed.rglob("*.part"))
    assert not [p for p in undisturbed.rglob("*") if p.suffix in (".pt", ".pkl", ".bin")]


def wait_for_step(out: Path, step: int, process: forked.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        events = out / "events.jsonl"
        if events.exists() and len(events.read_text().splitlines()) >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {step}; exit status {process.poll()}")


@pytest.mark.parametrize(("sent", "step"), [(signal.SIGINT, 6), (signal.SIGKILL, 6), (signal.SIGKILL, 2)])
def test_interrupted_runs_resume_to_the_same_bits(
    own: dict[str, str], undisturbed: Path, tmp_path: Path, sent: int, step: int
) -> None:
    out = tmp_path / "run"
    with (tmp_path / "errors").open("w") as errors:
        process = forked.Popen(command(own, out), stderr=errors)
    wait_for_step(out, step, process)
    os.kill(process.pid, sent)
    assert process.wait(60) == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    if sent == signal.SIGINT:
        assert f"runs resume {out}" in (tmp_path / "errors").read_text()
    assert runs.RunDirectory(out).status()["status"] == "unfinished"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # resuming goes back to the number that the run began with
    try:
        same(results(execution.resume(out).path), results(undisturbed))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_a_run_ends_where_its_levels_are_reached(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first probe that finds all of them, with what it would have there; a resumed one at the same."""
    settings = Settings(steps=12, batch_size=4, checkpoint_every=4, record_every=3, record_samples=2, warmup=0)
    config = config_of(own, settings, objective="wga", weights="surprisal", probe_every=2)
    whole = execution.start(config, tmp_path / "whole")
    assert "reason" not in whole.json("run.json")
    curve = whole.curve()
    part = curve[curve["probe_set"] == "forget"].set_index("step")["probability"]
    level = float(part[6])
    first = int(part.index[part <= level][0])
    assert 2 < first < 12
    retain = float(curve[curve["probe_set"] == "retain"]["probability"].min())
    stop_at = f"forget.probability<={level!r}, retain.probability>={retain / 2}"
    early = execution.start(config.replace(stop_at=stop_at), tmp_path / "early")
    assert early.json("run.json") == {"status": "finished", "steps": first, "reason": f"reached {stop_at}"}
    assert (early.status()["step"], early.status()["status"], early.steps) == (first, "finished", first)
    assert results(early.path)[0] == results(whole.path)[0][:first]
    assert list(early.curve().query("probe_set == 'forget'")["step"]) == [*range(0, first + 1, 2)]
    assert set(early.table("probes.parquet").groupby("phase")["step"].first()) == {0, first}  # type: ignore[union-attr]
    scores = early.table("scores.parquet")
    assert scores is not None
    last = scores[scores["step"] == first]
    assert last["sample_id"].nunique() == scores[scores["step"] == 0]["sample_id"].nunique()
    assert not last.duplicated(["sample_id", "segment", "position"]).any()
    never = execution.start(config.replace(stop_at="forget.probability<=0"), tmp_path / "never")
    same(results(never.path), results(whole.path))
    assert never.status()["reason"] == "never reached forget.probability<=0"
    ends_so = config.replace(stop_at="forget.probability<=1", probe_every=12)  # the last step is probed afterwards
    assert execution.start(ends_so, tmp_path / "at-the-end").status()["reason"] == "reached forget.probability<=1"

    def cut_off(*_: Any) -> None:
        raise KeyboardInterrupt

    stops = iter([False] * 3)
    with pytest.raises(stopping.Stopped, match="step 3"):
        execution.start(config.replace(stop_at=stop_at), tmp_path / "cut", stop=lambda: next(stops, True))
    with monkeypatch.context() as patch:
        patch.setattr(stages.Stages, "_finish", cut_off)
        with pytest.raises(stopping.Stopped, match=f"step {first}"):
            execution.resume(tmp_path / "cut")
    same(results(execution.resume(tmp_path / "cut").path), results(early.path))


def test_levels_that_cannot_be_reached_are_refused(own: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    for stop_at, every, line in (
        ("forget.fact_accuracy<=0.2", 0, "set probe_every"),
        ("forget.fact_accuracy=0.2", 2, "takes SET.METRIC<=LEVEL"),
        ("forget.fact_accuracy<=0.2,", 2, "takes SET.METRIC<=LEVEL"),
        ("forget.fact_accuracy<=e", 2, "takes SET.METRIC<=LEVEL"),
        ("forgot.fact_accuracy<=0.2", 2, "the forgot set has no fact_accuracy (sets: forget, retain"),
        ("forget.accuracy<=0.2", 2, "the forget set has no accuracy"),
        ("forget.truth_ratio<=0.2", 2, "not available: needs wrong answers"),
    ):
        with pytest.raises(UserError) as error:
            execution.start(config_of(own, probe_every=every, stop_at=stop_at), out)
        assert line in str(error.value)
        assert not out.exists()


def test_a_checkpoint_comes_back_whole_and_aligned(own: dict[str, str], tmp_path: Path) -> None:
    """Unaligned optimiser tensors, as a file maps them, would change the last bits of a resumed run."""
    settings = Settings(steps=9, batch_size=4, checkpoint_every=2)
    config = runs.Config(
        task=TaskSpec(**own), model="bio-full", objective="wga", weights="surprisal", settings=settings,
        device="cpu", probe_limit=2,
    )  # fmt: skip
    stops = iter([False] * 4)
    with pytest.raises(stopping.Stopped, match="step 4"):
        execution.start(config, tmp_path / "run", stop=lambda: next(stops, True))
    directory = runs.RunDirectory(tmp_path / "run")
    folder = latest_checkpoint(directory.path)
    assert folder is not None
    state = read_checkpoint(folder)
    assert state.step == 4
    assert len(state.parameters) * 3 == len(state.optimizer)
    tensors = [*state.parameters.values(), *state.optimizer.values(), *state.scorer.values()]
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)


def test_a_torn_last_event_is_left_out(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((undisturbed / "config.json").read_text())
    (tmp_path / "events.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    directory = runs.RunDirectory(tmp_path)
    assert [e["step"] for e in directory.events()] == [1, 2]
    status = directory.status()
    assert (status["run"], status["status"], status["step"], status["steps"]) == (str(tmp_path), "unfinished", 2, 12)


def test_wrong_names_write_nothing(own: dict[str, str], tmp_path: Path) -> None:
    good = runs.Config(task=TaskSpec(**own), model="bio-full", settings=Settings(steps=1))
    out = tmp_path / "run"
    wrong: list[dict[str, Any]] = [
        {"model": "bio-ful"}, {"objective": "atwo"}, {"weights": "surprize"}, {"weights": "gap"},
        {"weights": "none.parquet"}, {"task": TaskSpec("biografies")}, {"settings": Settings(retain_loss="kk")},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(UserError):
            execution.start(good.replace(**change), out)
        assert not out.exists(), change


def test_a_directory_that_holds_something_is_refused(own: dict[str, str], undisturbed: Path) -> None:
    config = runs.Config(task=TaskSpec(**own), model="bio-full", settings=Settings(steps=1))
    with pytest.raises(UserError, match="not empty"):
        execution.start(config, undisturbed)
    with pytest.raises(UserError, match="finished"):
        execution.resume(undisturbed)


def test_weights_of_another_run_s_last_step_survive_a_resume(
    own: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    scores = pd.read_parquet(undisturbed / "scores.parquet")
    last = scores[(scores["scorer"] == "atwu") & (scores["step"] == scores["step"].max())]
    assert last["step"].min() > 0
    last.to_parquet(tmp_path / "t.parquet")
    settings = Settings(steps=4, batch_size=4)
    config = runs.Config(
        task=TaskSpec(**own), model="bio-full", objective="wga", weights=str(tmp_path / "t.parquet"), settings=settings,
        probe_limit=2,
    )  # fmt: skip
    steps: list[dict[str, Any]] = []
    with pytest.raises(stopping.Stopped):
        execution.start(
            config, tmp_path / "run", on_step=lambda e: steps.append(e["step"]), stop=lambda: len(steps) == 2
        )
    with pytest.raises(stopping.Stopped):  # stopped again before a step
        execution.resume(tmp_path / "run", stop=lambda: True)
    assert execution.resume(tmp_path / "run").status()["status"] == "finished"


def test_a_run_by_a_saved_scorer_resumes_to_the_same_bits_without_its_file(
    own: dict[str, str], full: LanguageModel, tmp_path: Path
) -> None:
    file = tmp_path / "map.safetensors"
    task = TaskSpec(**own).load()
    save_scorer(fit_map(TaskContext(full, task), full, task.retain), file)
    settings = Settings(steps=4, batch_size=4, record_every=2)
    config = runs.Config(
        task=TaskSpec(**own), model="bio-full", objective="wga", weights=str(file), settings=settings,
        probe_limit=2,
    )  # fmt: skip
    whole = execution.start(config, tmp_path / "whole")
    steps: list[dict[str, Any]] = []
    with pytest.raises(stopping.Stopped):
        execution.start(
            config, tmp_path / "run", on_step=lambda e: steps.append(e["step"]), stop=lambda: len(steps) == 2
        )
    file.unlink()
    same(results(execution.resume(tmp_path / "run").path), results(whole.path))
    assert (whole.path / "scorer.safetensors").exists()


def test_a_model_among_the_runs_is_no_run(own: dict[str, str], full: LanguageModel, tmp_path: Path) -> None:
    full.save(tmp_path / "planted")
    config = runs.Config(
        task=TaskSpec(**own), model="bio-full", objective="wga", weights="wga",
        settings=Settings(steps=1, batch_size=4), probe_limit=2,
    )  # fmt: skip
    done = execution.start(config, tmp_path / "run")
    assert [d.name for d in runs.list_runs(tmp_path)] == ["run"]
    with pytest.raises(UserError, match="no run directory"):
        runs.RunDirectory(tmp_path / "planted")
    probes = done.json("cost.json")["phases"]["probes"]
    assert probes["calls"] == 4  # two sets, before and after
    assert done.json("cost.json")["phases"]["forget"]["calls"] == 1


def test_an_interrupt_while_probing_leaves_a_run_to_resume(own: dict[str, str], tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    config = runs.Config(
        task=TaskSpec(**own), model="bio-full", objective="wga", weights="wga",
        settings=Settings(steps=1, batch_size=4), probe_limit=2,
    )  # fmt: skip
    with pytest.raises(stopping.Stopped, match="step 0"):
        execution.start(config, tmp_path / "run", progress=interrupt)
    with pytest.raises(UserError, match="not empty; choose another --out, or resume it"):
        execution.start(config, tmp_path / "run")
    with pytest.raises(stopping.Stopped, match="step 0"):
        execution.resume(tmp_path / "run", progress=interrupt)
    assert execution.resume(tmp_path / "run").status()["status"] == "finished"


def test_an_objective_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("forget", "retain"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": f"Some text to {name}."}) + "\n")
    spec = TaskSpec(forget=str(tmp_path / "forget.jsonl"), retain=str(tmp_path / "retain.jsonl"))
    with pytest.raises(UserError, match="'dpo' needs a question to refuse"):
        execution.start(runs.Config(task=spec, model="bio-full", objective="dpo", weights="uniform"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
