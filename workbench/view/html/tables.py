"""Numbers as tables of plain HTML: metrics, suites, alignment and costs, each with its definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view.html.definitions import Definitions, definitions_list, heading, reach
from workbench.view.html.layout import grid, label, missing_cell, row, table, value_of
from workbench.view.html.line_chart import line_chart_svg
from workbench.view.html.markup import NOT_AVAILABLE, frame, number, plain, style_sheet

# Metrics ------------------------------------------------------------------------------------------------------------

ANY_SET = ("truth_ratio", "fluency")  # higher is better on the forget set too


def metrics_view(
    metrics: Mapping[str, Any],
    definitions: Definitions | None = None,
    *,
    title: str | None = None,
    css: bool = True,
) -> str:
    """Every metric of every probe set, before → after; what has no value says "not available", and why below.

    Args:
        metrics: `metrics.json`: phase -> probe set -> metric -> number or {"value": None, "reason": why}.
        definitions: metric -> its facts, as `workbench.report.definitions` gives them.
        title: a heading.
        css: bring the style sheet along.
    """
    before, after, known = metrics.get("before", {}), metrics.get("after", {}), definitions or {}
    sets = list(dict.fromkeys([*before, *after]))
    names = list(dict.fromkeys(m for phase in (before, after) for s in phase.values() for m in s))
    reasons: dict[str, list[str]] = {}
    rows = []
    for name in names:
        cells = [heading(name, known.get(name, {}))]
        for s in sets:
            cells.append(_before_after(before.get(s, {}).get(name), after.get(s, {}).get(name), bool(after)))
            for reason in {value_of(p[s][name])[1] for p in (before, after) if name in p.get(s, {})} - {""}:
                reasons.setdefault(f"{label(name)} {NOT_AVAILABLE}: {plain(reason)}", []).append(plain(s))
        rows.append(cells)
    notes = [f"{why} ({', '.join(dict.fromkeys(where))})." for why, where in reasons.items()]
    if any(known.get(name, {}).get("direction") for name in names):
        notes.insert(0, _guide([name for name in names if name in ANY_SET and name in known]))
    foot = f'<div class="wb-foot">{"<br>".join(notes)}</div>' if notes else ""
    body = table(["metric", *map(label, sets)], rows) + foot + definitions_list(names, known)
    return frame(body, title=title, css=css)


def _guide(exceptions: Sequence[str]) -> str:
    """What the arrows say of metrics of sets."""
    text = "↑ higher, ↓ lower: better on sets to keep; on the forget set it is the other way round"
    return f"{text}, but not for {' and '.join(map(label, exceptions))}." if exceptions else f"{text}."


def _before_after(before: Any, after: Any, both: bool) -> str:
    (old, why), (new, why_after) = value_of(before), value_of(after)
    if not both:
        return missing_cell(why) if old is None else number(old)
    if old is None and new is None:
        return missing_cell(why_after or why)
    shown = [missing_cell(w) if v is None else number(v) for v, w in ((old, why), (new, why_after))]
    return f"<small>{shown[0]} →</small> {shown[1]}"


# Suites -------------------------------------------------------------------------------------------------------------

CURVES = ("fact_accuracy", "probability", "rouge_l_recall", "exact_memorization")  # the first two there are drawn
ROWS = {"rest": "not trained on", "all": "all"}


def summary_view(
    result: Mapping[str, Any], definitions: Definitions | None = None, *, title: str | None = None, css: bool = True
) -> str:
    """What a benchmark's suite says: each metric with its parts, or why it has no value, and the relearning curve.

    Args:
        result: RUN/suites/<suite>.json: `suite`, `summary`, `parts`; and `curve`, `reference`, `convention`, `general`
            where there are.
        definitions: metric -> its facts, as `workbench.report.definitions(summary)` gives them.
        title: a heading; the suite's name by default.
        css: bring the style sheet along.
    """
    suite = str(result.get("suite", "suite"))
    drawn = [_summary(result, definitions or {}, suite if title is None else title)] if result.get("summary") else []
    if result.get("curve"):
        drawn.append(_curve(result["curve"], f"{suite}, relearning"))
    if result.get("general"):
        drawn.append(_general(result["general"]))
    if not drawn:
        drawn = [frame('<div class="wb-foot">This suite has no summaries.</div>', title=title or suite, css=False)]
    return (style_sheet() if css else "") + "".join(drawn)


def _summary(result: Mapping[str, Any], known: Definitions, title: str) -> str:
    values, parts, lines = result["summary"], result.get("parts") or {}, []
    for name, entry in values.items():
        (value, reason), facts = value_of(entry), known.get(name, {})
        shown = missing_cell(reason) if value is None else f"<b>{number(value)}</b>"
        cells = [shown, reach(facts), plain(facts.get("split", ""))]
        lines.append(row(heading(name, facts, ranged=False), cells))
        below = [f"<p>{plain(reason)}</p>"] if value is None else []
        below += [f"<span>{label(part)} <b>{_part(found)}</b></span>" for part, found in parts.get(name, {}).items()]
        if below:
            lines.append(f'<tr class="wb-parts"><td colspan="4"><div>{"".join(below)}</div></td></tr>')
    notes = ["↑ higher, ↓ lower, → near the number: better after unlearning. Small: what a value is made of."]
    if result.get("reference"):
        notes.append(f"Compared with {plain(str(result['reference']))}.")
    if result.get("convention", "ours") != "ours":
        convention = plain(str(result["convention"]))
        notes.append(f"Computed by the convention of {convention}; the definitions say where it differs.")
    foot = f'<div class="wb-foot">{"<br>".join(notes)}</div>'
    body = grid(["metric", "value", "range", "sets"], lines) + foot + definitions_list(values, known)
    return frame(body, title=title, attributes='class="wb wb-sums"', css=False)


def _part(found: Any) -> str:
    """A part of a summary: a number, how many there are of several, or that there is none."""
    if isinstance(found, Mapping) and "value" in found:
        value, reason = value_of(found)
        return f"{NOT_AVAILABLE}: {plain(reason)}" if value is None else number(value)
    if isinstance(found, Mapping | list):
        return f"{len(found):,} values"
    if isinstance(found, int):
        return f"{found:,}"
    return number(found) if found is None or isinstance(found, float) else plain(str(found))


def _curve(curve: Sequence[Mapping[str, Any]], title: str) -> str:
    """How the metrics come back: a chart of two metrics at most, and every number in a table that folds."""
    names = [n for n in dict.fromkeys(n for point in curve for n in point) if n not in ("step", "rows")]
    names = [n for n in names if any(_finite(point.get(n)) for point in curve)]
    charts = ([n for n in CURVES if n in names] or names)[:2]
    body = ""
    for name in charts:
        series: dict[str, list[tuple[float, float]]] = {}
        for point in curve:
            if _finite(point.get(name)):
                series.setdefault(_rows(point), []).append((point["step"], point[name]))
        body += line_chart_svg(series, title=f"{title}: {name.replace('_', ' ')}", height=200, css=False)
    head = ["step", "forget rows", *map(label, names)]
    numbers = [[str(p["step"]), plain(_rows(p)), *(number(p.get(n)) for n in names)] for p in curve]
    note = (
        "The model is trained again on part of the forget set. What comes back on the rows it is not trained on was "
        "hidden, not gone, as far as they tell other facts."
    )
    kept = f'<details class="wb-defs"><summary>Every number</summary>{table(head, numbers)}</details>'
    return body + frame(f'<div class="wb-foot">{note}</div>{kept}', css=False)


def _rows(point: Mapping[str, Any]) -> str:
    """Which forget rows a point of the curve is about."""
    rows = str(point.get("rows", "all"))
    return ROWS.get(rows, rows)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _general(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What the evaluation harness found."""
    rows = [
        [f"{label(task)} <small>{plain(key)}</small>", number(value)]
        for task, values in found.items()
        for key, value in values.items()
        if _finite(value)
    ]
    return frame(table(["task of the evaluation harness", "value"], rows), title="General abilities", css=False)


