"""Run directories with a damaged file: one clear line, nobody else's run affected, no other numbers in silence."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs_of import QUICK, config_of, own_files, results, same

from workbench import runs
from workbench.cli.app import main
from workbench.errors import UserError
from workbench.runs import execution
from workbench.tasks.samples import Task
from workbench.view.report import run_report
from workbench.view.widgets import ErrorBrowser, RunPanel, TokenView
from workbench.view.widgets.answer_notes import AnswerNotes

SHORT = QUICK.replace(steps=6, batch_size=4, checkpoint_every=2, record_every=3)
READERS = ("list", "show", "report", "TokenView", "ErrorBrowser", "RunPanel", "resume", "probe")
DAMAGES = ("truncate", "empty", "junk", "wrong", "flip")
UNREAD = (".lock",)


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 8)


@pytest.fixture(scope="module")
def whole(own: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody damaged: finished, with LoRA, stopped on the way, and as an older version left them."""
    root = tmp_path_factory.mktemp("whole")
    made = {}
    for name, more in (("finished", {}), ("lora", {"train": "lora"})):
        config = config_of(own, SHORT.replace(**more), probe_limit=2, probe_every=2)
        made[name] = execution.start(config, root / name).path
    config, steps = config_of(own, SHORT, probe_limit=2, probe_every=2), []
    with pytest.raises(runs.Stopped):
        execution.start(config, root / "stopped", on_step=steps.append,
                        stop=lambda: len(steps) == 5)  # fmt: skip
    made["unfinished"] = root / "stopped"
    read("probe", root, made["finished"], own)  # writes suites/basic.json
    AnswerNotes(made["finished"]).set("forget/x", "tag", "note")
    for name in ("finished", "unfinished"):  # an older version wrote no manifest
        made[f"older {name}"] = shutil.copytree(made[name], root / f"older-{name}")
        for manifest in made[f"older {name}"].rglob("manifest.json"):
            manifest.unlink()
    return made


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Do to a file what a disk, a bad copy or another program may do."""
    content = path.read_bytes()
    if kind == "truncate":
        path.write_bytes(content[: chance.randrange(len(content)) if content else 0])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "junk":
        path.write_bytes(chance.randbytes(len(content) or 64))
    elif kind == "flip":
        place = chance.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
    elif path.suffix == ".parquet":
        table = pd.read_parquet(path)
        name = chance.choice(list(table.columns))
        text = pd.api.types.is_numeric_dtype(table[name].dtype)
        table.assign(**{name: "x" if text else 1.5}).to_parquet(path)
    elif path.suffix in (".json", ".jsonl"):
        path.write_text(chance.choice(["[]\n", '"x"\n', "1\n", "null\n", '{"step": "x", "steps": []}\n']))
    else:
        path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")  # safetensors without a tensor


def read(reader: str, root: Path, path: Path, own: dict[str, str]) -> str:
    """Use a run; what was printed, or the line that says what is wrong. Anything else is raised."""
    if reader == "report":
        return caught(lambda: run_report(path, out=root / "report.html"))
    if reader == "TokenView":
        return caught(lambda: TokenView.of_run(path).to_html(max_samples=2))
    if reader == "ErrorBrowser":
        return caught(lambda: ErrorBrowser(path).to_html(max_samples=2))
    if reader == "RunPanel":
        panel = RunPanel(root)
        labels = [label for label, _ in panel.runs.options]
        assert any("intact" in label and label.startswith("finished") for label in labels), labels
        try:
            return caught(lambda: (panel.attach(path), panel.to_html()) and panel.failure.value)
        finally:
            panel.close()
    words = {
        "list": ["runs", "list", "--root", str(root)],
        "show": ["runs", "show", str(path)],
        "resume": ["runs", "resume", str(path)],
        "probe": ["probe", str(path), "--forget", own["forget"], "--retain", own["retain"], "--probe-limit", "1"],
    }[reader]
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors), suppress(SystemExit):  # its one line is looked at below
        assert main(words) == 0
    lines = [line for line in errors.getvalue().splitlines() if line.startswith("workbench: ")]
    if reader == "list":
        assert not lines
        assert any("intact" in line and "finished" in line for line in out.getvalue().splitlines()), out.getvalue()
    return "\n".join(lines) if reader != "list" else out.getvalue()


def caught(call: Callable[[], Any]) -> str:
    """The line that a call says; empty where it works."""
    try:
        call()
    except UserError as error:
        line = str(error)
    else:
        return ""
    assert "\n" not in line
    return line


def cases(whole: dict[str, Path]) -> Iterator[tuple[str, Path, str]]:
    """Every file of every run, with every damage."""
    for name, path in whole.items():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in UNREAD):
            for kind in DAMAGES:
                if kind != "flip" or file.stat().st_size:
                    yield name, file.relative_to(path), kind


def look(case: tuple[str, Path, str], reader: str, whole: dict[str, Path], own: dict[str, str], root: Path) -> str:
    """Damage a copy of a run, and use it; returns how it went."""
    name, file, kind = case
    path = root / "damaged"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole[name], path)
    damage(path / file, kind, random.Random(f"{case} {reader}"))
    line = read(reader, root, path, own)
    if reader == "resume" and name == "unfinished" and (path / "run.json").exists():
        if line:
            return "said"
        same(results(path), results(whole["finished"]))
        return "the same"
    return "refused" if line else "read"


def check(
    chosen: list[tuple[tuple[str, Path, str], str]], whole: dict[str, Path], own: dict[str, str], root: Path
) -> None:
    shutil.copytree(whole["finished"], root / "intact")
    wrong, outcomes = [], dict.fromkeys(("read", "refused", "the same", "said"), 0)
    for case, reader in chosen:
        try:
            outcomes[look(case, reader, whole, own, root)] += 1
        except Exception as error:
            wrong.append(f"{case} {reader}: {type(error).__name__}: {error}"[:400])
    print(f"{len(chosen)} damaged files: {outcomes}; wrong: {len(wrong)}")
    assert not wrong, "\n".join(wrong)
    assert results(root / "intact")[1] == results(whole["finished"])[1]


def all_cases(whole: dict[str, Path]) -> list[tuple[tuple[str, Path, str], str]]:
    return [(case, reader) for case in cases(whole) for reader in READERS]


def test_a_sample_of_damage(whole: dict[str, Path], own: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(0)
    every = all_cases(whole)
    quick = [each for each in every if each[1] not in ("resume", "probe")]
    slow = [each for each in every if each[1] in ("resume", "probe")]
    check(chance.sample(quick, 60) + chance.sample(slow, 12), whole, own, tmp_path)


@pytest.mark.slow
def test_every_damage(whole: dict[str, Path], own: dict[str, str], tmp_path: Path) -> None:
    check(all_cases(whole), whole, own, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "run.json", "cost.json", "metrics.json", "events.jsonl", "job.json"])
def test_a_damaged_run_is_listed_with_its_file(
    whole: dict[str, Path], own: dict[str, str], tmp_path: Path, name: str
) -> None:
    shutil.copytree(whole["finished"], tmp_path / "intact")
    shutil.copytree(whole["finished"], tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_text("{\n")
    statuses = {run.name: run.status() for run in runs.list_runs(tmp_path)}
    assert statuses["damaged"]["status"] == "damaged"
    assert f"{name} is damaged: " in statuses["damaged"]["reason"]
    assert statuses["intact"]["status"] == "finished"
    listed = read("list", tmp_path, tmp_path / "damaged", own)
    assert any("damaged" in line and name in line for line in listed.splitlines())
    assert f"{name} is damaged: " in read("show", tmp_path, tmp_path / "damaged", own)


def test_a_model_that_was_removed_for_its_space_is_no_damage(
    whole: dict[str, Path], own: dict[str, str], tmp_path: Path
) -> None:
    path = shutil.copytree(whole["finished"], tmp_path / "run")
    (path / "model" / "model.safetensors").write_bytes(b"x")
    assert "model.safetensors is damaged: it has 1 bytes" in str(runs.RunDirectory(path).status()["reason"])
    shutil.rmtree(path / "model")
    assert runs.RunDirectory(path).status()["status"] == "finished"
    assert read("report", tmp_path, path, own) == ""
    assert "is damaged: it is missing" in read("probe", tmp_path, path, own)


def test_flipped_bits_are_noticed(whole: dict[str, Path], own: dict[str, str], tmp_path: Path) -> None:
    """In a table when it is read, in a file of a model when it is loaded."""
    chance = random.Random(1)
    for name, files, reader in (
        ("finished", ["scores.parquet", "tokens.parquet"], "TokenView"),
        ("finished", ["probes.parquet", "metrics.json", "config.json", "events.jsonl"], "report"),
        ("finished", ["model/model.safetensors", "model/tokenizer.json", "model/config.json"], "probe"),
        ("lora", ["adapter/adapter_model.safetensors", "adapter/adapter_config.json"], "probe"),
    ):
        for file in files:
            path = tmp_path / "damaged"
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole[name], path)
            damage(path / file, "flip", chance)
            line = read(reader, tmp_path, path, own)
            assert f"{file} is damaged: " in line, (file, line)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One without its optimiser, one with a flipped bit, and both: the same numbers, and it is said."""
    expected = results(whole["finished"])
    assert sorted(p.name for p in (whole["unfinished"] / "checkpoints").iterdir()) == ["step-000004", "step-000005"]
    for number, (broken, goes_on) in enumerate(
        (
            (["step-000005"], "from step 4"),
            (["step-000004", "step-000005"], "from its beginning"),
            (["step-000004"], ""),
        )
    ):
        path = tmp_path / str(number)
        shutil.copytree(whole["unfinished"], path)
        for place, name in enumerate(broken):
            if place:
                damage(path / "checkpoints" / name / "parameters.safetensors", "flip", random.Random(0))
            else:
                (path / "checkpoints" / name / "optimizer.safetensors").unlink()
        done = execution.resume(path)
        errors = capsys.readouterr().err
        assert (goes_on in errors) if goes_on else "damaged" not in errors
        noted = [e["notes"] for e in done.events() if "notes" in e]
        assert len(noted) == bool(goes_on)
        assert all("optimizer.safetensors: it is missing" in str(notes) for notes in noted)
        numbers = results(path)
        same(([{k: v for k, v in e.items() if k != "notes"} for e in numbers[0]], *numbers[1:]), expected)


