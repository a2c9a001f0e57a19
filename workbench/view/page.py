"""What a run did, as plain HTML strings: per-token change, answers, metrics, costs, and the page around them."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.registry import UserError
from workbench.tasks import spread
from workbench.view.html import bool_spans, pieces, showing, text_row, token_mark, token_title
from workbench.view.text import NOT_AVAILABLE, Samples, Scale, frame, number, plain, style_sheet, visible

# Change of each token ----------------------------------------------------------------------------------------------


def changes(tokens: pd.DataFrame) -> pd.DataFrame:
    """Token table with both phases -> one row a token: p_before, p_after, change, rank_*, switched, alternatives.

    `change` is the probability after minus before; `switched` says that the token was the model's first choice before
    (rank 0) and no longer is.

    Raises:
        UserError: where one of the two phases is missing.
    """
    phases = {p: part for p, part in tokens.groupby("phase", sort=False)}
    if not {"before", "after"} <= set(phases):
        raise UserError(f"the token table has phases {sorted(map(str, phases))}; give one with 'before' and 'after'")
    key = ["probe_set", "sample_id", "position"]
    after = phases["after"][[*key, "logp", "rank", "alternatives"]]
    table = phases["before"].drop(columns=["alternatives"]).merge(after, on=key, suffixes=("_before", "_after"))
    p_before, p_after = np.exp(table["logp_before"].astype(float)), np.exp(table["logp_after"].astype(float))
    switched = (table["rank_before"] == 0) & (table["rank_after"] > 0)
    return table.assign(p_before=p_before, p_after=p_after, change=p_after - p_before, switched=switched)


def _changed_row(tokens: pd.DataFrame, answer: str | None) -> str:
    scale, out = Scale(-1.0, 1.0), []
    rows = tokens.to_dict("records")
    for i, gap, text, raw in pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        r = rows[i]
        ranks = f"rank {r['rank_before'] + 1:.0f} → {r['rank_after'] + 1:.0f}"
        lines = [
            f"probability {number(r['p_before'])} → {number(r['p_after'])} · {ranks}",
            _alternatives(r["alternatives"]),
        ]
        title = "&#10;".join([token_title(raw, i, len(rows), r.get("span")), *filter(None, lines)])
        missing = not math.isfinite(r["change"])
        out.append(
            token_mark(text, title, scale.level(r["change"]), bool(r["switched"]), r.get("span") is True, "", missing)
        )
    return "".join(out)


def _alternatives(text: Any) -> str:
    pairs = json.loads(text) if isinstance(text, str) and text else []
    return "now: " + " ".join(f"“{plain(str(t))}” {number(float(p))}" for t, p in pairs) if pairs else ""


def _change_bar(table: pd.DataFrame, name: str) -> str:
    finite = table[np.isfinite(table["change"])]
    mean = number(finite["change"].mean()) if len(finite) else NOT_AVAILABLE
    first = int((table["rank_before"] == 0).sum())
    return (
        f'<div class="wb-bar"><span><b>{plain(name)}</b></span> {Scale(-1.0, 1.0).legend(None, "lost ", " gained")}'
        f" <span>mean change in probability <b>{mean}</b></span> "
        f'<span class="wb-last"><b>{int(table["switched"].sum())}</b> of {first} first choices changed</span></div>'
    )


def change_view(
    tokens: pd.DataFrame, samples: Samples, *, title: str | None = None, max_samples: int = 12, css: bool = True
) -> str:
    """What a run did to each answer token: blue lost probability, orange gained; underlined where it was the model's
    first choice and no longer is.

    Args:
        tokens: a run's token table, phases "before" and "after"; each probe set has a bar of its own.
        samples: sample id -> (question, answer).
        title: a heading.
        max_samples: at most so many samples of each probe set are drawn.
        css: bring the style sheet along.

    Raises:
        UserError: where one of the two phases is missing.
    """  # noqa: D205
    body, table = [], bool_spans(changes(tokens))
    for name, part in table.groupby("probe_set", sort=False):
        groups = list(part.sort_values("position", kind="stable").groupby("sample_id", sort=False))
        order = list(dict.fromkeys(part["sample_id"]))
        by_id = dict(groups)
        body.append(_change_bar(part, str(name)))
        for sample in spread(order, max_samples):
            question, answer = samples.get(sample, ("", None))
            body.append(text_row(question, _changed_row(by_id[sample], answer), f"sample {sample}"))
        if len(order) > max_samples:
            body.append(f'<div class="wb-foot">{showing(max_samples, len(order))}</div>')
    guide = (
        "Blue: the token lost probability; orange: it gained. Underlined: it was the model's first choice and no "
        "longer is. Hover a token for before, after and what the model now prefers."
    )
    foot = f'<div class="wb-foot">{guide}</div>'
    return frame("".join(body) + foot, title=title, attributes='class="wb wb-c"', css=css)


# Answers ------------------------------------------------------------------------------------------------------------


def word_diff(before: str, after: str) -> tuple[str, str]:
    """Both texts as HTML, words that went marked `<del>` in the first and words that came `<ins>` in the second."""
    old, new = (re.findall(r"\s*\S+|\s+$", text) for text in (before, after))
    matcher = difflib.SequenceMatcher(None, [w.strip() for w in old], [w.strip() for w in new], autojunk=False)
    left, right = [], []
    for kind, a, b, c, d in matcher.get_opcodes():
        gone, come = "".join(old[a:b]), "".join(new[c:d])
        left.append(visible(gone) if kind == "equal" else _lined("del", gone))
        right.append(visible(come) if kind == "equal" else _lined("ins", come))
    return "".join(left), "".join(right)


def _lined(tag: str, text: str) -> str:
    """`text` in `tag`, the space before it left outside."""
    words = text.lstrip()
    return visible(text[: len(text) - len(words)]) + (f"<{tag}>{visible(words)}</{tag}>" if words else "")


def _answer(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    reference = _pair("reference", visible(str(before["answer"])), "wb-ref")
    old, new = _generation(before), _generation(after)
    said = [None if t is None else visible(t) for t in (old, new)]
    if old is not None and new is not None:
        said = list(word_diff(old, new))
    same = old is not None and old == new
    lines = [reference]
    for phase, text in (("before, after", said[0]),) if same else zip(("before", "after"), said, strict=True):
        lines.append(_pair(phase, f'<span class="wb-none">{NOT_AVAILABLE}</span>' if text is None else text or "∅"))
    asked = before["prompt"] if isinstance(before["prompt"], str) else ""
    ask = f'<div class="wb-q" dir="auto">{visible(" ".join(asked.split()))}</div>' if asked else ""
    return f'<div class="wb-row">{ask}{"".join(lines)}</div>'


def _generation(row: Mapping[str, Any] | None) -> str | None:
    text = None if row is None else row.get("generation")
    return text if isinstance(text, str) else None


def _pair(label: str, text: str, name: str = "") -> str:
    extra = f' class="{name}"' if name else ""
    return f'<div class="wb-pair"><span>{label}</span><div dir="auto"{extra}>{text}</div></div>'


def answers_view(probes: pd.DataFrame, *, title: str | None = None, max_samples: int = 4, css: bool = True) -> str:
    """What the model answered before and after: words that went are struck, words that came are underlined.

    Args:
        probes: a probe table, phases "before" and "after".
        title: a heading.
        max_samples: at most so many answers of each probe set.
        css: bring the style sheet along.
    """
    body = []
    for name, part in probes.groupby("probe_set", sort=False):
        rows = {
            phase: dict(zip(p["sample_id"], p.to_dict("records"), strict=True)) for phase, p in part.groupby("phase")
        }
        first = rows.get("before") or rows["after"]
        shown = spread(list(first), max_samples)
        text = f"showing {len(shown)} of {len(first)} answers" if len(shown) < len(first) else f"{len(first)} answers"
        body.append(f'<div class="wb-bar wb-set"><span><b>{plain(str(name))}</b></span><span>{text}</span></div>')
        body += [_answer(first[i], rows.get("after", {}).get(i)) for i in shown]
    return frame("".join(body), title=title, css=css)


# Tables -------------------------------------------------------------------------------------------------------------


def value_of(entry: Any) -> tuple[float | None, str]:
    """(value, reason) of a metric as stored: a number, or {"value": number or None, "reason": why}."""
    reason = ""
    if isinstance(entry, Mapping):
        entry, reason = entry.get("value"), str(entry.get("reason", ""))
    if entry is None or not math.isfinite(entry):
        return None, reason or "no finite value"
    return float(entry), ""


def label(name: str) -> str:
    """A column or metric name for people."""
    return plain(str(name).replace("_", " "))


def _none(reason: str) -> str:
    return f'<span class="wb-none" title="{plain(reason)}">{NOT_AVAILABLE}</span>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, last: str = "") -> str:
    """A table of ready HTML cells; `last` is the class of the last row."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = []
    for i, (first, *rest) in enumerate(rows):
        extra = f' class="{last}"' if last and i == len(rows) - 1 else ""
        lines.append(f'<tr{extra}><th scope="row">{first}</th>{"".join(f"<td>{c}</td>" for c in rest)}</tr>')
    return f'<div class="wb-scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def metrics_view(
    metrics: Mapping[str, Any],
    directions: Mapping[str, Mapping[str, str]] | None = None,
    *,
    title: str | None = None,
    css: bool = True,
) -> str:
    """Every metric of every probe set, before → after; what has no value says "not available", and why below.

    Args:
        metrics: `metrics.json`: phase -> probe set -> metric -> number or {"value": None, "reason": why}.
        directions: metric -> {"direction": "higher" | "lower" | ..., "description": str}; higher means that the model
            knows the set better.
        title: a heading.
        css: bring the style sheet along.
    """
    before, after, directions = metrics.get("before", {}), metrics.get("after", {}), directions or {}
    sets = list(dict.fromkeys([*before, *after]))
    names = list(dict.fromkeys(m for phase in (before, after) for s in phase.values() for m in s))
    reasons: dict[str, list[str]] = {}
    rows = []
    for name in names:
        known = directions.get(name, {})
        arrow = {"higher": " ↑", "lower": " ↓"}.get(known.get("direction", ""), "")
        cells = [f'<span title="{plain(known.get("description", ""))}">{label(name)}{arrow}</span>']
        for s in sets:
            cells.append(_before_after(before.get(s, {}).get(name), after.get(s, {}).get(name), bool(after)))
            for reason in {value_of(p[s][name])[1] for p in (before, after) if name in p.get(s, {})} - {""}:
                reasons.setdefault(f"{label(name)} {NOT_AVAILABLE}: {plain(reason)}", []).append(plain(s))
        rows.append(cells)
    notes = [f"{why} ({', '.join(dict.fromkeys(where))})." for why, where in reasons.items()]
    if any(d.get("direction") in {"higher", "lower"} for d in directions.values()):
        notes.insert(0, "↑ higher, ↓ lower: the model knows the set better.")
    foot = f'<div class="wb-foot">{"<br>".join(notes)}</div>' if notes else ""
    return frame(table(["metric", *map(label, sets)], rows) + foot, title=title, css=css)


