"""Figures: the text is in them as text, hostile strings are nothing else, and what is shown is what is saved."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile import EVIL, SCRIPT
from pages import HOSTILE, SAMPLES, SPANS, scores_of, token_table
from test_where_view import made

from workbench.errors import UserError
from workbench.view.charts import Chart, attacks_chart, cost_chart, matrix_chart, tradeoff_chart, where_chart
from workbench.view.figures import TextFigure, answers_figure, change_figure, compare_figure, tokens_figure
from workbench.view.figures.chart import letters_of
from workbench.view.figures.latex import escaped
from workbench.view.figures.saving import points_of
from workbench.view.html import colour, token_view
from workbench.view.html.where import brief
from workbench.view.widgets import CompareView, TokenView, WhereView
from workbench.view.widgets.token_payload import payload

TEX = [
    r"\input{/etc/passwd}", r"\immediate\write18{touch owned}", "^^M ^^5cinput{/etc/passwd}", "$x^2$ 100 % _a_ #1 & ~",
    r"\end{document}", "}}}{{{", "`` '' -- --- ?` << >> ,,", "naïve ąę Ω → 漢字 👩‍🔬 مرحبا", "W" * 200,
]  # fmt: skip
EVILS = [EVIL, SCRIPT, *HOSTILE, *TEX]


def table(scorer: str = "atwu") -> pd.DataFrame:
    return scores_of(SAMPLES, SPANS, scorer)


def hostile_figure() -> TextFigure:
    samples = {f"{i}{EVIL}": (f"{text}?", f"{text} again.") for i, text in enumerate(EVILS)}
    tables = [scores_of(samples, {}, name).assign(score=0.5) for name in (EVIL, r"\input{x}_$")]
    return compare_figure(pd.concat(tables), samples, max_samples=50, title=f"{EVIL} $x$")


def svg_of(figure: Any, width: str = "16cm") -> ET.Element:
    return ET.fromstring(figure.to_bytes(".svg", width))


def lines(svg: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_an_svg_has_the_text_as_text_and_names_its_font() -> None:
    svg = svg_of(tokens_figure(payload(table(), SAMPLES)))
    assert [line.removesuffix(" ∎") for line in lines(svg)][:4] == [text for pair in SAMPLES.values() for text in pair]
    assert svg.get("font-family", "").startswith("'DejaVu Sans'")
    assert svg.get("width") == f"{16 * 72 / 2.54:.2f}pt"
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}image")) == 0


def test_colours_are_those_of_the_view_over_white() -> None:
    svg = svg_of(tokens_figure(payload(table(), SAMPLES)))
    fills = {rect.get("fill") for rect in svg.iter("{http://www.w3.org/2000/svg}rect")}
    red, green, blue, alpha = (float(part) for part in re.findall(r"[\d.]+", colour(11)))  # 0.9 of 12 steps
    assert "#" + "".join(f"{round(255 + (c - 255) * alpha):02x}" for c in (red, green, blue)) in fills


@pytest.mark.parametrize(
    ("width", "points"), [("8cm", 226.77), ("80 mm", 226.77), ("3in", 216), ("200pt", 200), (5, 141.7)]
)
def test_widths(width: Any, points: float) -> None:
    assert points_of(width) == pytest.approx(points, abs=0.1)


@pytest.mark.parametrize("width", ["8 miles", "", "0cm", "-3cm", "1e9", float("nan"), "200cm"])
def test_other_widths_are_one_line(width: Any) -> None:
    with pytest.raises(UserError, match=r"width|wide"):
        points_of(width)


def test_other_formats_are_one_line(tmp_path: Path) -> None:
    figure = tokens_figure(payload(table(), SAMPLES))
    for name in ("f.gif", "f", "f.svg.exe"):
        with pytest.raises(UserError, match="saved as"):
            figure.save(tmp_path / name)
    with pytest.raises(UserError, match=r"saved as \.svg, \.pdf, \.png, not"):
        cost_chart({"a": {"phases": {"forget": {"seconds": 1.0, "flops": 1.0}}}}).save(tmp_path / "f.tex")
    assert list(tmp_path.iterdir()) == []


def test_a_static_view_says_what_to_save(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TokenView\(...\).save"):
        token_view(table(), SAMPLES).save(tmp_path / "f.svg")
    assert list(tmp_path.iterdir()) == []


def test_long_tokens_wrap_and_nothing_leaves_the_page() -> None:
    samples = {"a": ("", "W" * 300)}
    scores = scores_of(samples)
    svg = svg_of(tokens_figure(payload(scores, samples)), "5cm")
    width = float(svg.get("width", "").removesuffix("pt"))
    boxes = [r for r in svg.iter("{http://www.w3.org/2000/svg}rect") if r.get("x")]
    assert max(float(r.get("x", 0)) + float(r.get("width", 0)) for r in boxes) <= width
    assert "".join(lines(svg)).count("W") == 300


def test_whatever_fails_is_said_at_the_button(monkeypatch: pytest.MonkeyPatch) -> None:
    view, sent = TokenView(table(), SAMPLES), list[Any]()
    monkeypatch.setattr(view, "send", lambda content, buffers=None: sent.append(content))
    monkeypatch.setattr(view, "figure", lambda **_: (_ for _ in ()).throw(RuntimeError("no room")))
    view._save_asked(view, {"save": "svg", "id": 3}, [])
    assert sent == [{"saved": "svg", "id": 3, "error": "RuntimeError: no room"}]


def test_the_letters_of_a_chart_are_known_whatever_writes_its_json() -> None:
    chart = Chart({"data": [{"type": "bar", "x": [1], "y": ["漢 Ω"]}], "layout": {"title": {"text": "ę"}}})
    assert set("漢Ωę") <= letters_of(chart)


def test_what_one_sees_is_what_is_saved(tmp_path: Path) -> None:
    scores = pd.concat([table(), table("surprisal").assign(score=lambda t: t["position"] / 20)])
    view = TokenView(scores, SAMPLES)
    view.scorer, view.search, view.threshold = "surprisal", "novels", 0.2
    text = lines(svg_of(view))
    assert text[:2] == [SAMPLES["b"][0], SAMPLES["b"][1] + " ∎"]
    assert "surprisal" in text[2]
    assert "Underlined: at or above 0.20." in " ".join(text)
    view.unit = "word"
    assert "A word has the mean score of its tokens." in " ".join(lines(svg_of(view)))
    saved = view.save(tmp_path / "f.svg", width="8cm")
    assert saved.read_bytes() == view.to_bytes("svg", "8cm")
    compared = CompareView(scores, SAMPLES, scorers=["surprisal", "atwu"])
    assert {"surprisal", "atwu"} <= set(lines(svg_of(compared)))
    assert "atwu" not in lines(svg_of(compared.figure(["surprisal"])))


def test_words_have_the_mean_of_their_tokens() -> None:
    scores = table().assign(score=0.0)
    scores.loc[scores["token"] == ".", "score"] = 1.0  # of a word with the end: the mean is a third
    figure = tokens_figure(payload(scores, SAMPLES), unit="word", threshold=0.3)
    under = [p.text for row in figure.rows for p in row.pieces if p.under]
    assert under == ["City", ".", "∎", "novels", ".", "∎"]


def test_a_step_of_a_run_is_the_newest_up_to_it() -> None:
    scores = pd.concat([table().assign(step=step, score=step / 10) for step in (0, 4, 8)])
    data = payload(scores, SAMPLES)
    assert "step 4" in tokens_figure(data, step=5).keys[0].name
    assert "step 8" in tokens_figure(data).keys[0].name


def test_unknown_names_are_one_line() -> None:
    data = payload(table(), SAMPLES)
    for bad in ({"scorer": "x"}, {"unit": "line"}, {"sample_ids": ["x"]}, {"sample_ids": []}):
        with pytest.raises(UserError):
            tokens_figure(data, **bad)


def test_changes_and_answers() -> None:
    probes = pd.DataFrame(
        {"phase": phase, "probe_set": "forget", "sample_id": i, "prompt": q, "answer": a}
        | {"generation": a if phase == "before" else a.replace("Kuwait", "Paris")}
        for phase in ("before", "after")
        for i, (q, a) in SAMPLES.items()
    )  # fmt: skip
    change = change_figure(token_table(), probes)
    assert [p.text for row in change.rows for p in row.pieces if p.under] == ["Kuwait"]
    answers = answers_figure(probes, probe_set="forget", sample_ids=["a"])
    pieces = [p for row in answers.rows for p in row.pieces]
    assert [p.text for p in pieces if p.struck] == ["Kuwait"]
    assert [p.text for p in pieces if p.under] == ["Paris"]


# Hostile strings ----------------------------------------------------------------------------------------------------


def test_hostile_strings_are_text_in_svg() -> None:
    svg = svg_of(hostile_figure())
    names = {element.tag.split("}")[1] for element in svg.iter()}
    assert names == {"svg", "title", "rect", "path", "text", "tspan"}
    assert not any(key.startswith("on") or "zz" in key for element in svg.iter() for key in element.attrib)
    text = "".join(lines(svg)).replace(" ", "")
    assert r"\input{/etc/passwd}" in text
    assert "<script>alert(1)</script>" in text


def test_no_character_of_a_text_is_a_command_in_latex() -> None:
    every = "".join(map(chr, range(0x20, 0x7F)))
    rest = re.sub(r"\\[a-zA-Z]+(\{\})?|\\[{}$&#_%]|\{[\[\]]\}", "", escaped(every))
    assert set(rest) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !()*+,-./:;=?@")
    tex = hostile_figure().to_bytes(".tex").decode()
    body = tex.split(r"emergencystretch=2em", 1)[1]
    for word in (r"\input", r"\write", r"\immediate", r"\end{document}", "^^", "<script"):
        assert word not in body
    commands = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert not commands & {
        "input",
        "include",
        "write",
        "immediate",
        "openin",
        "read",
        "catcode",
        "def",
        "csname",
        "directlua",
    }


@pytest.mark.parametrize("engine", ["pdflatex", "lualatex"])
@pytest.mark.slow
def test_latex_compiles_alone_and_as_input(engine: str, tmp_path: Path) -> None:
    if shutil.which(engine) is None or shutil.which("pdftotext") is None:
        pytest.skip(f"{engine} (texlive-latex-base, texlive-luatex) or pdftotext (poppler-utils) is not installed")
    hostile_figure().save(tmp_path / "alone.tex", "9cm")
    packages = r"\usepackage[T1]{fontenc}\usepackage{textcomp}\usepackage{xcolor}"
    paper = rf"\documentclass{{article}}{packages}\begin{{document}}before \input{{alone.tex}} behind\end{{document}}"
    (tmp_path / "paper.tex").write_text(paper)
    for name in ("alone", "paper"):
        done = subprocess.run(
            [engine, "-interaction=nonstopmode", "-halt-on-error", "-shell-escape", f"{name}.tex"],
            cwd=tmp_path, capture_output=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        text = subprocess.run(
            ["pdftotext", f"{name}.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        flat = "".join(text.stdout.split())
        assert r"\input{/etc/passwd}" in flat
        assert "root:" not in flat
        assert "behind" in flat or name == "alone"
    assert not (tmp_path / "owned").exists()


# PDF and PNG --------------------------------------------------------------------------------------------------------


def test_pdf_and_png_open_and_the_text_is_found(tmp_path: Path) -> None:
    figure = tokens_figure(payload(table(), SAMPLES))
    figure.save(tmp_path / "f.pdf", "9cm")
    figure.save(tmp_path / "f.png", "9cm")
    from PIL import Image

    with Image.open(tmp_path / "f.png") as image:
        assert image.width == pytest.approx(9 / 2.54 * 300, abs=2)
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    assert (np.ptp(pixels, axis=2) > 40).sum() > 5000  # coloured, not grey
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    text = subprocess.run(["pdftotext", "-layout", tmp_path / "f.pdf", "-"], capture_output=True, text=True, check=True)
    assert "Basil was born in Kuwait City." in text.stdout


@pytest.mark.slow
def test_hostile_strings_in_pdf(tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    hostile_figure().save(tmp_path / "f.pdf")
    text = subprocess.run(["pdftotext", tmp_path / "f.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert r"\input{/etc/passwd}" in "".join(text.split())


def charts() -> dict[str, Chart]:
    metrics = {
        phase: {name: {"fact_accuracy": value} for name in ("forget", "retain")}
        for phase, value in (("before", 0.9), ("after", 0.2))
    }
    phases = {EVIL: {"seconds": 1.0, "flops": 2.0}, "forget": {"seconds": 3.0, "flops": 1.0}}
    attack = {"retain_only": 0.1, "run": 0.3, "before": 0.9, "comes_back": 0.2}
    return {
        "matrix": matrix_chart(table(EVIL), "a"),
        "cost": cost_chart({EVIL: {"phases": phases}, "b$x$": {"phases": phases}}),
        "tradeoff": tradeoff_chart({EVIL: metrics, "seeds": [metrics, metrics]}),
        "attacks": attacks_chart({EVIL: attack, "leak $k$": attack}),
    }


@pytest.mark.parametrize("name", ["matrix", "cost", "tradeoff", "attacks"])
def test_charts_are_drawn_with_their_texts(name: str) -> None:
    chart = charts()[name]
    svg = svg_of(chart, "12cm")
    text = "".join(lines(svg))
    assert chart.layout.title.text.split("<")[0][-20:] in text or name == "matrix"
    assert EVIL.split("-->")[0][:8] in text
    assert not any("zz" in element.tag for element in svg.iter())
    assert chart.to_bytes(".pdf", "8cm").startswith(b"%PDF")
    assert svg_of(chart, "6cm") is not None


def test_a_map_of_layers_is_saved_as_it_is_shown(tmp_path: Path) -> None:
    where = made(["\\input{x}", " in", f" {EVIL}", "$k$", ""])
    view = WhereView([where, made(sample="b")])
    text = lines(svg_of(view))
    assert {"before", "run", "retain-only", "layer"} <= set(text)
    assert "log p of each token by layer" in text[-1]  # in a line of its own below one with marks
    assert {r"\input{x}", "$k$", "∎"} <= set(text)  # the place of a token is an axis label
    shown = [c for trace in where_chart(where).data for row in trace.text or () for c in row]
    plain = [re.sub("<[^<>]*>", "", each) for each in shown]
    values = [[brief("logp", x) for row in where.lenses[m].logp.T for x in row] for m in where.models]
    assert sorted(plain) == sorted(each for one in values for each in one)
    first = [x == 0 for m in where.models for row in where.lenses[m].rank.T for x in row]
    assert ["<b>" in each for each in shown] == first
    view.value, view.answer = "uds", 1
    assert "UDS of each token by layer" in " ".join(lines(svg_of(view, "8cm")))
    assert view.save(tmp_path / "where.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(UserError, match=r"saved as \.svg, \.pdf, \.png, not '\.tex'"):
        view.save(tmp_path / "where.tex")
    with pytest.raises(UserError, match="the maps have logp, rank, uds; not 'colour'"):
        where_chart(where, "colour")
