"""Answers before and after a run, as HTML: texts with their differences, and the change of each token."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from workbench.errors import UserError
from workbench.tasks import spread
from workbench.view.html.highlight import pieces, token_mark, token_title
from workbench.view.html.inputs import Probes, Samples, as_probes, as_texts
from workbench.view.html.layers import bool_spans
from workbench.view.html.render import Html, render
from workbench.view.html.scale import Scale
from workbench.view.html.text import alternatives, number, quoted, visible


def changes(tokens: pd.DataFrame) -> pd.DataFrame:
    """Token table with both phases -> one row a token: p_before, p_after, change, rank_*, switched, alternatives.

    `change` is the probability after minus before; `switched` says that the token was the model's first choice before
    (rank 0) and no longer is.

    Raises:
        UserError: where one of the two phases is missing.
    """
    phases = dict(list(tokens.groupby("phase", sort=False)))
    if not {"before", "after"} <= set(phases):
        raise UserError(f"the token table has phases {sorted(map(str, phases))}; give one with 'before' and 'after'")
    key = ["probe_set", "sample_id", "position"]
    after = phases["after"].reindex(columns=[*key, "logp", "rank", "alternatives"])
    table = (
        phases["before"]
        .drop(columns=["alternatives"], errors="ignore")
        .merge(after, on=key, suffixes=("_before", "_after"))
    )
    p_before, p_after = np.exp(table["logp_before"].astype(float)), np.exp(table["logp_after"].astype(float))
    ranks = {name: table[name].astype(float) for name in ("rank_before", "rank_after")}
    switched = (ranks["rank_before"] == 0) & (ranks["rank_after"] > 0)
    return table.assign(**ranks, p_before=p_before, p_after=p_after, change=p_after - p_before, switched=switched)


def _changed_row(tokens: pd.DataFrame, answer: str | None) -> Markup:
    scale = Scale(-1.0, 1.0)
    out: list[str] = []
    rows = tokens.to_dict("records")
    for i, gap, text, raw in pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        r = rows[i]
        places = (r["rank_before"], r["rank_after"])
        ranks = "rank " + " → ".join(f"{rank + 1:.0f}" if rank >= 0 else "not available" for rank in places)
        title = [
            token_title(raw, i, len(rows), r["span"]),
            f"probability {number(r['p_before'])} → {number(r['p_after'])} · {ranks}",
        ]
        if pairs := alternatives(r["alternatives"]):
            title.append(f"now: {quoted(pairs)}")
        missing = not math.isfinite(r["change"])
        level, switched = scale.level(r["change"]), bool(r["switched"])
        out.append(token_mark(text, title, level, switched, r["span"] is True, missing=missing))
    return Markup("".join(out))


def changed_answer(tokens: pd.DataFrame, answer: str) -> Markup:
    """One answer's tokens coloured by their change in probability; `tokens` has the phases "before" and "after"."""
    return _changed_row(bool_spans(changes(tokens)), answer)


def drawn_changes(tokens: pd.DataFrame, samples: Samples, *, max_samples: int = 12) -> list[tuple[str, Any, list[int]]]:
    """(set, sample id, positions of the tokens) of each answer that `change_view` draws, in its order."""
    texts, out = as_texts(samples), []
    for name, part in tokens[tokens["phase"] == "before"].groupby("probe_set", sort=False):
        by_id = dict(list(part.sort_values("position", kind="stable").groupby("sample_id", sort=False)))
        for sample in spread(list(dict.fromkeys(part["sample_id"])), max_samples):
            drawn = pieces(by_id[sample], texts.get(sample, ("", None))[1])
            places = by_id[sample]["position"].tolist()
            out.append((str(name), sample, [int(places[i]) for i, *_ in drawn if i >= 0]))
    return out


def change_view(
    tokens: Probes, samples: Samples = None, *, title: str | None = None, max_samples: int = 12, css: bool = True
) -> Html:
    """What a run did to each answer token: blue lost probability, orange gained; underlined where it was the model's
    first choice and no longer is.

    Args:
        tokens: a run, its token table, or what `probe` returned before and after; each probe set has a bar of its own.
        samples: a task, its samples, or sample id -> (question, answer); a missing one is drawn from its tokens.
        title: a heading.
        max_samples: at most so many samples of each probe set are drawn.
        css: include the style sheet.

    Raises:
        UserError: where one of the two phases is missing.
    """  # noqa: D205
    table, texts = bool_spans(changes(as_probes(tokens, "tokens.parquet"))), as_texts(samples)
    sets = []
    for name, part in table.groupby("probe_set", sort=False):
        by_id = dict(list(part.sort_values("position", kind="stable").groupby("sample_id", sort=False)))
        ids = list(dict.fromkeys(part["sample_id"]))
        rows = []
        for sample in spread(ids, max_samples):
            question, answer = texts.get(sample, ("", None))
            rows.append((question, _changed_row(by_id[sample], answer), f"sample {sample}"))
        known = part["change"][np.isfinite(part["change"])]
        counts = {"switched": int(part["switched"].sum()), "first": int((part["rank_before"] == 0).sum())}
        mean = known.mean() if len(known) else None
        sets.append({"name": name, "rows": rows, "total": len(ids), "mean": mean, **counts})
    legend = Scale(-1.0, 1.0).legend(None, "lost ", " gained")
    labelled = bool(table["span"].eq(True).any())
    return render("before_after.change", sets=sets, legend=legend, labelled=labelled, title=title, css=css)