def _before_after(before: Any, after: Any, both: bool) -> str:
    (old, why), (new, why_after) = value_of(before), value_of(after)
    if not both:
        return _none(why) if old is None else number(old)
    if old is None and new is None:
        return _none(why_after or why)
    shown = [_none(w) if v is None else number(v) for v, w in ((old, why), (new, why_after))]
    return f"<small>{shown[0]} →</small> {shown[1]}"


def alignment_table(alignment: Mapping[str, Mapping[str, Any]], *, title: str | None = None, css: bool = True) -> str:
    """How well each scorer finds the labelled spans, best first; the bar is the AUROC, 0.5 is chance."""

    def key(item: tuple[str, Mapping[str, Any]]) -> float:
        value = value_of(item[1].get("auroc"))[0]
        return -1.0 if value is None else value

    rows = []
    for name, values in sorted(alignment.items(), key=key, reverse=True):
        cells = [plain(name)]
        for column in ("auroc", "auroc_per_sample", "ap", "precision_at_budget"):
            value, reason = value_of(values.get(column))
            meter = f'<span class="wb-meter"><i style="width:{100 * (value or 0):.0f}%"></i></span>' * (
                column == "auroc"
            )
            cells.append(_none(reason) if value is None else number(value) + meter)
        rows.append(cells)
    note = (
        "AUROC: how often a token inside a labelled span scores above one outside; 0.5 is chance. "
        "Precision: of the tokens that score highest (a fifth, unless said otherwise), the share inside a span."
    )
    head = ["scorer", "AUROC", "per answer", "average precision", "precision"]
    return frame(table(head, rows) + f'<div class="wb-foot">{note}</div>', title=title, css=css)


