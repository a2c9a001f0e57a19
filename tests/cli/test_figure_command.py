"""`workbench figure`: a heatmap, comparison or chart of a run or a score table, and one line for what it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pages import SAMPLES, SPANS, scores_of

from workbench.cli.app import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "scores.parquet"
    pd.concat([scores_of(SAMPLES, SPANS, name) for name in ("atwu", "surprisal")]).to_parquet(path)
    return path


def figure(*words: str | Path) -> int:
    return main(["figure", *map(str, words)])


def test_an_answer_by_number_or_id(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in ("2", "b"):
        out = tmp_path / f"{answer}.tex"
        assert figure(table, "--out", out, "--answer", answer, "--scorer", "surprisal", "--width", "8cm", "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["figure"] == str(out)
        text = out.read_text(encoding="utf-8")
        assert "novels" in text
        assert "Kuwait" not in text
        assert "surprisal" in text
    assert (tmp_path / "2.tex").read_bytes() == (tmp_path / "b.tex").read_bytes()


def test_threshold_words_and_title(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.svg"
    assert figure(table, "--out", out, "--threshold", "none", "--words", "--title", "A & B") == 0
    text = out.read_text(encoding="utf-8")
    assert "Underlined" not in text
    assert "A word has the mean score of its tokens." in text
    assert "A &amp; B" in text


def test_scorers_side_by_side(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.svg"
    assert figure(table, "--out", out, "--show", "compare", "--scorer", "surprisal,atwu") == 0
    assert out.read_text(encoding="utf-8").index(">surprisal<") < out.read_text(encoding="utf-8").index(">atwu<")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "f.gif"], "saved as"),
        (["--out", "f.svg", "--width", "8miles"], "a width is"),
        (["--out", "f.svg", "--answer", "7"], "the answers are numbered 1 to 2"),
        (["--out", "f.svg", "--answer", "x"], "unknown sample"),
        (["--out", "f.svg", "--scorer", "x"], "unknown scorer"),
        (["--out", "f.svg", "--threshold", "much"], "a number or none"),
        (["--out", "f.svg", "--show", "cost"], "needs a run directory"),
        (["--out", "f.svg", "--scorer", "atwu,surprisal"], "one scorer"),
    ],
)
def test_mistakes_are_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    words[1] = str(tmp_path / words[1])
    with pytest.raises(SystemExit, match="2"):
        figure(table, *words)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path(words[1]).exists()