# Alignment ----------------------------------------------------------------------------------------------------------

ALIGNMENT: dict[str, dict[str, str]] = {
    "auroc": {
        "direction": "higher",
        "range": "0 to 1, chance 0.5",
        "formula": "P(score inside a span > score outside) + P(equal) / 2, over all answer tokens",
        "source": "area under the ROC curve, scikit-learn",
    },
    "auroc_per_sample": {
        "direction": "higher",
        "range": "0 to 1, chance 0.5",
        "formula": "mean of the AUROC of each answer that has tokens inside a span and outside",
        "source": "ours",
    },
    "ap": {
        "direction": "higher",
        "range": "0 to 1, chance: labelled share",
        "formula": "sum over thresholds n of (recall_n - recall_n-1) * precision_n, over all answer tokens",
        "source": "average precision, scikit-learn",
    },
    "precision_at_budget": {
        "direction": "higher",
        "range": "0 to 1, chance: labelled share",
        "formula": "of the k = ceil(budget T) highest of all T tokens, the share inside a span; the budget is a fifth "
        "unless said otherwise, ties are broken at random",
        "source": "ours",
    },
}
COLUMNS = {
    "auroc": "AUROC",
    "auroc_per_sample": "AUROC per answer",
    "ap": "average precision",
    "precision_at_budget": "precision",
}


