"""`wb.attack`: a run, its ceiling and its floor; killed at any moment it goes on to the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import forked
import pandas as pd
import pytest
from commandline import refused, told
from runs_of import ONE_THREAD, config_of, own_files, wait_until

import workbench as wb
from workbench import runs
from workbench.errors import UserError, is_missing, missing
from workbench.evals.attacks import leak
from workbench.models.language_model import LanguageModel
from workbench.runs import attacking
from workbench.runs.sweep import row_of
from workbench.tasks.samples import Task
from workbench.unlearning.settings import Settings

QUICK = ["greedy", "opening", "int4", "relearning", "logit_lens", "uds"]
NONE = missing("no model")
LEAK = {"leak_at_k": {"tries": 8, "k": 4}}


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), count=8)


@pytest.fixture(scope="module")
def finished(own: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of(own, Settings(steps=4, batch_size=8, lr=1e-3), objective="wga", weights="uniform")
    return runs.start(config, tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on interruptions."""
    return {
        name: {key: value for key, value in entry.items() if key != "seconds"}
        for name, entry in result["attacks"].items()
    }


def test_a_run_between_its_ceiling_and_its_floor(run: Path) -> None:
    digests = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    result = wb.attack(run, reference="bio-retain", attacks=[*QUICK, "leak_at_k"], options=LEAK)
    assert {file: file.read_bytes() for file in digests} == digests
    assert runs.RunDirectory(run).status()["status"] == "finished"
    for entry in result["attacks"].values():
        values = [entry[key] for key in ("retain_only", "run", "before", "comes_back")]
        assert all(isinstance(value, float) for value in values)
        floor, value, ceiling, share = values
        assert share == pytest.approx((value - floor) / (ceiling - floor))
    assert result["attacks"]["uds"]["before"] == pytest.approx(0, abs=1e-6)
    assert result["attacks"]["relearning"]["R"] <= 1
    answers = runs.read_answers(run / "attacks")
    assert len(answers) == 8 * 3 * 6 + 4 * 3  # relearning asks the half that was not taught
    assert set(answers["model"]) == {"before", "run", "retain_only"}
    assert json.loads((run / "attacks" / "summary.json").read_text())["attacks"] == result["attacks"]
    again = wb.attack(run, reference="bio-retain", attacks=[*QUICK, "leak_at_k"], options=LEAK)
    assert again == result  # not even the seconds: nothing was done again


def test_what_is_not_given_is_said_and_can_be_added(run: Path) -> None:
    first = wb.attack(run, attacks=["greedy", "uds"])["attacks"]
    assert "retain-only" in first["greedy"]["retain_only"]["reason"]
    assert is_missing(first["greedy"]["comes_back"])
    assert "retain-only" in first["uds"]["run"]["reason"]
    second = wb.attack(run, attacks=["greedy", "uds"], reference="bio-retain")["attacks"]
    assert second["greedy"]["run"] == first["greedy"]["run"]
    assert second["greedy"]["seconds"]["run"] == first["greedy"]["seconds"]["run"]
    assert isinstance(second["uds"]["comes_back"], float)
    third = wb.attack(run, attacks=["greedy", "uds"])["attacks"]
    assert third == second


def test_a_model_without_a_run(full: LanguageModel, retained: LanguageModel, small: Task) -> None:
    result = wb.attack(retained, small, before=full, reference=retained, attacks="greedy")
    assert result["attacks"]["greedy"]["comes_back"] == 0
    assert len(result["answers"]) == 36
    with pytest.raises(UserError, match="name the task"):
        wb.attack(full)


class Killed(BaseException):
    """In place of the end of the process."""


