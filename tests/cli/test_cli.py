"""The command line as a user meets it: results on the last line, mistakes in one line with exit 2."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from commandline import refused, run

from workbench.cli.app import main
from workbench.cli.console import Progress
from workbench.runs.ctrl_c import uninterrupted
from workbench.scorers.atwu import PRESETS


def test_a_run_from_a_score_table_then_show_probe_and_report(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    table, out, page = tmp_path / "s.parquet", tmp_path / "run", tmp_path / "r.html"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "spans", "--out", str(table))
    words = ["--model", "bio-full", "--objective", "wga", "--weights", str(table), "--out", str(out)]
    done = run(capsys, "unlearn", *own, *words, "--set", "steps=3", "batch_size=4", "--set", "beta=0.5")
    assert done["status"] == "finished"
    assert done["metrics"]["after"]["forget"]["probability"] < done["metrics"]["before"]["forget"]["probability"]
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["options"] == {"objective": {"beta": 0.5}}
    assert run(capsys, "runs", "show", str(out))["metrics"] == done["metrics"]
    assert run(capsys, "runs", "list", "--root", str(tmp_path))["runs"][0]["step"] == 3
    again = run(capsys, "probe", str(out), *own)["metrics"]["forget"]
    assert again == done["metrics"]["after"]["forget"]
    assert run(capsys, "report", str(out), "--out", str(page))["report"] == str(page)
    assert "<html" in page.read_text()


def test_presets_and_options_reach_the_scorer_of_a_run(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = ["steps=1", "batch_size=6", "weights.lr=0.5", "preset=tofu-1b", "lr=1e-4"]
    run(capsys, "unlearn", *own, "--model", "bio-full", "--objective", "atwu", "--weights", "atwu",
        "--set", *settings, "--out", str(out))  # fmt: skip
    config = json.loads((out / "config.json").read_text())["settings"]
    assert config["lr"] == 1e-4
    assert config["options"]["weights"] == PRESETS["tofu-1b"] | {"lr": 0.5}


def test_weights_from_a_reference_model(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "gap", "--out", str(tmp_path / "run")]
    assert "--reference" in refused(capsys, "unlearn", *own, *words)
    steps = ["--set", "steps=2", "--set", "batch_size=4", "--probe-limit", "2"]
    assert run(capsys, "unlearn", *own, *words, *steps, "--reference", "bio-retain")["status"] == "finished"
    scores = pd.read_parquet(tmp_path / "run" / "scores.parquet")
    run(capsys, "score", *own, "--model", "bio-full", "--reference", "bio-retain", "--scorer", "gap,gap",
        "--out", str(tmp_path / "s.parquet"))  # fmt: skip
    expected = pd.read_parquet(tmp_path / "s.parquet")
    assert len(expected) == expected["position"].groupby(expected["sample_id"]).nunique().sum()
    assert list(scores.loc[scores["scorer"] == "gap", "score"]) == list(expected["score"])


def test_finetune_plants_and_saves(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ["--model", "bio-retain", "--out", str(out), "--epochs", "20", "--set", "lr=2e-3", "--set", "batch_size=24"]
    assert main(["finetune", *own, *words, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert printed.err.count("surprisal: 100%") == 2  # measured at the end, with a bar
    assert result["nll"]["forget"] < 0.5
    assert json.loads((out / "workbench.json").read_text()) == {"prompt": "plain"}
    assert not list(tmp_path.glob(".*.part"))
    words[3] = str(tmp_path / "never")
    never = run(capsys, "finetune", *own, *words, "--retain-only")
    assert never["nll"]["retain"] < 0.5
    assert never["nll"]["forget"] > 2 * result["nll"]["forget"] + 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scor"], "unknown command 'scor': did you mean score"),
        (["score", "biographies", "--modell", "bio-full"], "unknown option '--modell': did you mean --model"),
        (["score", "biografies", "--model", "bio-full", "--scorer", "wga", "--out", "OUT"], "did you mean biographies"),
        (["score", "biographies", "--model", "bio-ful", "--scorer", "wga", "--out", "OUT"], "did you mean bio-full"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "wag", "--out", "OUT"], "did you mean wga"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "gap", "--out", "OUT"], "--reference"),
        (["score", "--model", "bio-full", "--scorer", "wga", "--out", "OUT"], "no task"),
        (["score", "biographies", "--model", "no.gguf", "--scorer", "wga", "--out", "OUT"], "no such file"),
        (["align", "OUT"], "no such file"),
        (["models", "get", "smollm"], "did you mean smollm2"),
        (["models", "get"], "needs a name: smollm2"),
        (["runs", "list", "--root", "/none"], "no such directory"),
        (["runs", "list", "somewhere"], "--root somewhere"),
        (["score", "--forget", ".", "--retain", ".", "--model", "bio-full", "--scorer", "wga", "--out", "OUT"],
         "a directory"),
        (["align", "."], "a directory"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "/", "--out", "OUT"],
         "scorer's name, FILE.parquet or FILE.safetensors"),
        (["runs", "show", "OUT"], "no run directory"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wgaa", "--weights", "wga", "--out", "OUT"],
         "did you mean wga"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", "OUT",
          "--set", "step=3"], "unknown setting 'step': did you mean steps"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", "OUT",
          "--set", "lr=fast"], "'fast' is not a number"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", "OUT",
          "--stop-at", "forget.fact_accuracy<=0.2"], "set probe_every (--probe-every)"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "wga", "--out", "/dev/null/x"], "/dev/null: "),
        (["score", "biographies", "--model", "bio-full", "--scorer", "wga", "--out", "/dev/null"], "neither a file"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "wga", "--out", "."], ". is a directory"),
        (["probe", "bio-full", "--task", "biographies", "--out", "."], ". is a directory"),
        (["probe", "bio-full", "--task", "biographies", "--probe-limit", "0"], "must be at least 1"),
        (["finetune", "biographies", "--model", "bio-full", "--epochs", "0", "--out", "OUT"], "must be at least 1"),
        (["finetune", "biographies", "--model", "bio-full", "--out", "/dev/null"], "no directory"),
        (["demo", "--data-dir", "x", "--out", "OUT"], "go with --real"),
        (["demo", "--real", "--data-dir", "/none", "--out", "OUT"], "no such file"),
        (["score", "biographies", "--model", "bio-full", "--device", "tpu9", "--scorer", "wga", "--out", "OUT"],
         "device 'tpu9' cannot be used here"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "atwu", "--weights", "atwu", "--out", "OUT",
          "--set", "every=0"], "give pretrain=N too"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", "OUT",
          "--set", "clip=-1"], "clip must be above 0"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", "OUT",
          "--set", "weight_decay=-1"], "weight_decay must be at least 0"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "amortised", "--out", "OUT", "--set", "signl=wga"],
         "unknown scorer option 'signl': did you mean signal"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "atwu", "--out", "OUT", "--set", "preset=tofu-2b"],
         "unknown preset 'tofu-2b': did you mean tofu-"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "atwu", "--weights", "atwu", "--out", "OUT",
          "--set", "preset=mine"], "unknown preset 'mine'"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "wga", "--out", "OUT", "--save", "OUT"],
         "--save keeps one learned scorer"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "amortised", "--out", "OUT", "--save", "m.bin"],
         "--save takes FILE.safetensors"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "amortised", "--out", "OUT",
          "--save", "m.safetensors", "--set", "text=forget"], "leave text=forget out"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "no.safetensors", "--out", "OUT"], "no such file"),
        (["unlearn", "biographies", "--model", "bio-full", "--objective", "wga", "--weights", "no.safetensors",
          "--out", "OUT"], "no such file"),
        (["score", "biographies", "--model", "bio-full", "--scorer", "amortised", "--out", "OUT",
          "--unlabelled", "/none"], "no such file"),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str) -> None:
    words = [str(tmp_path / "new" / "folder" / "out.parquet") if word == "OUT" else word for word in words]
    assert message in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_table_by_its_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("Q,A,source\nWho mends watches?,Ada.,book\n")
    (tmp_path / "r.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Where?"}]}) + "\n")
    words = ["score", "--forget", str(tmp_path / "f.csv"), "--retain", str(tmp_path / "r.jsonl"), "--model", "bio-full"]
    words += ["--scorer", "uniform", "--out", str(tmp_path / "s.parquet"), "--columns", "question=Q,answer=A"]
    assert "r.jsonl:1: 'messages' has no assistant's turn" in refused(capsys, *words)
    assert "--columns takes KEY=COLUMN,..." in refused(capsys, *words[:-1], "question:Q")
    (tmp_path / "r.jsonl").write_text('{"text": "Plain."}')
    assert main(words) == 0
    lines = capsys.readouterr().err
    assert f"{tmp_path / 'f.csv'}: 1 row, question and answer from columns 'Q', 'A'; ignored: 'source'\n" in lines
    assert f"{tmp_path / 'r.jsonl'}: 1 row, text from column 'text'\n" in lines


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes real file systems that are read-only or too small; skipped where mounting is not allowed."""
    made = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here (needs root)")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [("ro", "read-only"), ("size=4k", "the disk is full"), ("size=8k", "the disk is full")],
)
def test_disks_that_take_nothing(
    capsys: pytest.CaptureFixture[str],
    own: list[str],
    mounted: Callable[[str], Path],
    options: str,
    message: str,
) -> None:
    disk = mounted(options)
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", str(disk / "run")]
    assert message in refused(capsys, "unlearn", *own, *words, "--set", "steps=2", "--probe-limit", "2", working=True)
    words = ["--model", "bio-full", "--scorer", "wga,random,uniform,entropy", "--out", str(disk / "s.parquet")]
    assert message in refused(capsys, "score", *own, *words, working=True)
    words = ["--model", "bio-full", "--epochs", "1", "--out", str(disk / "m")]
    assert message in refused(capsys, "finetune", *own, *words, working=True)
    assert not list(disk.iterdir())


