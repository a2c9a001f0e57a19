"""The command that saves a heatmap, a comparison or a chart for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.cli.console import say
from workbench.cli.options import ColourBy, command, flag, option
from workbench.errors import UserError, unknown
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    import pandas as pd

    from workbench.runs import RunDirectory
    from workbench.view.figures import Savable
    from workbench.view.html import Samples
    from workbench.view.widgets import TokenView

Kind = Literal["heatmap", "compare", "change", "answers", "metrics", "slopes", "cost", "tradeoff", "attacks"]
FEW = 6  # answers, where none is named
CHARTS = ("metrics", "slopes", "cost", "tradeoff", "attacks")
OF_RUNS = ("change", "answers", *CHARTS)

FigureFile = Annotated[Path | None, option("FILE.svg", "the same as a figure: .svg, .pdf, .png or, of text, .tex")]


def check_figure(file: Path | None, *, text: bool = True) -> None:
    """Raise UserError where a figure cannot have this name or be written there, before anything is computed."""
    if file is None:
        return
    from workbench.files import writable
    from workbench.view.figures import check_format

    check_format(file.suffix, text=text)
    writable(file)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options that say what is drawn, and how."""

    show: Annotated[Kind, typer.Option(help="heatmap and compare show scores; the others need a run")] = "heatmap"
    answer: Annotated[
        list[str] | None, option("N|ID", "an answer, by its number from 1 or its id; may be repeated")
    ] = None
    scorer: Annotated[str | None, option("A,B", "the scorer, or the scorers to compare")] = None
    step: Annotated[int | None, option("N", "for a run: the newest scores up to this step; default: the last")] = None
    threshold: Annotated[str | None, option("X|none", "underline scores of at least X; default: as in the view")] = None
    by: ColourBy = "value"
    words: Annotated[bool, flag("--words", "show words; each has the mean score of its tokens")] = False
    probe_set: Annotated[str, option("SET", "for change and answers: the probe set")] = "forget"
    title: Annotated[str, option("TEXT", "a heading")] = ""

    def limit(self) -> float | None:
        """The threshold that is asked for; None for no line."""
        if self.threshold in (None, "none"):
            return None
        try:
            return float(self.threshold)
        except ValueError:
            raise UserError(f"--threshold takes a number or none, not '{self.threshold}'") from None

    def of(self, ids: list[Any]) -> list[Any] | None:
        """The ids that --answer names by number or id; None for none named."""
        chosen = []
        for name in self.answer or ():
            if name not in map(str, ids) and name.isdecimal():
                if not 1 <= int(name) <= len(ids):
                    raise UserError(f"--answer {name}: the answers are numbered 1 to {len(ids)}")
                chosen.append(ids[int(name) - 1])
            else:
                chosen.append(next((known for known in ids if str(known) == name), name))
        return chosen or None


@command
def figure(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="a run directory, or a score table")],
    out: Annotated[Path, option("FILE", ".svg, .pdf, .png or, for highlighted text, .tex")],
    choices: Choices,
    width: Annotated[str, option("WIDTH", "such as 8cm, 80mm, 3.3in or 240pt")] = "16cm",
) -> dict[str, Any]:
    """Save a heatmap, comparison or chart as a figure for a paper.

    The figure shows what the view in a notebook shows, with real text.
    """
    with uninterrupted():
        from workbench.runs import RunDirectory, is_run
        from workbench.view.figures import check_format
    check_figure(out, text=choices.show not in CHARTS)
    check_format(out.suffix, width)
    choices.limit()  # what is no number ends the command here
    if is_run(source):
        drawn = _of_run(RunDirectory(source), choices)
    elif choices.show in OF_RUNS:
        raise UserError(f"--show {choices.show} needs a run directory, and {source} is not one")
    else:
        drawn = _of_scores(source, choices)
    drawn.save(out, width)
    say(out)
    return {"figure": str(out), "show": choices.show, "width": width}


def _of_scores(source: Path, choices: Choices) -> Savable:
    """The heatmap of a score table, or its scorers side by side."""
    from workbench.scorers import read_scores
    from workbench.view.widgets import TokenView

    table = read_scores(source)
    return _compared(table, (), choices) if choices.show == "compare" else _heatmap(TokenView(table, ()), choices)


def _compared(table: pd.DataFrame, samples: Samples, choices: Choices) -> Savable:
    """The scorers of a table side by side."""
    from workbench.view.figures import compare_figure

    scorers = choices.scorer.split(",") if choices.scorer else None
    ids = choices.of(list(dict.fromkeys(table["sample_id"])))
    return compare_figure(table, samples, scorers=scorers, order=ids, by=choices.by, title=choices.title)


def _heatmap(view: TokenView, choices: Choices) -> Savable:
    """The view that a notebook shows, at these choices."""
    layers = {layer["name"]: layer for layer in view.head["layers"]}
    if choices.scorer and choices.scorer not in layers:
        if "," in choices.scorer:
            raise UserError("a heatmap shows one scorer; --show compare shows several side by side")
        raise unknown("scorer", choices.scorer, list(layers))
    view.title, view.unit, view.by = choices.title, "word" if choices.words else "token", choices.by
    if choices.scorer:
        view.scorer, view.threshold = choices.scorer, layers[choices.scorer]["threshold"]
    if choices.step is not None:
        view.step = choices.step
    if choices.threshold is not None:
        view.threshold = choices.limit()
    ids = [sample["id"] for sample in view.head["samples"]]
    return view.figure(choices.of(ids) or ids[:FEW])


def _of_run(run: RunDirectory, choices: Choices) -> Savable:
    """What a run's directory holds, as the notebook's views show it."""
    from workbench.view.figures import answers_figure, change_figure
    from workbench.view.html import as_scores, texts_of
    from workbench.view.widgets import TokenView

    if choices.show == "heatmap":
        return _heatmap(TokenView.of_run(run), choices)
    probes, tokens = run.table("probes.parquet"), run.table("tokens.parquet")
    if choices.show == "compare":
        return _compared(as_scores(run), {} if probes is None else texts_of(probes, "forget"), choices)
    if choices.show not in ("change", "answers"):
        return _chart(run, choices.show, probes)
    if probes is None or (choices.show == "change" and tokens is None):
        raise _not_probed(run)
    ids = list(dict.fromkeys(probes[probes["probe_set"] == choices.probe_set]["sample_id"]))
    chosen: dict[str, Any] = {"probe_set": choices.probe_set, "sample_ids": choices.of(ids), "title": choices.title}
    return answers_figure(probes, **chosen) if choices.show == "answers" else change_figure(tokens, probes, **chosen)


def _not_probed(run: RunDirectory) -> UserError:
    return UserError(f"{run.path} has not been probed yet; see `workbench runs show {run.path}`")


def _chart(run: RunDirectory, show: str, probes: pd.DataFrame | None) -> Savable:
    """A chart of one run."""
    from workbench.runs import attacks_of
    from workbench.view import charts

    if show == "metrics":
        return charts.metrics_chart(run.curve())
    if show == "attacks":
        return charts.attacks_chart(attacks_of(run.path))
    if show == "slopes":
        if probes is None:
            raise _not_probed(run)
        return charts.slope_chart(probes)
    if show == "cost":
        return charts.cost_chart({run.name: run.json("cost.json") or {}})
    return charts.tradeoff_chart({run.name: run.json("metrics.json") or {}})
