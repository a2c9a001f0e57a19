"""Answers before and after a run: texts with their differences, and the change of each token."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError
from workbench.tasks import spread
from workbench.view.html.highlight import bool_spans, pieces, showing, text_row, token_mark, token_title
from workbench.view.html.markup import NOT_AVAILABLE, Samples, frame, number, plain, visible
from workbench.view.html.scale import Scale


def texts_of(probes: pd.DataFrame, probe_set: str) -> dict[Any, tuple[str, str]]:
    """Question and answer by sample id, of one set of a probe table; ids are unique within a set only."""
    rows = probes[probes["probe_set"] == probe_set].drop_duplicates("sample_id")
    asked = [prompt if isinstance(prompt, str) else "" for prompt in rows["prompt"]]
    return dict(zip(rows["sample_id"], zip(asked, rows["answer"], strict=True), strict=True))


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
