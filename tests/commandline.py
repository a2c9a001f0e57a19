"""Commands as tests call them: what was printed, or the line that says what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from workbench.cli.app import main

READ = re.compile(r": \d+ rows?, (question|text|\d+ with) ")  # how a file was read: no mistake


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], Any]:
    """The lines for people, and the object."""
    assert main([*words, "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The object."""
    return told(capsys, *words)[1]


def refused(capsys: pytest.CaptureFixture[str], *words: str, working: bool = False) -> str:
    """The line that says what is wrong; the only one, but how files were read, unless work had begun."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if not READ.search(line)]
    assert working or len(lines) == 1
    assert [line.startswith("workbench: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("workbench: ")
    return lines[-1]
