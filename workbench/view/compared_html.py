"""Runs side by side as HTML: the trade-off as a plot, what differs as tables, and the same answers under each run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from workbench.view.compared_runs import (
    ComparedRun,
    SharedAnswer,
    differing_settings,
    measured,
    plotted_metric,
    shared_answers,
)
from workbench.view.html import (
    axis_title,
    large,
    number,
    placing,
    render,
    style_sheet,
    ticks,
    value_of,
    visible,
    wanted,
    weights_source,
    word_diff,
)
from workbench.view.sections import Section, sections_page

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 340, 60, 26, 26, 52
COSTS = {"seconds": ("seconds", lambda v: f"{v:,.1f}"), "flops": ("operations", lambda v: large(v, "FLOP"))}


def compared_page(runs: Sequence[ComparedRun], *, metric: str | None = None, max_samples: int = 12) -> str:
    """A whole page of a comparison.

    The `metric` of the plot is by default fact accuracy where the runs have it; of each probe set at most `max_samples`
    answers are shown.

    Raises:
        UserError: a metric that no run has.
    """
    sections = compared_sections(runs, metric=metric, max_samples=max_samples)
    names = ", ".join(run.name for run in runs)
    return sections_page("Runs compared", sections, intro=style_sheet("compared"), subtitle=names)


def compared_sections(runs: Sequence[ComparedRun], *, metric: str | None, max_samples: int) -> list[Section]:
    """The parts of a comparison with what each is for."""
    answers, total = shared_answers(runs, max_samples)
    sections = [
        Section("Which runs", "Each run has a letter, which the plot and the tables use.", _runs(runs)),
        Section("Forgetting against damage", "One point for each run; click it for the answers.", _plot(runs, metric)),
        Section("The same answers", "What each model says now; underlined: words that it did not say before.",
                _answers(runs, answers, total)),
        Section("Metrics", "Before → after; bold: the best of the runs.", _metrics(runs)),
        Section("What they cost", "Measured during the runs.", _costs(runs)),
        Section("Settings that differ", "All others are the same.", _settings(runs)),
    ]  # fmt: skip
    return [section for section in sections if section.body]


def _runs(runs: Sequence[ComparedRun]) -> Markup:
    rows = []
    for place, run in enumerate(runs):
        what = [str(run.config[key]) for key in ("objective",) if key in run.config]
        what += [f"weights by {weights_source(str(run.config['weights']))}"] if "weights" in run.config else []
        steps = run.config.get("settings", {}).get("steps")
        what += [f"{steps} steps"] if steps is not None else []
        rows.append({"run": run, "place": place % 8, "what": ", ".join(what)})
    return render("compared.runs", rows=rows)


# The plot -----------------------------------------------------------------------------------------------------------


def _plot(runs: Sequence[ComparedRun], metric: str | None) -> Markup:
    metric = plotted_metric(runs, metric)
    if metric is None:
        return render("compared.no_plot")
    points: list[tuple[int, ComparedRun, Any]] = []  # with forget and retain before, then after
    absent = []
    for place, run in enumerate(runs):
        pairs = [run.value(phase, s, metric) for phase in ("before", "after") for s in ("forget", "retain")]
        if reasons := [reason for value, reason in pairs[2:] if value is None]:
            absent.append((run.letter, run.problems[0] if run.problems else reasons[0]))
            continue
        points.append((place, run, tuple(value for value, _ in pairs)))
    values = [[v for _, _, ends in points for v in ends[axis::2] if v is not None] for axis in (0, 1)]
    marks = [ticks(min(0.0, *v) if min(v) < 0.5 else min(v), max(v)) if v else [0.0, 1.0] for v in values]
    across = placing(marks[0][0], marks[0][-1], LEFT, WIDTH - RIGHT)
    up = placing(marks[1][0], marks[1][-1], HEIGHT - BOTTOM, TOP)
    drawn = []
    for place, run, (x0, y0, x, y) in points:
        start = None if x0 is None or y0 is None else (across(x0), up(y0))
        about = f"{run.letter}, {run.name}: forget {number(x)}, retain {number(y)}"
        drawn.append({"place": place, "run": run, "start": start, "x": across(x), "y": up(y), "about": about})
    _apart(drawn)
    return render(
        "compared.plot", points=drawn, absent=absent, size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        x_ticks=[(across(x), f"{x:g}") for x in marks[0]], y_ticks=[(up(y), f"{y:g}") for y in marks[1]],
        axes=[axis_title(name, metric) for name in ("forget", "retain")], target=_anchor(runs),
    )  # fmt: skip


def _apart(points: list[dict[str, Any]]) -> None:
    """Give each point the place of its letter, below those of points that lie on it."""
    for i, point in enumerate(points):
        near = sum(abs(o["x"] - point["x"]) < 16 and abs(o["y"] - point["y"]) < 12 for o in points[:i])
        right = point["x"] + 10 + 13 * near < WIDTH - 12
        point["letter"] = (point["x"] + (11 + 13 * near if right else -11 - 13 * near), point["y"] + 4)
        point["side"] = "start" if right else "end"


def _anchor(runs: Sequence[ComparedRun]) -> str:
    """The answers' id on a page: the same for the same runs."""
    return "wb-answers-" + hashlib.sha256("\n".join(run.name for run in runs).encode(errors="replace")).hexdigest()[:12]