def test_damaged_probes_are_made_again_and_a_gap_in_the_events_is_said(
    whole: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("probes.parquet", "tokens.parquet", "metrics.json"):
        path = tmp_path / name
        shutil.copytree(whole["unfinished"], path)
        damage(path / name, "truncate", random.Random(0))
        done = execution.resume(path)
        assert f"{name} is damaged" in capsys.readouterr().err
        assert "are made again" in str(done.events()[5]["notes"])
        assert results(path)[1] == results(whole["finished"])[1]
        pd.testing.assert_frame_equal(results(path)[3], results(whole["finished"])[3], check_exact=True)
    path = tmp_path / "gap"
    shutil.copytree(whole["unfinished"], path)
    lines = (path / "events.jsonl").read_text().splitlines(keepends=True)
    (path / "events.jsonl").write_text("".join(lines[:1] + lines[3:]))
    done = execution.resume(path)
    assert "events of 2 steps are missing, the first of step 2" in capsys.readouterr().err
    assert [e["step"] for e in done.events()] == [1, 4, 5, 6]


def test_a_base_model_that_was_replaced_is_refused(
    own: dict[str, str], full: Any, retained: Any, tmp_path: Path
) -> None:
    """At resume, and when the adapter is loaded; a relative path is not looked up in another folder."""
    base = tmp_path / "base"
    full.save(base)
    config = config_of(own, SHORT.replace(train="lora"), probe_limit=2).replace(model=str(base))
    execution.start(config, tmp_path / "run")
    runs.load_result(runs.RunDirectory(tmp_path / "run"))
    shutil.rmtree(base)
    retained.save(base)
    with pytest.raises(UserError, match="is not the model that the run began with"):
        runs.load_result(runs.RunDirectory(tmp_path / "run"))


def test_relative_paths_hold_wherever_the_run_is_read(
    own: dict[str, str], full: Any, retained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.save(tmp_path / "there" / "m")
    retained.save(tmp_path / "here" / "m")
    for name in ("forget", "retain"):
        shutil.copy(own[name], tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    settings = SHORT.replace(train="lora")
    config = config_of({"forget": "forget.jsonl", "retain": "retain.jsonl"}, settings, probe_limit=2).replace(model="m")
    steps: list[Any] = []
    with pytest.raises(runs.Stopped):
        execution.start(config, Path("runs/run"), on_step=steps.append, stop=lambda: len(steps) == 3)
    path = tmp_path / "there" / "runs" / "run"
    record = json.loads((path / "config.json").read_text())
    assert record["model"] == str(tmp_path / "there" / "m")
    assert record["task"]["forget"] == str(tmp_path / "there" / "forget.jsonl")
    monkeypatch.chdir(tmp_path / "here")
    older = shutil.copytree(path, tmp_path / "there" / "runs" / "older")  # an older version wrote what was given
    (older / "manifest.json").unlink()
    record |= {"model": "m", "task": record["task"] | {"forget": "forget.jsonl", "retain": "retain.jsonl"}}
    (older / "config.json").write_text(json.dumps(record))
    moved = shutil.copytree(older, tmp_path / "elsewhere" / "runs" / "moved")
    for each in (path, older):
        done = execution.resume(each)
        assert runs.load_result(done).fingerprint() != retained.fingerprint()
    with pytest.raises(UserError, match=r"forget\.jsonl.*made in another directory with the relative path"):
        execution.resume(moved)
    shutil.copy(tmp_path / "there" / "forget.jsonl", tmp_path / "elsewhere")
    shutil.copy(tmp_path / "there" / "retain.jsonl", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="the model has changed since the run began"):  # here/m is another one
        execution.resume(moved)


def test_no_escape_sequence_reaches_the_terminal(whole: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(whole["unfinished"], tmp_path / "red\x1b[31m\x9b31m\x07")
    (path / "job.json").write_text(json.dumps({"state": "failed", "reason": "\x1b]0;title\x07"}))
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        assert main(["runs", "list", "--root", str(tmp_path)]) == 0
        assert main(["runs", "show", str(path)]) == 0
        (path / "config.json").write_text("{")
        assert main(["runs", "list", "--root", str(tmp_path)]) == 0
        with pytest.raises(SystemExit):
            main(["runs", "show", str(path)])
    assert "red\\x1b[31m\\x9b31m\\x07" in out.getvalue()
    assert "red\\x1b[31m" in errors.getvalue()
    assert not set("\x1b\x9b\x07") & set(out.getvalue() + errors.getvalue())