def alignment_table(alignment: Mapping[str, Mapping[str, Any]], *, title: str | None = None, css: bool = True) -> str:
    """How well each scorer finds the labelled spans, best first; the bar is the AUROC, 0.5 is chance."""

    def key(item: tuple[str, Mapping[str, Any]]) -> float:
        value = value_of(item[1].get("auroc"))[0]
        return -1.0 if value is None else value

    rows, reasons = [], dict[str, list[str]]()
    for name, values in sorted(alignment.items(), key=key, reverse=True):
        cells = [plain(name)]
        for column in COLUMNS:
            value, reason = value_of(values.get(column))
            if value is None:
                reasons.setdefault(reason, []).append(plain(name))
            meter = f'<span class="wb-meter"><i style="width:{100 * (value or 0):.0f}%"></i></span>' * (
                column == "auroc"
            )
            cells.append(missing_cell(reason) if value is None else number(value) + meter)
        rows.append(cells)
    note = (
        "↑ higher: the scores find the labels better. AUROC: how often a token inside a labelled span scores above one "
        "outside; 0.5 is chance. Precision: of the tokens that score highest (a fifth, unless said otherwise), the "
        "share inside a span; chance is the share of all tokens that is labelled."
    )
    head = ["scorer", *(heading(name, ALIGNMENT[name], shown=text) for name, text in COLUMNS.items())]
    notes = [note, *(f"{NOT_AVAILABLE}: {plain(r)} ({', '.join(dict.fromkeys(of))})." for r, of in reasons.items())]
    foot = f'<div class="wb-foot">{"<br>".join(notes)}</div>'
    body = table(head, rows) + foot + definitions_list(COLUMNS, ALIGNMENT, COLUMNS)
    return frame(body, title=title, attributes='class="wb wb-heads"', css=css)


# Costs --------------------------------------------------------------------------------------------------------------


def large(value: float | None, unit: str = "") -> str:
    """A large count with a metric prefix: 3.1 T."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def memory_of(size: int | None) -> str:
    """Bytes in MiB; 0 is what a system says that does not tell."""
    return f"{size / 2**20:,.0f} MiB" if size else NOT_AVAILABLE


def cost_table(cost: Mapping[str, Any], *, title: str | None = None, css: bool = True) -> str:
    """Tokens, floating-point operations, seconds and calls by phase, and the peak memory where it was measured."""
    phases, total = cost.get("phases", {}), cost.get("total")
    rows = []
    for name, part in [*phases.items(), *([("total", total)] if total else [])]:
        seconds = part.get("seconds")
        took = NOT_AVAILABLE if seconds is None else f"{number(seconds, 1)} s"
        counts = [large(part.get("tokens")), large(part.get("flops"), "FLOP"), took, large(part.get("calls"))]
        rows.append([label(name), *counts, memory_of(part.get("peak_bytes"))])
    memory = cost.get("peak_memory_bytes")
    peak = memory_of(memory)
    note = "Operations are matrix products, a multiply-add counting 2. "
    foot = f'<div class="wb-foot">{note}Peak memory: <b>{peak}</b></div>'
    body = table(
        ["phase", "tokens", "operations", "time", "calls", "most memory"], rows, last="wb-sum" if total else ""
    )
    return frame(body + foot, title=title, css=css)
