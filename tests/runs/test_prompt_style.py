"""Date and system message of a run: in its configuration, in its model or adapter, and the same when it is resumed."""

from __future__ import annotations

import copy
import json

import pytest
import trained_outside as outside
from runs_of import QUICK, config_of, own_files, series

from workbench import runs
from workbench.models import LanguageModel, encode, load
from workbench.runs import execution
from workbench.tasks import Sample

SAMPLE = Sample("one", "Where?", "There.")
STYLE = {"prompt": "chat", "system": "Be brief.", "date": "2025-02-03"}


@pytest.fixture(scope="module")
def dated(full, tmp_path_factory):
    """The embedded model with a template that writes date and system message."""
    tokenizer = copy.deepcopy(full.tokenizer)
    tokenizer.chat_template = outside.LLAMA3
    folder = tmp_path_factory.mktemp("dated")
    LanguageModel(full.module, tokenizer, "dated").save(folder)
    (folder / "workbench.json").unlink()
    return str(folder)


@pytest.mark.parametrize("train", ["all", "lora"])
def test_a_run_keeps_how_its_prompts_were_written(dated, bio, tmp_path, train):
    settings = QUICK.replace(steps=2, checkpoint_every=1, train=train)
    own = own_files(bio, tmp_path, count=4)
    config = config_of(own, settings, objective="npo", weights="uniform", **STYLE).replace(model=dated)
    with pytest.raises(runs.Stopped):
        execution.start(config, tmp_path / "run", stop=lambda: (tmp_path / "run" / "checkpoints").exists())
    run = execution.resume(tmp_path / "run")
    record = json.loads((run.path / "config.json").read_text())
    assert {name: record[name] for name in STYLE} == STYLE
    result = runs.load_result(run)
    assert result.style() == STYLE
    assert "Today Date: 03 Feb 2025\n\nBe brief." in result.tokenizer.decode(encode(result, SAMPLE).ids)
    folder = run.path / ("adapter" if train == "lora" else "model")
    assert load(str(folder)).style() == STYLE
    whole = execution.start(config, tmp_path / "whole")
    assert series(whole.events()).equals(series(run.events()))
    other = execution.start(config.replace(date=None, system=None), tmp_path / "other")
    assert json.loads((other.path / "config.json").read_text())["date"] == "2024-07-26"
    assert not series(other.events()).equals(series(run.events()))
