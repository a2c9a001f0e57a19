"""A note is no result: it stands beside a command's output, and in a notebook among the outputs, not in red."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench
from workbench.errors import note
from workbench.runs.stages import Stages

PACKAGE = Path(workbench.__file__).parent
# Commands, a run's own process, whose errors go to its log, and pip's bar, which is the terminal's.
MAY = {"errors.py", "runs/worker.py", "models/smollm2.py", *(f"cli/{name}.py" for name in ("app", "console"))}


def test_beside_the_output_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    note("read\nas \x1b[31mchat")
    assert capsys.readouterr() == ("", "read as \\x1b[31mchat\n")


def notebook(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The standard output of a kernel, from now on."""
    stream: io.StringIO = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_among_the_outputs_of_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = notebook(monkeypatch)
    note("plain prompts")
    assert stream.getvalue() == "plain prompts\n"
    assert capsys.readouterr().err == ""


def test_what_a_run_says_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = notebook(monkeypatch)
    run = SimpleNamespace(notes=[], directory=SimpleNamespace(path=Path("runs/a")))
    Stages._say(run, "step-4 is damaged")  # type: ignore[arg-type]
    assert stream.getvalue() == "workbench: runs/a: step-4 is damaged\n"
    assert run.notes == ["step-4 is damaged"]  # of the next event
    assert capsys.readouterr().err == ""


def test_nothing_else_is_printed_where_notebooks_are_red() -> None:
    """What a notebook can call says its notes by `note`."""
    direct = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stderr", "sys.__stderr__", "warnings.warn")
    }
    assert direct <= MAY | {"unlearning/settings.py"}  # whose warning is of a name that a program should change
