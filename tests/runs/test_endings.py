"""How runs end: broken by their last step, with a base model that was replaced, with notes that a person sees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs_of import QUICK, config_of, own_files

from workbench import runs
from workbench.cli.app import main
from workbench.errors import UserError
from workbench.runs import execution
from workbench.runs.checkpoints import folders, latest_checkpoint
from workbench.scorers import ScoreFile
from workbench.tasks.samples import Task
from workbench.view.widgets import RunPanel

SHORT = QUICK.replace(steps=6, batch_size=4, checkpoint_every=2, record_every=3)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 8)


@pytest.mark.parametrize(
    ("lr", "what"),
    [(1e30, "the norm of the weights is inf"), (1e15, "the likelihood of an answer is nan")],
    ids=["weights", "logits"],
)
def test_a_model_that_the_last_step_broke_is_no_finished_run(
    own: dict[str, str], tmp_path: Path, lr: float, what: str
) -> None:
    settings = SHORT.replace(steps=1, warmup=0, lr=lr, checkpoint_every=1)
    config = config_of(own, settings, objective="wga", weights="uniform", probe_limit=2)
    with pytest.raises(UserError, match=f"{what} at step 1 .*a smaller lr") as raised:
        execution.start(config, tmp_path / "run")
    assert str(raised.value).endswith("the last good checkpoint is not there yet")
    if lr < 1e20:  # found after the step was written
        assert runs.RunDirectory(tmp_path / "run").status()["status"] == "unfinished"
        with pytest.raises(UserError, match=what):
            execution.resume(tmp_path / "run")


@pytest.mark.parametrize("train", ["all", "lora"])
def test_a_base_model_that_was_replaced_is_refused_at_resume(
    own: dict[str, str], full: Any, retained: Any, tmp_path: Path, train: str
) -> None:
    """By its absolute path; put back, the run goes on."""
    base, steps = tmp_path / "base", list[Any]()
    full.save(base)
    config = config_of(own, SHORT.replace(train=train), probe_limit=2).replace(model=str(base))
    with pytest.raises(runs.Stopped):
        execution.start(config, tmp_path / "run", on_step=steps.append, stop=lambda: len(steps) == 3)
    shutil.move(base, tmp_path / "kept")
    retained.save(base)
    with pytest.raises(UserError, match="the model has changed since the run began; cannot resume"):
        execution.resume(tmp_path / "run")
    shutil.rmtree(base)
    with pytest.raises(UserError, match=r"model '.*base'"):
        execution.resume(tmp_path / "run")
    shutil.move(tmp_path / "kept", base)
    assert execution.resume(tmp_path / "run").status()["status"] == "finished"


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    """A step of seven digits comes after one of six, which the names alone do not say."""
    for name in ("step-1000000", "step-999999", "step-000002", "step-x"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in folders(tmp_path)] == ["step-000002", "step-999999", "step-1000000"]
    assert str(latest_checkpoint(tmp_path)).endswith("step-1000000")
    assert str(latest_checkpoint(tmp_path, 1000000)).endswith("step-999999")
    assert latest_checkpoint(tmp_path, 2) is None


def test_a_score_file_with_other_attributes_is_scored_again(tmp_path: Path) -> None:
    row = {"task": "t", "sample_id": "a", "position": 0, "token_id": 1, "token": "x", "start": 0, "end": 1}
    table = pd.DataFrame([row | {"segment": "answer", "scorer": "s", "step": 0, "score": 0.5, "span": None}])
    for attrs in ({"made": [1]}, {"made": {"task": "t"}, "notes": {"s": "x"}}, {"made": {"task": "t"}, "notes": 3}):
        table.attrs = attrs
        table.to_parquet(tmp_path / "s.parquet")
        file = ScoreFile(tmp_path / "s.parquet", {"task": "t"}, ["s"], {})
        if isinstance(attrs["made"], list):
            with pytest.raises(UserError, match="has another task"):
                file.reopen()
        else:
            file.reopen()
            assert file.missing == ["s"]


def test_what_a_run_could_not_go_on_with_is_shown(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[Any] = []
    with pytest.raises(runs.Stopped):
        execution.start(config_of(own, SHORT, probe_limit=2), tmp_path / "run", on_step=steps.append,
                        stop=lambda: len(steps) == 3)  # fmt: skip
    (tmp_path / "run" / "checkpoints" / "step-000003" / "state.json").write_text("{")
    execution.resume(tmp_path / "run")
    capsys.readouterr()
    note = "before step 3: step-000003 is damaged (state.json: it has 1 bytes"
    assert main(["runs", "show", str(tmp_path / "run"), "--json"]) == 0
    out = capsys.readouterr().out
    assert note in out
    assert json.loads(out.splitlines()[-1])["notes"][0].startswith(note)
    panel = RunPanel(tmp_path)
    panel.attach(tmp_path / "run")
    assert note in panel.to_html()
    panel.close()