@pytest.mark.parametrize("after", [3, 9])
def test_a_process_that_ends_at_any_write_leaves_what_is_done(
    run: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    options: dict[str, Any] = {"reference": "bio-retain", "attacks": ["greedy", "opening"]}
    whole = wb.attack(run, out=run.parent / "whole", **options)
    real, seen = os.replace, []

    def replace(source: Any, target: Any) -> None:
        seen.append(target)
        if len(seen) > after:
            raise Killed
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            wb.attack(run, **options)
    (run / "attacks" / ".summary.json.123-ab12.part").write_text("half")
    done = []
    carry_out = attacking._carry_out
    monkeypatch.setattr(attacking, "_carry_out", lambda *words: done.append(words[1:3]) or carry_out(*words))
    again = wb.attack(run, **options)
    assert numbers(again) == numbers(whole)
    assert len(done) == 6 - after // 4  # manifest, answers, manifest, summary
    assert not list((run / "attacks").glob(".*.part"))
    tables = [runs.read_answers(folder) for folder in (run / "attacks", run.parent / "whole")]
    keys = ["attack", "model", "sample_id"]
    pd.testing.assert_frame_equal(*(t.sort_values(keys, ignore_index=True) for t in tables), check_like=True)


def test_killed_by_the_system(run: Path) -> None:
    words = [str(run), "--reference", "bio-retain", "--attacks", "greedy,leak_at_k,int8"]
    words += ["--set", "leak_at_k.tries=40", "leak_at_k.k=16"]
    command = [sys.executable, "-m", "workbench", "attack", *words]
    summary = run / "attacks" / "summary.json"
    process = forked.Popen(command, env=ONE_THREAD)

    def within_an_attack() -> bool:
        if not summary.exists():
            return False
        entry = json.loads(summary.read_text())["attacks"].get("leak_at_k", {})
        return "before" in entry.get("parts", {})

    wait_until(within_an_attack)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = json.loads(summary.read_text())["attacks"]
    assert "int8" not in kept
    options = {"leak_at_k": {"tries": 40, "k": 16}}
    shared: dict[str, Any] = {"reference": "bio-retain", "attacks": ["greedy", "leak_at_k", "int8"], "options": options}
    again = wb.attack(run, **shared)
    assert again["attacks"]["greedy"] == kept["greedy"]
    assert numbers(again) == numbers(wb.attack(run, out=run.parent / "whole", **shared))


def test_a_long_attack_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak, "AT_ONCE", 3)
    shared: dict[str, Any] = {"attacks": "leak_at_k", "options": LEAK, "before": "bio-full"}
    whole = wb.attack(run, out=run.parent / "whole", **shared)
    drawn, draw = [], leak._draw

    def drawing(target: Any, samples: list[Any], *words: Any) -> Any:
        drawn.append(len(samples))
        if len(drawn) == 3:
            raise Killed
        return draw(target, samples, *words)

    monkeypatch.setattr(leak, "_draw", drawing)
    with pytest.raises(Killed):
        wb.attack(run, **shared)
    assert (run / "attacks" / "leak_at_k-before.json").exists()
    again = wb.attack(run, **shared)
    assert drawn == [3, 3, 2, 2, 3, 3, 2]  # eight answers of two models: only what was not finished is done again
    assert numbers(again) == numbers(whole)
    left = sorted(file.name for file in (run / "attacks").iterdir())
    assert left == [".lock", "answers.parquet", "manifest.json", "summary.json"]


def test_results_of_something_else_are_not_mixed(run: Path) -> None:
    wb.attack(run, attacks="greedy", limit=4)
    with pytest.raises(UserError, match=r"another limit \(4 before and 6 now\).*--out DIR"):
        wb.attack(run, attacks="greedy", limit=6)
    wb.attack(run, attacks="leak_at_k", limit=4, options=LEAK)
    with pytest.raises(UserError, match=r"another leak_at_k.tries \(8 before and 9 now\)"):
        wb.attack(run, attacks="leak_at_k", limit=4, options={"leak_at_k": {"tries": 9, "k": 4}})
    with pytest.raises(UserError, match="another before model"):
        wb.attack(run, attacks="greedy", limit=4, before="bio-retain")


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", "{"), ("summary.json", "[]"), ("summary.json", '{"attacks": {"greedy": 1}}'),
     ("answers.parquet", "nothing")],
)  # fmt: skip
def test_damaged_results_are_one_line(run: Path, name: str, content: str) -> None:
    wb.attack(run, attacks="greedy", limit=2)
    (run / "attacks" / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} is damaged: .*remove"):
        wb.attack(run, attacks="greedy", limit=2)


