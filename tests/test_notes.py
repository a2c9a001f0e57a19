"""A note is no result: it stands beside a command's output, and in a notebook among the outputs, not in red."""

from __future__ import annotations

import io
import sys

import pytest

from workbench.errors import note


def test_beside_the_output_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    note("read\nas \x1b[31mchat")
    assert capsys.readouterr() == ("", "read as \\x1b[31mchat\n")


def test_among_the_outputs_of_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", stream)
    note("plain prompts")
    assert stream.getvalue() == "plain prompts\n"
    assert capsys.readouterr().err == ""
