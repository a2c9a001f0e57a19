"""`workbench see` and `workbench diff`: text, JSON, a page; and nothing of a text that a terminal would obey."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from commandline import refused, told
from hostile import EVIL, check

from workbench.cli.app import main

PAIR = ["--question", "What does Celia Nash do for a living?", "--answer", "Celia Nash works as a cartographer."]


def test_see_prints_a_table_where_there_are_no_colours(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "see.html"
    words = ["see", *PAIR, "--model", "bio-full", "--scorers", "surprisal,wga", "--html", str(page)]
    lines, result = told(capsys, *words)
    assert lines[0].split() == ["token", "surprisal", "wga"]
    assert lines[1].startswith("'Celia'")
    assert {row["scorer"] for row in result["tokens"]} == {"surprisal", "wga"}
    text = "".join(r["token"] for r in result["tokens"] if r["scorer"] == "wga" and r["segment"] == "answer")
    assert text == PAIR[-1]
    assert "<html" in page.read_text()


def test_see_reads_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "One text."}) + "\n" + json.dumps({"text": "Another."}))
    _, result = told(capsys, "see", "--file", str(tmp_path / "rows.jsonl"), "--model", "bio-full")
    assert {row["sample_id"] for row in result["tokens"]} == {"row-0000", "row-0001"}


def test_diff(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "diff.html"
    lines, result = told(capsys, "diff", "bio-retain", "bio-full", *PAIR, "--html", str(page))
    assert lines[0].startswith("bio-full compared with bio-retain: orange where it expects a token more")
    assert not result["by_words"]
    most = max((r for r in result["tokens"] if "minus" in r["scorer"]), key=lambda r: r["score"])
    assert most["token"] == " cartographer"
    assert "bio-full: “ cartographer”" in page.read_text()


@pytest.mark.parametrize("truecolor", ["truecolor", ""])
@pytest.mark.parametrize("command", [["see", "--model", "bio-full"], ["diff", "bio-retain", "bio-full"]])
def test_colours_in_a_terminal_and_no_other_control(
    monkeypatch: pytest.MonkeyPatch, truecolor: str, command: list[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, value in (("COLORTERM", truecolor), ("TERM", "xterm"), ("NO_COLOR", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    evil = EVIL.replace("\x00", "")
    assert main([*command, "--question", f"Who? {evil}", "--answer", f"Celia Nash {evil}\nworks."]) == 0
    text = shown.getvalue()
    assert "\x1b[48;2;" in text if truecolor else "\x1b[48;5;" in text
    rest = re.sub(r"\x1b\[(0|1|2|48;(2;\d+;\d+;\d+|5;\d+);38;5;16)m", "", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200b\u202a-\u202e]", rest)
    assert "Celia Nash" in rest


def test_a_page_of_hostile_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told(capsys, "see", EVIL.replace("\x00", ""), "--model", "bio-full", "--html", str(page))
    check(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["see", "--model", "bio-full"], "give one of TEXT, --file FILE, or --question with --answer"),
        (["see", "a", "--file", "b", "--model", "bio-full"], "give one of TEXT"),
        (["see", "a b", "--model", "bio-full", "--scorers", "specificity"], "give rows of it as unlabelled"),
        (["see", "a b", "--model", "bio-full", "--by", "size"], "'size' is not one of 'value', 'rank', 'logarithm'"),
        (["see", "a", "--model", "bio-ful"], "did you mean bio-full"),
        (["diff", "bio-full", "bio-ful", "a"], "did you mean bio-full"),
        (["diff", "bio-full", "bio-retain"], "give one of TEXT"),
        (["see", "--question", "a", "--model", "bio-full"], "question= and answer= together"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert line in refused(capsys, *words, working=True)