def large(value: float | None, unit: str = "") -> str:
    """A large count with a metric prefix: 3.1 T."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def cost_table(cost: Mapping[str, Any], *, title: str | None = None, css: bool = True) -> str:
    """Tokens, floating-point operations, seconds and calls by phase, and the peak memory where it was measured."""
    phases, total = cost.get("phases", {}), cost.get("total")
    rows = []
    for name, part in [*phases.items(), *([("total", total)] if total else [])]:
        seconds = part.get("seconds")
        took = NOT_AVAILABLE if seconds is None else f"{number(seconds, 1)} s"
        rows.append(
            [label(name), large(part.get("tokens")), large(part.get("flops"), "FLOP"), took, large(part.get("calls"))]
        )
    memory = cost.get("peak_memory_bytes")
    peak = NOT_AVAILABLE if memory is None else f"{memory / 2**20:,.0f} MiB"
    note = "Operations are matrix products, a multiply-add counting 2. "
    foot = f'<div class="wb-foot">{note}Peak memory: <b>{peak}</b></div>'
    body = table(["phase", "tokens", "operations", "time", "calls"], rows, last="wb-sum" if total else "")
    return frame(body + foot, title=title, css=css)


# Page ---------------------------------------------------------------------------------------------------------------

TOGGLE = (
    "<script>document.querySelector('.wb-theme').onclick=()=>{const r=document.documentElement,"
    "d=r.dataset.theme||(matchMedia('(prefers-color-scheme:dark)').matches?'dark':'light');"
    "r.dataset.theme=d==='dark'?'light':'dark'}</script>"
)


def page(title: str, body: str, *, subtitle: str = "") -> str:
    """A whole HTML document that asks nothing of anyone; its one script switches between light and dark."""
    sub = f'<p class="wb-sub">{plain(subtitle)}</p>' if subtitle else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{plain(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,">{style_sheet()}{style_sheet("page")}</head>'
        '<body class="wb-page"><main><header>'
        f'<button class="wb-theme" type="button">light / dark</button><h1>{plain(title)}</h1>{sub}</header>\n'
        f"{body}\n</main>{TOGGLE}</body></html>\n"
    )
