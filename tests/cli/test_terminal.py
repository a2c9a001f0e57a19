"""Ids, names and reasons out of files cannot move a terminal's cursor, change its colours or begin a line."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commandline import refused
from pages import SAMPLES, scores_of
from runs_of import config_of, own_files

from workbench.cli.app import main
from workbench.cli.console import Progress, table_line
from workbench.runs.directory import RunDirectory
from workbench.tasks.spec import TaskSpec

EVIL = "\x1b[31mred\x1b[0m\r\nnew line\x9b2J\u202eback\x07\x7f"
CLI = Path(__file__).resolve().parents[2] / "workbench" / "cli"


def clean(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text) and not any(x.startswith("new") for x in text.splitlines())


def table(folder: Path) -> str:
    """A score table with such names of samples and scorers."""
    samples = {f"{name}{EVIL}": texts for name, texts in SAMPLES.items()}
    spans = {key: [(0, 9)] for key in samples}
    parts = [scores_of(samples, spans, f"{name}{EVIL}", value) for name, value in (("x", None), ("y", 0.5))]
    scores = pd.concat(parts, ignore_index=True).astype({"span": "boolean"})
    scores.loc[3, "score"] = float("nan")
    scores.to_parquet(folder / "scores.parquet")
    return str(folder / "scores.parquet")


def evil_run(bio: Any, folder: Path) -> Path:
    """A run that ended for such a reason, with metrics of such sets and names, in a directory of such a name."""
    run = RunDirectory.create(folder / f"run{EVIL}".replace("/", ""), config_of(own_files(bio, folder, 4)))
    nothing = {"value": None, "reason": EVIL}
    metrics = {"before": {f"forget{EVIL}": {"fact_accuracy": nothing, f"own{EVIL}": 0.5}}}
    run.write_json("metrics.json", metrics)
    (run.path / "job.json").write_text(json.dumps({"state": "failed", "reason": EVIL, "pid": 1, "host": EVIL}))
    return run.path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    both = "".join(capsys.readouterr())
    assert clean(both), both
    return both


def test_commands_over_score_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = table(tmp_path)
    for command in ("align", "agree"):
        out = shown(capsys, command, file)
        assert r"x\x1b[31mred\x1b[0m new line\x9b2J\u202eback\x07\x7f" in out
        lines = shown(capsys, command, file, "--json").splitlines()
        result = json.loads(lines[-1])  # which has the names as they are
        assert f"x{EVIL}" in result.get("scorers", result)


def test_commands_over_runs(capsys: pytest.CaptureFixture[str], bio: Any, tmp_path: Path) -> None:
    run = evil_run(bio, tmp_path)
    listed = shown(capsys, "runs", "list", "--root", str(tmp_path))
    assert r"\x1b[31mred" in listed
    assert len(listed.splitlines()) == 2  # a head and one run
    assert r"\x1b[31mred" in shown(capsys, "runs", "show", str(run))
    (run / "config.json").write_text("{")
    assert clean(shown(capsys, "runs", "list", "--root", str(tmp_path)))
    assert clean(refused(capsys, "runs", "show", str(run)))


def test_progress_and_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    Progress()(f"score {EVIL}", 1, 1, EVIL)
    assert clean(sys.stderr.getvalue().replace("\r", "\n"))  # type: ignore[attr-defined]
    table_line([["a", EVIL], [EVIL, "b"]])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_how_files_are_read_is_told_in_clean_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = json.dumps({"Question": "Who?", f"x{EVIL}": "A", "answer": "Somebody."})
    for name in ("forget", "retain"):
        (tmp_path / f"{name}{EVIL}.jsonl".replace("/", "")).write_text(rows.replace("Who", name))
    files = {name: str(next(tmp_path.glob(f"{name}*"))) for name in ("forget", "retain")}
    TaskSpec(**files).load()
    err = capsys.readouterr().err
    assert r"\x1b[31mred" in err
    assert clean(err)


def test_nothing_in_the_commands_prints_past_this() -> None:
    """Every line goes through `say` or a table; the few others are named here."""
    allowed = {"console.py": 2, "app.py": 3, "options.py": 1, "probe.py": 3}  # of probe: empty lines
    printed: dict[str, int] = {}
    for path in CLI.glob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        count = sum(getattr(call.func, "id", "") == "print" for call in calls)
        printed |= {path.name: count} if count else {}
    assert printed == allowed
