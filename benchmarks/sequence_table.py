"""The tables of `sequence.py`: mean and range over the orders, and ways beside each other."""

from __future__ import annotations

from statistics import mean
from typing import Any

WAYS = ("one at a time", "all at once", "rehearsed", "carried")  # the last two are one at a time, too
BOTH = WAYS[:2]
COLUMNS = {  # the figures of a way: by name, what it is
    "forget": "fact accuracy of all 16 people at the end",
    "retain": "of people to keep",
    "neighbours": "of people who share values with those to forget, in no training batch",
    "erosion": "what is lost of retain and neighbours, their mean",
    "reversal": "what comes back of a request until the last one",
    "probability_back": "the same, of the mean probability of the answers",
    "spill_over": "what a request's people change before they are asked",
    "reached": "share of the runs that came to the level",
    "steps": "training steps",
    "gflops": "of training, probes left out",
}


def cells_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and range over the seeds, a cell an objective, weights and way."""
    cells = []
    for key in dict.fromkeys((r["objective"], r["weights"], r["way"]) for r in rows):
        part = [r for r in rows if (r["objective"], r["weights"], r["way"]) == key]
        values = {name: [each[name] for each in part if name in each] for name in COLUMNS}
        spread = {n: {"mean": mean(v), "low": min(v), "high": max(v)} for n, v in values.items() if v}
        cells.append(dict(zip(("objective", "weights", "way"), key, strict=True)) | {"seeds": len(part)} | spread)
    return cells


def table(cells: list[dict[str, Any]]) -> str:
    """The first two ways beside each other as a table of Markdown; * is where not every run came to the level."""
    head = ["objective", "weights", "orders"]
    head += [f"{what} {arrow}: {way}" for what, arrow in (("forget", "↓"), ("lost", "↓")) for way in BOTH]
    head += ["comes back", "in probability", "before their turn", *(f"GFLOPs: {way}" for way in BOTH)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for objective, weights in dict.fromkeys((c["objective"], c["weights"]) for c in cells):
        both = {c["way"]: c for c in cells if (c["objective"], c["weights"]) == (objective, weights)}
        if not {*BOTH} <= {*both}:
            continue
        ways = [both[way] for way in BOTH]
        row = [f"`{objective}`", weights, str(min(way["seeds"] for way in ways))]
        row += [shown(way["forget"], 2) + "*" * (way["reached"]["mean"] < 1) for way in ways]
        row += [shown(way["erosion"], 2) for way in ways]
        row += [shown(ways[0].get(name), 2) for name in ("reversal", "probability_back", "spill_over")]
        row += [f"{way['gflops']['mean']:.0f}" for way in ways]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def shown(value: dict[str, float] | None, digits: int) -> str:
    """A mean with its range, without the zero before the point."""
    if value is None:
        return ""
    texts = [f"{round(value[key], digits) + 0.0:.{digits}f}" for key in ("mean", "low", "high")]  # no zero below zero
    texts = [("\N{MINUS SIGN}" if t[0] == "-" else "") + (t.lstrip("-").removeprefix("0") or "0") for t in texts]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def options_table(cells: list[dict[str, Any]]) -> str:
    """A row for each way of going one at a time, of the objectives and weights that have several."""
    head = ["objective", "weights", "way", "orders", "left ↓", "lost ↓", "comes back", "in probability"]
    head += ["before their turn", "steps", "GFLOPs"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    in_order = [c for c in cells if c["way"] != WAYS[1]]
    named = [(c["objective"], c["weights"]) for c in in_order]
    for cell in (c for c, name in zip(in_order, named, strict=True) if named.count(name) > 1):
        row = [f"`{cell['objective']}`", cell["weights"], cell["way"], str(cell["seeds"])]
        row += [shown(cell["forget"], 2) + "*" * (cell["reached"]["mean"] < 1)]
        row += [shown(cell[name], 2) for name in ("erosion", "reversal", "probability_back", "spill_over")]
        row += [f"{cell[name]['mean']:.0f}" for name in ("steps", "gflops")]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) if len(lines) > 2 else ""
