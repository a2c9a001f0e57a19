"""Where a fact still is, in a run: what its attacks left is read without a model, the rest is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import refused, told
from runs_of import config_of, own_files

import workbench as wb
from workbench import runs
from workbench.errors import UserError
from workbench.models.language_model import LanguageModel
from workbench.runs import attacking
from workbench.runs import where as where_module
from workbench.tasks.samples import Task
from workbench.unlearning.settings import Settings


@pytest.fixture(scope="module")
def run(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was attacked with the lens and UDS on three of its answers."""
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=4, batch_size=8, lr=1e-3)
    config = config_of(own_files(bio, folder, 8), settings, objective="wga", weights="uniform")
    path = runs.start(config, folder / "run").path
    wb.attack(path, reference="bio-retain", attacks="logit_lens,uds", limit=3)
    return path


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(attacking, "models_of", none)


@pytest.mark.usefixtures("no_models")
def test_what_attacks_left_is_read(run: Path, bio: Task) -> None:
    maps = runs.where_maps(run)
    assert [each.sample_id for each in maps] == [bio.forget[i].id for i in (0, 4, 7)]
    table = runs.read_answers(run / "attacks").set_index(["attack", "model", "sample_id"])
    for each in maps:
        assert each.models == ["before", "run", "retain_only"]
        row = table.loc[("uds", "run", each.sample_id)]
        assert each.score() == pytest.approx(row["value"], abs=1e-5)
        for model in each.models:
            row = table.loc[("logit_lens", model, each.sample_id)]
            np.testing.assert_allclose(each.fact_mean(each.lenses[model].logp), row["logp_by_layer"], atol=1e-5)
    assert [each.sample_id for each in runs.where_maps(run, [5, bio.forget[7].id])] == [
        bio.forget[i].id for i in (4, 7)
    ]


def test_what_they_left_is_what_is_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reference that they had it is read, and measured anew it is the same."""
    read = runs.where_maps(run, 5, reference="bio-retain")[0]
    monkeypatch.setattr(where_module, "_stored", lambda *_: [])
    (fresh,) = runs.where_maps(run, 5, reference="bio-retain")
    assert (fresh.tokens, fresh.facts, fresh.positions) == (read.tokens, read.facts, read.positions)
    for model in fresh.models:
        np.testing.assert_allclose(fresh.lenses[model].logp, read.lenses[model].logp, atol=2e-5)
        np.testing.assert_array_equal(fresh.lenses[model].rank, read.lenses[model].rank)
        np.testing.assert_allclose(fresh.drops[model], read.drops[model], atol=2e-5)


def test_another_reference_or_answer_is_measured(run: Path, full: LanguageModel) -> None:
    (same,) = runs.where_maps(run, 5, reference=full)
    assert same.reasons == {"uds": "no layer separates the models: none has d1 above 0.05 nats"}  # before is full
    assert same.survives() is None
    (other,) = runs.where_maps(run, 2)
    assert other.models == ["before", "run"]
    assert other.reasons["uds"] == "needs a retain-only model (--reference)"


def test_refusals(run: Path, full: LanguageModel, bio: Task) -> None:
    for answer in (0, 9, "nobody", "-1"):
        with pytest.raises(UserError, match=rf"no answer '{answer}' in the forget set .* number, 1 to 8"):
            runs.where_maps(run, answer)
    with pytest.raises(UserError, match="unknown model 'after'"):
        runs.where_maps({"run": full, "after": full}, task=bio)
    with pytest.raises(UserError, match=r"models=\{'run'"):
        runs.where_maps({"before": full}, task=bio)
    with pytest.raises(UserError, match="name the task"):
        runs.where_maps(full, 1)
    with pytest.raises(UserError, match="a task is its name"):
        runs.where_maps(full, 1, task=5)  # type: ignore[arg-type]
    for nothing in (5, None):
        with pytest.raises(UserError, match="a model is a name"):
            runs.where_maps(nothing, 1, task=bio)  # type: ignore[arg-type]
    assert runs.where_maps(run, np.int64(2))[0].sample_id == runs.where_maps(run, 2)[0].sample_id  # type: ignore[arg-type]


def test_a_damaged_map_is_one_line(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run" / "attacks"
    copy.mkdir(parents=True)
    table = pd.read_parquet(run / "attacks" / "answers.parquet")
    table["logp_map"] = [None if x is None else x[:-1] for x in table["logp_map"]]
    table.to_parquet(copy / "answers.parquet")
    (copy / "summary.json").write_bytes((run / "attacks" / "summary.json").read_bytes())
    with pytest.raises(UserError, match=r"answers.parquet is damaged: its maps of layers and tokens do not fit"):
        runs.maps_of(copy.parent)


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "where.html"
    lines, result = told(capsys, "where", str(run), "--answer", "5", "--html", str(page))
    (where,) = runs.where_maps(run, 5)
    (answer,) = result["answers"]
    assert answer["sample_id"] == where.sample_id
    assert answer["maps"]["run"]["logp"] == where.lenses["run"].logp.tolist()
    assert answer["maps"]["retain_only"]["drop"] == where.drops["retain_only"].tolist()
    assert answer["uds"] == where.score()
    assert where.summary()[0] in lines[1]
    assert lines[2].split()[:4] == ["layer", "log", "p", "before"]
    assert len([line for line in lines if line[:1].isdigit()]) == 4
    assert where.summary()[0] in page.read_text(encoding="utf-8")
    assert len(told(capsys, "where", str(run))[1]["answers"]) == 1
    assert "no answer '99'" in refused(capsys, "where", str(run), "--answer", "99")
    assert "name the task" in refused(capsys, "where", "bio-full", working=True)
