"""Numbers as tables of HTML: metrics, suites, alignment and costs, each with its definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from markupsafe import Markup

from workbench.errors import is_missing
from workbench.evals import made_of
from workbench.view.html.definitions import Definitions, definitions, stated
from workbench.view.html.inputs import as_cost, as_metrics
from workbench.view.html.line_chart import line_chart_svg
from workbench.view.html.render import Html, render, style_sheet
from workbench.view.html.text import NOT_AVAILABLE, label, large, number, value_of
from workbench.view.run_source import RunSource

# Metrics ------------------------------------------------------------------------------------------------------------

ANY_SET = ("truth_ratio", "fluency")  # higher is better on the forget set too


def wanted(probe_set: str, metric: str) -> str:
    """Which end of a metric is wanted of a set: "higher", "lower", or "" where neither is."""
    better = definitions().get(metric, {}).get("direction", "")
    if probe_set == "forget" and metric not in ANY_SET:
        better = {"higher": "lower", "lower": "higher"}.get(better, better)
    return better if better in ("higher", "lower") else ""


def axis_title(probe_set: str, metric: str) -> str:
    """The title of an axis: set, metric, and which end is better."""
    better = wanted(probe_set, metric)
    return f"{probe_set}: {label(metric)}{f' ({better} is better)' if better else ''}"


def metrics_view(
    metrics: Mapping[str, Any] | RunSource | Sequence[Any],
    definitions: Definitions | None = None,
    *,
    title: str | None = None,
    css: bool = True,
) -> Html:
    """Every metric of every probe set, before → after; "not available" where there is no value, with the reason below.

    `metrics` are a run, what `probe` returned before and after, or the content of `metrics.json`: phase -> probe set ->
    metric -> number or {"value": None, "reason": why}. `definitions` are what `view.html.definitions` gives.
    """
    metrics = as_metrics(metrics)
    phases, known = [metrics.get(phase, {}) for phase in ("before", "after")], definitions or {}
    sets = list(dict.fromkeys(s for phase in phases for s in phase))
    names = list(dict.fromkeys(m for phase in phases for s in phase.values() for m in s))
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for name, s, phase in product(names, sets, phases):
        if name in phase.get(s, {}) and (reason := value_of(phase[s][name])[1]):
            reasons.setdefault((name, reason), {})[s] = None
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}  # a line for all that lack a value for one reason
    for (name, reason), where in reasons.items():
        alike.setdefault((reason, tuple(where)), []).append(label(name))
    directed = any(known.get(name, {}).get("direction") for name in names)
    exceptions = [label(name) for name in names if name in ANY_SET and name in known]
    parts = {"sets": sets, "names": names, "known": known, "reasons": alike}
    guide = {"directed": directed, "exceptions": exceptions}
    return render("tables.metrics", before=phases[0], after=phases[1], **parts, **guide, title=title, css=css)


# Suites -------------------------------------------------------------------------------------------------------------

CURVES = ("fact_accuracy", "probability", "rouge_l_recall", "exact_memorization")  # the first two there are drawn
ROWS = {"rest": "not trained on", "all": "all"}


def summary_view(
    result: Mapping[str, Any], definitions: Definitions | None = None, *, title: str | None = None, css: bool = True
) -> Markup:
    """A benchmark suite's metrics, each with its parts or the reason why it has no value, and the relearning curve.

    `result` is RUN/suites/<suite>.json: `suite`, `summary`, `parts`; and `curve`, `reference`, `convention`, `general`
    where there are. `definitions` are what `view.html.definitions(summary)` gives; the title is the suite's name by
    default.
    """
    suite = str(result.get("suite", "suite"))
    drawn = Markup()
    if values := result.get("summary"):
        parts = {
            name: {part: _part(entry) for part, entry in entries.items()}
            for name, entries in (result.get("parts") or {}).items()
        }
        origin = {"reference": result.get("reference"), "convention": result.get("convention", "ours")}
        heading = suite if title is None else title
        drawn += render("tables.summary", values=values, parts=parts, known=definitions or {}, title=heading, **origin)
    if result.get("curve"):
        drawn += _curve(result["curve"], f"{suite}, relearning")
    if general := result.get("general"):
        rows = [(task, key, value) for task, keys in general.items() for key, value in keys.items() if _finite(value)]
        drawn += render("tables.general", rows=rows)
    drawn = drawn or render("tables.no_summary", title=title or suite)
    return style_sheet() + drawn if css else drawn


def _part(entry: Any) -> str:
    """A part of a summary: a number, how many values there are of several, or why there is none."""
    if is_missing(entry):
        return f"{NOT_AVAILABLE}: {entry['reason']}"
    if isinstance(entry, Mapping | list):
        return f"{len(entry):,} values"
    if isinstance(entry, int):
        return f"{entry:,}"
    return number(entry) if entry is None or isinstance(entry, float) else str(entry)


def _curve(curve: Sequence[Mapping[str, Any]], title: str) -> Markup:
    """How the metrics come back: a chart of at most two metrics, and every number in a table that folds."""
    names = [n for n in dict.fromkeys(n for point in curve for n in point) if n not in ("step", "rows")]
    names = [n for n in names if any(_finite(point.get(n)) for point in curve)]
    body = Markup()
    for name in ([n for n in CURVES if n in names] or names)[:2]:
        series: dict[str, list[tuple[float, float]]] = {}
        for point in curve:
            if _finite(point.get(name)):
                series.setdefault(_rows(point), []).append((point["step"], point[name]))
        body += line_chart_svg(series, title=f"{title}: {label(name)}", height=200, css=False)
    numbers = [[p["step"], _rows(p), *(number(p.get(n)) for n in names)] for p in curve]
    return body + render("tables.curve", head=["step", "forget rows", *map(label, names)], rows=numbers)


def _rows(point: Mapping[str, Any]) -> str:
    """Which forget rows a point of the curve is about."""
    rows = str(point.get("rows", "all"))
    return ROWS.get(rows, rows)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# Alignment ----------------------------------------------------------------------------------------------------------

ALIGNMENT = {
    "auroc": stated(
        "P(score inside a span > score outside) + P(equal) / 2, over all answer tokens",
        "0 to 1, chance 0.5",
        "area under the ROC curve, scikit-learn",
    ),
    "auroc_per_sample": stated(
        "mean of the AUROC of each answer that has tokens inside a span and outside", "0 to 1, chance 0.5"
    ),
    "ap": stated(
        "sum over thresholds n of (recall_n - recall_n-1) * precision_n, over all answer tokens",
        "0 to 1, chance: labelled share",
        "average precision, scikit-learn",
    ),
    "precision_at_budget": stated(
        "of the k = ceil(budget T) highest of all T tokens, the share inside a span; the budget is a fifth by default, "
        "ties are broken at random",
        "0 to 1, chance: labelled share",
    ),
}
COLUMNS = {
    "auroc": "AUROC",
    "auroc_per_sample": "AUROC per answer",
    "ap": "average precision",
    "precision_at_budget": "precision",
}


def alignment_table(
    alignment: Mapping[str, Mapping[str, Any]], *, title: str | None = None, css: bool = True
) -> Markup:
    """How well each scorer finds the labelled spans, best first, over how much; the bar is the AUROC, 0.5 is chance."""
    scorers = {name: {c: value_of(values.get(c)) for c in COLUMNS} for name, values in alignment.items()}
    order = sorted(scorers, key=lambda name: scorers[name]["auroc"][0] or -1.0, reverse=True)
    reasons: dict[str, dict[str, None]] = {}
    for name in order:
        for value, reason in scorers[name].values():
            if value is None:
                reasons.setdefault(reason, {})[name] = None
    rows = [(name, scorers[name]) for name in order]
    counts = made_of({name: values for name, values in alignment.items() if "answers" in values})
    shown = {"names": COLUMNS, "counts": counts, "known": ALIGNMENT, "reasons": reasons}
    return render("tables.alignment", rows=rows, **shown, title=title, css=css)


# Costs --------------------------------------------------------------------------------------------------------------


def cost_table(cost: Mapping[str, Any] | Any, *, title: str | None = None, css: bool = True) -> Html:
    """Tokens, floating-point operations, seconds and calls by phase, each phase's share of the operations as a bar.

    With the peak memory where it was measured.

    `cost` is the content of `cost.json`, a run's directory, or what `unlearn` returned.
    """
    cost = as_cost(cost)
    phases, total = cost.get("phases", {}), cost.get("total")
    rows, whole = [], sum(part.get("flops") or 0.0 for part in phases.values())
    for name, part in [*phases.items(), *([("total", total)] if total else [])]:
        seconds = part.get("seconds")
        time = NOT_AVAILABLE if seconds is None else f"{number(seconds, 1)} s"
        counts = [large(part.get("tokens")), large(part.get("flops"), "FLOP"), time, large(part.get("calls"))]
        share = None if not whole or part is total else (part.get("flops") or 0.0) / whole
        rows.append([label(name), *counts, _memory(part.get("peak_bytes")), share])
    peak, last = _memory(cost.get("peak_memory_bytes")), "wb-sum" if total else ""
    return render("tables.cost", rows=rows, last=last, peak=peak, title=title, css=css)


def _memory(size: int | None) -> str:
    """Bytes in MiB; a system that does not measure memory reports 0."""
    return f"{size / 2**20:,.0f} MiB" if size else NOT_AVAILABLE