def test_the_command(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    words = ["attack", str(run), "--reference", "bio-retain", "--attacks", "greedy,leak_at_k,nf4", "--limit", "4"]
    lines, result = told(capsys, *words, "--set", "leak_at_k.tries=8", "leak_at_k.k=2")
    assert set(result) == {"attacks", "made_from"}
    assert {"before", "run", "retain_only", "comes_back"} <= set(result["attacks"]["leak_at_k"])
    assert lines[0].split() == ["attack", "retain", "only", "run", "before", "comes", "back", "trust"]
    shown, status = told(capsys, "runs", "show", str(run))
    assert any(line.startswith("under attack it still gives: ") and "greedy" in line for line in shown)
    assert status["attacks"] == result["attacks"]
    listed, table = told(capsys, "runs", "list", "--root", str(run.parent))
    (row,) = [row for row in table["runs"] if row["run"] == str(run)]
    share = result["attacks"]["leak_at_k"]["comes_back"]
    assert row["most_comes_back"]["attack"] == status["most_comes_back"]["attack"] == "leak_at_k"
    assert row["most_comes_back"]["comes_back"] == share
    assert any(line.endswith(f"leak_at_k {share:.2f}") for line in listed)
    row = row_of(runs.RunDirectory(run).read_config(), run)
    assert (row["most_comes_back"], row["comes_back"]) == ("leak_at_k", share)
    assert wb.attack(runs.RunDirectory(run), attacks="greedy", reference="bio-retain", limit=4)["attacks"]
    assert any("nf4 run" in line and "needs a GPU" in line for line in lines)
    assert result["attacks"]["leak_at_k"]["options"] == {"tries": 8, "k": 2, "temperature": 1.0}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--attacks", "leak"], "unknown attack 'leak'"),
        (["--set", "tries=3"], "ATTACK.OPTION=VALUE"),
        (["--set", "leak_at_k.trys=3"], "did you mean tries"),
        (["--set", "leak_at_k.tries=many"], "must be a number"),
        (["--set", "leak_at_k.tries=4.5"], "whole number"),
        (["--attacks", "leak_at_k", "--set", "leak_at_k.tries=0"], "k must be from 1"),
        (["--attacks", ","], "no attack is named"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], run: Path, words: list[str], problem: str) -> None:
    assert problem in refused(capsys, "attack", str(run), *words, working=True)


def entry(run: Any, share: Any, unit: str = "share of answers") -> dict[str, Any]:
    return {"run": run, "comes_back": share, "unit": unit}


def test_the_attack_after_which_most_comes_back() -> None:
    lucky = {
        "greedy": entry(0.9, 0.9),
        "leak_at_k": entry(0.5, 0.2),
        "int4": entry(0.3, 0.3),
        "nf4": entry(*[NONE] * 2),
    }
    assert runs.most_comes_back(lucky) == {"attack": "int4", "comes_back": 0.3, "value": 0.3}
    assert runs.most_in_words(lucky) == "int4 0.30"
    assert runs.most_in_words(lucky | {"int4": lucky["int4"] | {"weak": "weak here"}}) == "int4 0.30 (weak)"
    alone = {"leak_at_k": entry(0.5, NONE), "int4": entry(0.3, NONE), "uds": entry(0.8, NONE, "depth")}
    assert runs.most_comes_back(alone) == {"attack": "leak_at_k", "comes_back": None, "value": 0.5}
    assert runs.most_in_words(alone) == "leak_at_k 0.50 told"
    for nothing in ({}, {"greedy": entry(0.5, 0.5)}, {"nf4": entry(NONE, NONE)}):
        assert runs.most_comes_back(nothing) is None
        assert runs.most_in_words(nothing) == ""


def test_a_list_of_runs_says_which_attacks_cannot_be_read(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    lines, table = told(capsys, "runs", "list", "--root", str(run.parent))
    assert table["runs"][0]["most_comes_back"] is None
    (run / "attacks").mkdir()
    wrong = dict.fromkeys(("before", "run", "retain_only", "comes_back"), "most") | {"better": "lower"}
    wrong |= {key: {} for key in ("parts", "options", "answers", "seconds")}
    made_from = {"task": "biographies", "data_sha256": "", "limit": None, "seed": 0, "models": {}}
    (run / "attacks" / "summary.json").write_text(json.dumps({"made_from": made_from, "attacks": {"int4": wrong}}))
    lines, table = told(capsys, "runs", "list", "--root", str(run.parent))
    assert table["runs"][0]["most_comes_back"] is None
    assert any("summary.json is damaged: attacks.int4.before" in line for line in lines)