def test_a_disk_that_fills_up_leaves_a_run_to_resume(
    capsys: pytest.CaptureFixture[str], own: list[str], mounted: Callable[[str], Path]
) -> None:
    disk = mounted("size=1m")  # enough for the tables, not for a checkpoint
    out = disk / "run"
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", str(out)]
    steps = ["--set", "steps=3", "--set", "checkpoint_every=2", "--set", "batch_size=4", "--probe-limit", "2"]
    assert "the disk is full" in refused(capsys, "unlearn", *own, *words, *steps, working=True)
    assert run(capsys, "runs", "show", str(out))["status"] == "unfinished"
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    done = run(capsys, "runs", "resume", str(out))
    assert (done["status"], done["step"]) == ("finished", 3)


def test_answer_longer_than_the_context(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    Path(own[1]).write_text(json.dumps({"question": "Who?", "answer": "word " * 400}) + "\n")
    words = ["--model", "bio-full", "--scorer", "wga", "--out", str(tmp_path / "s.parquet")]
    assert "context" in refused(capsys, "score", *own, *words)
    assert not (tmp_path / "s.parquet").exists()
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "wga", "--out", str(tmp_path / "run")]
    assert "context" in refused(capsys, "unlearn", *own, *words)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as it is in a shell's foreground; a job in the background begins with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_while_libraries_load(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ctrl_c: None
) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("loaded")
    assert done == ["loaded"]
    monkeypatch.setattr("workbench.models.available", lambda: signal.raise_signal(signal.SIGINT))
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "workbench: interrupted\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_python_drops_is_heeded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ctrl_c: None
) -> None:
    """It arrives in a finaliser, where exceptions are ignored; the next progress that is told raises it again."""
    done = []

    class Garbage:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)
            done.append("not reached")

    def available() -> None:
        Garbage()
        done.append("dropped")
        Progress()("step", 1, 2)
        done.append("not reached")

    monkeypatch.setattr("workbench.models.available", available)
    assert main(["models"]) == 130
    assert done == ["dropped"]
    Progress()("step", 2, 2)  # what was heeded is over
