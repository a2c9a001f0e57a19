"""The command line as a user meets it: results on the last line, mistakes in one line with exit 2."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.cli import main
from workbench.commands import COMMANDS
from workbench.interrupts import uninterrupted
from workbench.models import LanguageModel
from workbench.scorers import scorer
from workbench.scorers.atwu import PRESETS
from workbench.tasks import Task
from workbench.tokens import encode


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys: pytest.CaptureFixture[str], *words: str, working: bool = False) -> str:
    """The line that says what is wrong; the only line, unless work (and its progress) had begun."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert working or len(lines) == 1
    assert [line.startswith("workbench: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("workbench: ")
    return lines[-1]


@pytest.fixture
def own(small: Task, tmp_path: Path) -> list[str]:
    """Options that name a small task in files of one's own."""
    words = []
    for name in ("forget", "retain"):
        path = tmp_path / f"{name}.jsonl"
        keys = ("id", "question", "answer", "spans")
        path.write_text("".join(json.dumps({k: getattr(s, k) for k in keys}) + "\n" for s in small.sets[name]))
        words += [f"--{name}", str(path)]
    return words


def test_score_align_and_html(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out, page = tmp_path / "scores.parquet", tmp_path / "scores.html"
    words = ["--model", "bio-full", "--reference", "bio-retain", "--scorer", "gap,random,uniform"]
    result = run(capsys, "score", *own, *words, "--out", str(out), "--html", str(page))
    table = pd.read_parquet(out)
    assert set(table["scorer"]) == {"gap", "random", "uniform"}
    assert result["tokens"] * 3 == len(table)
    assert "<html" in page.read_text()
    found = run(capsys, "align", str(out))
    assert found["gap"]["auroc"] > found["random"]["auroc"]
    assert found["uniform"]["auroc"] == {"value": None, "reason": "all scores are equal"}


def test_labels_from_a_file_give_the_same_alignment(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal", "--out", str(out))
    expected = run(capsys, "align", str(out))
    pd.read_parquet(out).assign(span=pd.array([None] * len(pd.read_parquet(out)), dtype="boolean")).to_parquet(out)
    assert "no token has a span label" in refused(capsys, "align", str(out))
    assert run(capsys, "align", str(out), "--spans", own[1]) == expected


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


def test_a_saved_scorer_scores_other_text_and_serves_as_live_weights(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    saved, first, again = tmp_path / "map.safetensors", tmp_path / "a.parquet", tmp_path / "b.parquet"
    words = [*own, "--model", "bio-full"]
    options = ["--set", "signal=surprisal", "layer=2"]
    run(capsys, "score", *words, "--scorer", "amortised", *options, "--save", str(saved), "--out", str(first))
    result = run(capsys, "score", *words, "--scorer", f"{saved},wga", "--out", str(again))
    assert result["scorers"] == ["amortised", "wga"]
    tables = [pd.read_parquet(path) for path in (first, again)]
    np.testing.assert_allclose(
        tables[0]["score"], tables[1].loc[tables[1]["scorer"] == "amortised", "score"], atol=1e-5
    )
    settings = ["--set", "steps=2", "batch_size=6", "record_every=1"]
    out = tmp_path / "run"
    run(capsys, "unlearn", *words, "--objective", "wga", "--weights", str(saved), *settings, "--out", str(out))
    scores = pd.read_parquet(out / "scores.parquet")
    live = scores[scores["scorer"] == "amortised"].groupby("step")["score"].mean()
    assert list(live.index) == [0, 1, 2]
    assert live[2] != live[0]  # the map is fixed, the states that it reads move
    kept = tmp_path / "c.parquet"
    run(capsys, "score", *own, "--model", str(out / "model"), "--scorer", str(out / "scorer.safetensors"),
        "--out", str(kept))  # fmt: skip
    np.testing.assert_allclose(
        pd.read_parquet(kept)["score"], scores[(scores["scorer"] == "amortised") & (scores["step"] == 2)]["score"],
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


SLOW = {name for name in scorer if scorer[name].facts.get("slow")}


def test_all_scorers_but_the_slow_ones(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    words = [*own, "--model", "bio-full", "--reference", "bio-retain", "--scorer", "all"]
    assert main(["score", *words, "--set", "steps=4", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "left out for their time: gradient_cosine, relearn_residue, shapley_sampling, kernel_shap" in said.err
    assert "left out: deep_lift has no rule for SiLU" in said.err
    assert "feature_ablation: target answer, units token, baseline eos" in said.out
    scores = pd.read_parquet(out)
    assert set(scores["scorer"]) == set(scorer) - SLOW - {"deep_lift"}
    assert np.isfinite(scores["score"]).all()
    answers = scores[scores["segment"] == "answer"]
    assert answers.groupby("scorer").size().nunique() == 1
    asked = scores.loc[scores["segment"] == "prompt", "scorer"].unique()
    assert set(asked) == {n for n in scorer if scorer[n].kind == "input"} & set(scores["scorer"])


@pytest.fixture
def scoring(own: list[str], tmp_path: Path) -> list[str]:
    words = ["--model", "bio-full", "--scorer", "uniform,wga,feature_ablation,integrated_gradients"]
    return ["score", *own, *words, "--set", "steps=300", "--out", str(tmp_path / "s.parquet")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_loses_no_finished_scorer(
    how: signal.Signals, capsys: pytest.CaptureFixture[str], scoring: list[str], tmp_path: Path
) -> None:
    out, whole = tmp_path / "s.parquet", tmp_path / "whole.parquet"
    process = subprocess.Popen([sys.executable, "-m", "workbench", *scoring], stderr=subprocess.PIPE, text=True)
    while not (out.exists() and "feature_ablation" in set(pd.read_parquet(out)["scorer"])):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert list(pd.read_parquet(out)["scorer"].unique()) == ["uniform", "wga", "feature_ablation"]
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert f"kept in {out}: uniform, wga, feature_ablation; --resume goes on" in said
    marked = pd.read_parquet(out)
    marked.loc[marked["scorer"] == "wga", "score"] = 7.0  # would be lost if it were computed again
    marked.to_parquet(out)
    result = run(capsys, *scoring, "--resume")
    assert result["scorers"] == ["uniform", "wga", "feature_ablation", "integrated_gradients"]
    run(capsys, *scoring[:-1], str(whole))
    resumed, undisturbed = pd.read_parquet(out), pd.read_parquet(whole)
    assert resumed.attrs == undisturbed.attrs
    assert resumed.loc[resumed["scorer"] == "wga", "score"].eq(7.0).all()
    other = resumed["scorer"] != "wga"
    pd.testing.assert_frame_equal(resumed[other], undisturbed[other])


def test_resume_takes_only_what_is_the_same(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    words = ["score", *own, "--scorer", "wga,feature_ablation", "--out", str(out), "--resume"]
    run(capsys, *words, "--model", "bio-full")
    first = pd.read_parquet(out)
    run(capsys, *words, "--model", "bio-full", "--set", "units=word", "beta=1.0")
    changed = pd.read_parquet(out)
    assert changed.attrs["notes"]["feature_ablation"]["options"] == {"units": "word"}
    assert not np.array_equal(first["score"], changed["score"])
    run(capsys, *["surprisal" if w == "wga,feature_ablation" else w for w in words], "--model", "bio-full")
    assert list(pd.read_parquet(out)["scorer"].unique()) == ["wga", "feature_ablation", "surprisal"]  # none is lost
    changed = pd.read_parquet(out)
    assert "another model sha256; leave --resume out" in refused(capsys, *words, "--model", "bio-retain", working=True)
    assert "another seed" in refused(capsys, *words, "--model", "bio-full", "--seed", "3", working=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out), changed)


def test_faithfulness(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal,uniform", "--out", str(out))
    words = ["faithfulness", str(out), *own, "--model", "bio-full"]
    masking = run(capsys, *words)["masking"]
    assert masking["surprisal"]["comprehensiveness"] > 0
    assert masking["uniform"]["sufficiency"]["value"] is None
    rows = run(capsys, *words, "--unlearn", "--seeds", "0", "--set", "steps=2", "batch_size=4")["runs"]
    assert [row["weights"] for row in rows] == ["surprisal", "uniform", "random", "spans"]
    assert all(0 <= row["forget_probability"] <= 1 for row in rows)
    assert "--seeds takes whole numbers" in refused(capsys, *words, "--seeds", "a")
    assert "unknown baseline 'eoss': did you mean eos" in refused(capsys, *words, "--baseline", "eoss", working=True)
    assert "unknown objective 'npoo'" in refused(capsys, *words, "--objective", "npoo")


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


def test_tables_that_hold_no_scores(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    table, out = tmp_path / "t.parquet", tmp_path / "run"
    words = ["--model", "bio-full", "--objective", "wga", "--weights", str(table), "--out", str(out)]
    table.write_text("not parquet")
    assert "not parquet" in refused(capsys, "unlearn", *own, *words)
    assert "not parquet" in refused(capsys, "align", str(table))
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "wga,random", "--out", str(table))
    assert "has 2: wga, random" in refused(capsys, "unlearn", *own, *words)
    pd.DataFrame({"score": [1.0]}).to_parquet(table)
    assert "for want of task" in refused(capsys, "unlearn", *own, *words)
    assert "for want of task" in refused(capsys, "align", str(table))
    assert not out.exists()


def test_labels_of_other_rows_are_refused(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out, other = tmp_path / "scores.parquet", tmp_path / "other.jsonl"
    run(capsys, "score", *own, "--model", "bio-full", "--scorer", "surprisal", "--out", str(out))
    other.write_text(json.dumps({"question": "Who?", "answer": "Nobody.", "spans": [[0, 6]]}) + "\n")
    assert "labels no answer" in refused(capsys, "align", str(out), "--spans", str(other))
    rows = [json.loads(line) for line in Path(own[1]).read_text().splitlines()]
    half = [row if i % 2 else {"question": row["question"], "answer": row["answer"]} for i, row in enumerate(rows)]
    other.write_text("".join(json.dumps(row) + "\n" for row in half))
    partly = [*own[:1], str(other), *own[2:]]
    run(capsys, "score", *partly, "--model", "bio-full", "--scorer", "surprisal", "--out", str(tmp_path / "p.parquet"))
    blank = pd.read_parquet(out).assign(span=pd.array([None] * len(pd.read_parquet(out)), dtype="boolean"))
    blank.to_parquet(out)
    expected = run(capsys, "align", str(tmp_path / "p.parquet"))
    assert run(capsys, "align", str(out), "--spans", str(other)) == expected


def test_finetune_plants_and_saves(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ["--model", "bio-retain", "--out", str(out), "--epochs", "20", "--set", "lr=2e-3", "--set", "batch_size=24"]
    result = run(capsys, "finetune", *own, *words)
    assert result["nll"]["forget"] < 0.5
    assert json.loads((out / "workbench.json").read_text()) == {"prompt": "plain"}
    assert not list(tmp_path.glob(".*.part"))


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


def test_ctrl_c_waits_while_libraries_load(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("loaded")
    assert done == ["loaded"]
    monkeypatch.setitem(COMMANDS, "models", lambda given: signal.raise_signal(signal.SIGINT))
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "workbench: interrupted\n"


def test_tokens_of_a_table_tile_their_answers(full: LanguageModel, small: Task) -> None:
    for sample in small.forget:
        encoding = encode(full, sample)
        assert "".join(encoding.text_of(p) for p in encoding.answer_positions) == sample.answer
