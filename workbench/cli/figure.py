"""The command that saves a heatmap, a comparison or a chart for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.cli.console import say
from workbench.cli.options import ColourBy, command, flag, option
from workbench.errors import UserError, unknown
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.runs import RunDirectory
    from workbench.view.figures import Savable
    from workbench.view.html import By
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


@command
def figure(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="a run directory, or a score table")],
    out: Annotated[Path, option("FILE", ".svg, .pdf, .png or, for highlighted text, .tex")],
    show: Annotated[Kind, typer.Option(help="heatmap and compare show scores; the others need a run")] = "heatmap",
    answer: Annotated[list[str], option("N|ID", "an answer, by its number from 1 or its id; may be repeated")] = [],  # noqa: B006
    scorer: Annotated[str | None, option("A,B", "the scorer, or the scorers to compare")] = None,
    step: Annotated[int | None, option("N", "for a run: the newest scores up to this step; default: the last")] = None,
    threshold: Annotated[
        str | None, option("X|none", "underline scores of at least X; default: as in the view")
    ] = None,
    by: ColourBy = "value",
    words: Annotated[bool, flag("--words", "show words; each has the mean score of its tokens")] = False,
    probe_set: Annotated[str, option("SET", "for change and answers: the probe set")] = "forget",
    title: Annotated[str, option("TEXT", "a heading")] = "",
    width: Annotated[str, option("WIDTH", "such as 8cm, 80mm, 3.3in or 240pt")] = "16cm",
) -> dict[str, Any]:
    """Save a heatmap, comparison or chart as a figure for a paper.

    The figure shows what the view in a notebook shows, with real text.
    """
    with uninterrupted():
        from workbench.runs import is_run
        from workbench.view.figures import check_format
    check_figure(out, text=show not in CHARTS)
    check_format(out.suffix, width)
    limit = _threshold(threshold)
    if is_run(source):
        from workbench.runs import RunDirectory

        drawn = _of_run(RunDirectory(source), show, answer, scorer, step, limit, by, words, probe_set, title)
    elif show in OF_RUNS:
        raise UserError(f"--show {show} needs a run directory, and {source} is not one")
    else:
        drawn = _of_scores(source, show, answer, scorer, step, limit, by, words, title)
    drawn.save(out, width)
    say(out)
    return {"figure": str(out), "show": show, "width": width}


def _threshold(text: str | None) -> float | str | None:
    """The threshold that is asked for; "default" for the view's own, None for none."""
    if text is None or text == "none":
        return "default" if text is None else None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--threshold takes a number or none, not '{text}'") from None


def _chosen(answers: list[str], ids: list[Any]) -> list[Any] | None:
    """The ids that answers name by number or id; None for none named."""
    chosen = []
    for name in answers:
        if name not in map(str, ids) and name.isdecimal():
            if not 1 <= int(name) <= len(ids):
                raise UserError(f"--answer {name}: the answers are numbered 1 to {len(ids)}")
            chosen.append(ids[int(name) - 1])
        else:
            chosen.append(next((known for known in ids if str(known) == name), name))
    return chosen or None


def _of_scores(
    source: Path, show: str, answers: list[str], scorer: str | None, step: int | None, threshold: Any, by: By,
    words: bool, title: str, samples: Any = (),
) -> Savable:  # fmt: skip
    """The heatmap of a score table, or its scorers side by side."""
    from workbench.scorers import read_scores
    from workbench.view.figures import compare_figure
    from workbench.view.widgets import TokenView

    table = read_scores(source)
    if show == "compare":
        ids = _chosen(answers, list(dict.fromkeys(table["sample_id"])))
        return compare_figure(
            table, samples, scorers=scorer.split(",") if scorer else None, order=ids, by=by, title=title
        )
    return _heatmap(TokenView(table, samples), answers, scorer, step, threshold, by, words, title)


def _heatmap(
    view: TokenView,
    answers: list[str],
    scorer: str | None,
    step: int | None,
    threshold: Any,
    by: By,
    words: bool,
    title: str,
) -> Savable:
    """The view that a notebook shows, at these choices."""
    names = [layer["name"] for layer in view.head["layers"]]
    if scorer and scorer not in names:
        if "," in scorer:
            raise UserError("a heatmap shows one scorer; --show compare shows several side by side")
        raise unknown("scorer", scorer, names)
    view.title, view.unit = title, "word" if words else "token"
    if scorer:
        view.scorer = scorer
        view.threshold = next(layer["threshold"] for layer in view.head["layers"] if layer["name"] == scorer)
    view.by = by
    if step is not None:
        view.step = step
    if threshold != "default":
        view.threshold = threshold
    ids = _chosen(answers, [sample["id"] for sample in view.head["samples"]])
    return view.figure(ids or [sample["id"] for sample in view.head["samples"][:FEW]])


def _of_run(
    run: RunDirectory, show: str, answers: list[str], scorer: str | None, step: int | None, threshold: Any,
    by: By, words: bool, probe_set: str, title: str,
) -> Savable:  # fmt: skip
    """What a run's directory holds, as the notebook's views show it."""
    from workbench.view.figures import answers_figure, change_figure
    from workbench.view.html import texts_of
    from workbench.view.widgets import TokenView

    if show == "heatmap":
        return _heatmap(TokenView.of_run(run), answers, scorer, step, threshold, by, words, title)
    probes, tokens, scores = (run.table(f"{name}.parquet") for name in ("probes", "tokens", "scores"))
    if show == "compare":
        if scores is None:
            raise UserError(f"{run.path} has recorded no scores yet; runs do so at the first checkpoint and at the end")
        texts = {} if probes is None else texts_of(probes, "forget")
        return _of_scores(run.path / "scores.parquet", show, answers, scorer, step, threshold, by, words, title, texts)
    if show in ("change", "answers"):
        if probes is None or (show == "change" and tokens is None):
            raise UserError(f"{run.path} has not been probed yet; see `workbench runs show {run.path}`")
        ids = list(dict.fromkeys(probes[probes["probe_set"] == probe_set]["sample_id"]))
        chosen: dict[str, Any] = {"probe_set": probe_set, "sample_ids": _chosen(answers, ids), "title": title}
        return change_figure(tokens, probes, **chosen) if show == "change" else answers_figure(probes, **chosen)
    return _chart(run, show)


def _chart(run: RunDirectory, show: str) -> Savable:
    """A chart of one run."""
    from workbench.runs import attacks_of
    from workbench.view import charts

    if show == "metrics":
        return charts.metrics_chart(run.curve())
    if show == "attacks":
        return charts.attacks_chart(attacks_of(run.path))
    if show == "slopes":
        probes = run.table("probes.parquet")
        if probes is None:
            raise UserError(f"{run.path} has not been probed yet; see `workbench runs show {run.path}`")
        return charts.slope_chart(probes)
    if show == "cost":
        return charts.cost_chart({run.name: run.json("cost.json") or {}})
    return charts.tradeoff_chart({run.name: run.json("metrics.json") or {}})