def diff_pieces(before: str, after: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Both texts in pieces (kind, text): "del" is only in the first, "ins" only in the second, "" in both.

    What is in both is a longest common subsequence of their words.
    """
    texts = [re.findall(r"\s*\S+|\s+$", text) for text in (before, after)]
    pairs = common_words(*([word.strip() for word in words] for words in texts))
    sides: list[list[tuple[str, str]]] = []
    for words, kind, kept in zip(texts, ("del", "ins"), zip(*pairs, strict=True) if pairs else ((), ()), strict=True):
        own, side = set(kept), list[tuple[str, str]]()
        for in_both, places in groupby(range(len(words)), own.__contains__):
            text = "".join(words[place] for place in places)
            bare = text.lstrip()
            if in_both or not bare:
                side.append(("", text))
            else:  # the space before it stays as it is
                side += [("", text[: len(text) - len(bare)]), (kind, bare)]
        sides.append([piece for piece in side if piece[1]])
    return sides[0], sides[1]


def common_words(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The places (in `old`, in `new`) of a longest common subsequence, in order; of several, words that stay together.

    A row of the usual table is the bits of one number (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"):
    two texts of 4,000 words take hundredths of a second, and a bit a pair of words.
    """
    places: dict[str, int] = {}
    for j, word in enumerate(new):
        places[word] = places.get(word, 0) | 1 << j
    whole = (1 << len(new)) - 1
    rows = [whole]  # bit j is 0 where the subsequence grows by word j
    for word in old:
        row, matches = rows[-1], rows[-1] & places.get(word, 0)
        rows.append(((row + matches) | (row - matches)) & whole)
    pairs, i, j = list[tuple[int, int]](), len(old), len(new)
    while i and j:
        if old[i - 1] == new[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif rows[i] >> (j - 1) & 1:
            j -= 1
        else:
            i -= 1
    return pairs[::-1]


def word_diff(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts as HTML: words only in the first are marked `<del>`, words only in the second `<ins>`."""
    left, right = (
        Markup().join(Markup(f"<{tag}>{visible(text)}</{tag}>") if tag else visible(text) for tag, text in side)
        for side in diff_pieces(before, after)
    )
    return left, right


def answer_lines(reference: str, before: str | None, after: str | None) -> list[tuple[str, Markup | None]]:
    """(label, HTML or None where nothing was generated) of the reference and the two generations, with word diff."""
    texts = [None if text is None else visible(text) for text in (before, after)]
    if before is not None and after is not None:
        texts = list(word_diff(before, after))
    if before == after:
        return [("reference", visible(reference)), ("before, after", texts[0])]
    return [("reference", visible(reference)), ("before", texts[0]), ("after", texts[1])]


def _answer(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    texts = [row.get("generation") for row in (before, after)]
    old, new = (text if isinstance(text, str) else None for text in texts)
    question = before["prompt"] if isinstance(before["prompt"], str) else ""
    return {"question": question, "lines": answer_lines(str(before["answer"]), old, new)}


def answers_view(probes: Probes, *, title: str | None = None, max_samples: int = 4, css: bool = True) -> Html:
    """The model's answers before and after: words that are gone are struck, new words are underlined.

    `probes` is a run, its probe table, or what `probe` returned before and after; at most `max_samples` answers of each
    probe set are drawn.
    """
    sets = []
    for name, part in as_probes(probes).groupby("probe_set", sort=False):
        phases = {p: dict(zip(x["sample_id"], x.to_dict("records"), strict=True)) for p, x in part.groupby("phase")}
        first = phases.get("before") or phases["after"]
        rows = [_answer(first[i], phases.get("after", {}).get(i, {})) for i in spread(list(first), max_samples)]
        sets.append({"name": name, "rows": rows, "total": len(first)})
    return render("before_after.answers", sets=sets, title=title, css=css)
