"""`workbench figure`: a heatmap, comparison or chart of a run or a score table, and one line for what it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import SAMPLES, SPANS, scores_of

from workbench.cli.app import main
from workbench.view.figures.text_figure import on_white
from workbench.view.html import BY, Scale


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


@pytest.mark.parametrize("show", ["heatmap", "compare"])
def test_colour_goes_by_what_is_asked_for(tmp_path: Path, show: str) -> None:
    """Every token's ground is that of the view's own scale."""
    scores = scores_of(SAMPLES, SPANS).assign(score=lambda t: 10.0 ** -(np.arange(len(t)) % 5))
    scores.to_parquet(tmp_path / "scores.parquet")
    fills = {}
    for by in BY:
        out = tmp_path / f"{by}.svg"
        assert figure(tmp_path / "scores.parquet", "--out", out, "--show", show, "--by", by) == 0
        scale = Scale.of(scores["score"].to_numpy(), by)
        assert scale is not None
        colours = [on_white(scale.level(value)) for value in scores["score"]]
        grounds = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours if colour]
        fills[by] = re.findall(r'<rect x[^>]*fill="(#\w{6})"', out.read_text(encoding="utf-8"))[: len(grounds)]
        assert fills[by] == grounds
        assert (f"colour by {by}" in out.read_text(encoding="utf-8")) == (by != "value")
    assert fills["value"] != fills["rank"]


def test_what_see_diff_and_where_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["--question", "What does Celia Nash do for a living?", "--answer", "Celia Nash works as a cartographer."]
    on = ["where", "bio-full", "--before", "bio-full", "--reference", "bio-retain", "--task", "biographies"]
    commands = {
        "see": ["see", *text, "--model", "bio-full"],
        "diff": ["diff", "bio-retain", "bio-full", *text],
        "where": on,
    }
    for name, words in commands.items():
        out = tmp_path / f"{name}.svg"
        assert main([*words, "--figure", str(out)]) == 0
        assert str(out) in capsys.readouterr().out
        assert "cartographer" in out.read_text(encoding="utf-8")
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--figure", str(tmp_path / "f.gif")])
        assert "saved as" in capsys.readouterr().err


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
        (["--out", "f.tex", "--show", "cost"], "saved as .svg, .pdf, .png, not '.tex'"),
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