# Tables and answers -------------------------------------------------------------------------------------------------


def _metrics(runs: Sequence[ComparedRun]) -> Markup:
    rows = []
    for probe_set, metric in measured(runs):
        after = [run.value("after", probe_set, metric) for run in runs]
        known = [value for value, _ in after if value is not None]
        if not known:
            continue
        best = {"higher": max(known), "lower": min(known)}.get(wanted(probe_set, metric))
        cells = [
            {"before": run.value("before", probe_set, metric)[0], "after": value, "why": why,
             "best": value is not None and value == best and len(set(known)) > 1}
            for run, (value, why) in zip(runs, after, strict=True)
        ]  # fmt: skip
        rows.append({"set": probe_set, "metric": metric, "wanted": wanted(probe_set, metric), "cells": cells})
    return render("compared.metrics", runs=runs, rows=rows) if rows else Markup()


def _costs(runs: Sequence[ComparedRun]) -> Markup:
    rows = []
    for key, (name, written) in COSTS.items():
        values = [value_of(run.cost.get("total", {}).get(key))[0] for run in runs]
        rows.append((name, [None if value is None else written(value) for value in values]))
    peaks = [run.cost.get("peak_memory_bytes") for run in runs]
    rows.append(("peak memory", [f"{peak / 2**20:,.0f} MiB" if peak else None for peak in peaks]))
    rows = [(name, cells) for name, cells in rows if any(cells)]
    return render("compared.table", runs=runs, rows=rows) if rows else Markup()


def _settings(runs: Sequence[ComparedRun]) -> Markup:
    rows = [
        (name, [None if v is None else str(v) for v in values]) for name, values in differing_settings(runs).items()
    ]
    return render("compared.table", runs=runs, rows=rows) if rows else Markup()


def _answers(runs: Sequence[ComparedRun], answers: Sequence[SharedAnswer], total: int) -> Markup:
    if not answers:
        return render("compared.no_answers", target=_anchor(runs))
    rows = []
    for answer in answers:
        shared = answer.shared_before
        lines: list[tuple[str, str | None, Markup | None]] = [("", "reference", visible(answer.reference))]
        lines += [("", "before", visible(shared))] if shared is not None else []
        for run in runs:
            if run.letter in answer.after:
                before, after = answer.before.get(run.letter), answer.after[run.letter]
                if before is not None and shared is None:
                    lines.append((run.letter, "before", visible(before)))
                text = None if after is None else word_diff(before or "", after)[1] if before else visible(after)
                lines.append((run.letter, None, text))
        rows.append({"set": answer.probe_set, "question": answer.question, "lines": lines})
    named = {run.letter: run.name for run in runs}
    return render("compared.answers", rows=rows, names=named, total=total, target=_anchor(runs))
