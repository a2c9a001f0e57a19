"""How far a run's token weights can be trusted: said at its start, kept with the run, shown in its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs_of import QUICK, config_of, own_files

from workbench import runs
from workbench.cli.app import main
from workbench.runs import execution
from workbench.scorers.base import scorer
from workbench.tasks.samples import Task
from workbench.unlearning import score_task, unlearn
from workbench.view.report import run_report

SHORT = QUICK.replace(steps=2, batch_size=4, checkpoint_every=1, record_every=2)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 8)


@pytest.mark.parametrize("weights", ["specificity", "specificity_ref", "table"])
def test_a_run_says_how_far_its_weights_can_be_trusted(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: str
) -> None:
    """By the scorer's name and from a table that was scored before; a resumed run keeps the line and says it once."""
    chosen: dict[str, Any] = {"weights": weights, "probe_limit": 2, "objective": "wga"}
    if weights == "table":
        command = ["score", "--forget", own["forget"], "--retain", own["retain"], "--model", "bio-full", "--scorer",
                   "specificity", "--out", str(tmp_path / "scores.parquet")]  # fmt: skip
        assert main(command) == 0
        chosen["weights"] = str(tmp_path / "scores.parquet")
    if "reference" in scorer[name := "specificity" if weights == "table" else weights].needs:
        chosen["reference"] = "bio-retain"
    steps: list[Any] = []
    with pytest.raises(runs.Stopped):
        execution.start(config_of(own, SHORT, **chosen), tmp_path / "run", on_step=steps.append,
                        stop=lambda: len(steps) == 1)  # fmt: skip
    line = f"weights by {name}: low confidence: fitted on 8 texts"
    assert line in capsys.readouterr().err
    run = execution.resume(tmp_path / "run")
    assert line not in capsys.readouterr().err
    assert [note for event in run.events() for note in event.get("notes", []) if "confidence" in note] == [
        note for note in run.events()[0]["notes"] if note.startswith(line)
    ]
    assert run.table("scores.parquet").attrs["notes"][name]["confidence"]["texts"] == 8
    assert main(["runs", "show", str(run.path), "--json"]) == 0
    assert any(line in note for note in json.loads(capsys.readouterr().out.splitlines()[-1])["notes"])
    run_report(run.path, out=tmp_path / "report.html")
    assert "low confidence: fitted on 8 texts" in (tmp_path / "report.html").read_text()


def test_in_a_cell_low_confidence_is_noted_and_what_has_none_is_silent(
    full: Any, small: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    few = replace(small, sets={**small.sets, "retain": small.retain[:3]})
    line = "workbench: weights by specificity: low confidence: fitted on 3 texts"
    run = unlearn(full, few, "wga", "specificity", settings=SHORT)
    assert line in capsys.readouterr().err
    assert run.scores.attrs["notes"]["specificity"]["confidence"]["weight"] == 0
    unlearn(full, few, "wga", score_task(full, few, ["specificity"]), settings=SHORT)
    assert line in capsys.readouterr().err
    assert not unlearn(full, few, "wga", "surprisal", settings=SHORT).scores.attrs
    assert capsys.readouterr().err == ""
