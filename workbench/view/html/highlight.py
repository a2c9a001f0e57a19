"""Highlighted text as HTML: answers coloured by their token scores.

Pure functions from tables to strings: no model, no notebook, no script. Colour is the alpha of one hue over the host's
background, written inline so that it survives where a style sheet is stripped; lines, numbers and titles say the same.

The spans of tokens are put together here and not in a template, as there may be tens of thousands of them: every text
goes through `plain` or `visible`, which escape it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from workbench.tasks import spread
from workbench.view.html.inputs import Samples, as_scores, as_texts
from workbench.view.html.layers import Layer, by_sample, layers_of
from workbench.view.html.render import render
from workbench.view.html.scale import LEVELS, colour
from workbench.view.html.text import number, plain, visible

END = Markup('<i class="wb-x"> ∎</i>')
HATCH = "repeating-linear-gradient(135deg,rgba(128,128,128,.22) 0 2px,transparent 2px 6px)"


def _switch_css(count: int) -> Markup:
    """Rules that recolour the same text for the scorer whose radio input is checked."""
    on = [f".wb:has(.wb-r{i}:checked)" for i in range(count)]
    rules = ["".join((",".join(f"{s} .wb-b{i}" for i, s in enumerate(on)), "{display:flex}"))]
    for level in (*range(-LEVELS, 0), *range(1, LEVELS + 1)):
        where = ",".join(f'{s} [data-w~="{_word(i, level)}"]' for i, s in enumerate(on))
        rules.append(f"{where}{{background-color:{colour(level)}!important}}")
    chosen = ",".join(f'{s} [data-w~="{i}!"]' for i, s in enumerate(on))
    missing = ",".join(f'{s} [data-w~="{i}?"]' for i, s in enumerate(on))
    rules.append(f".wb-m .wb-a :is({chosen}){{box-shadow:inset 0 -2px 0 var(--wb-acc)}}")
    rules.append(f"{missing}{{background-image:{HATCH}}}")
    return Markup(f"<style>{''.join(rules)}</style>")


def _word(index: int, level: int) -> str:
    return f"{index}{chr((96 if level > 0 else 64) + abs(level))}"


def token_mark(
    text: Markup, title: Sequence[str], level: int, underline: bool, span: bool, words: str = "", missing: bool = False
) -> str:
    """One token: text with a title, coloured inline, `<u>` where it is selected, a dotted line above in a span."""
    tag = "u" if underline else "span"
    names = " ".join(n for n, yes in (("wb-s", span), ("wb-na", missing)) if yes)
    attributes = [f'class="{names}"'] if names else []
    attributes += [f'data-w="{words}"'] if words else []
    attributes.append(f'title="{"&#10;".join(map(plain, title))}"')
    attributes += [f'style="background-color:{colour(level)}"'] if level else []
    return f"<{tag} {' '.join(attributes)}>{text}</{tag}>"


def cuts(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, str, str]]:
    """(row number, text before it that no token covers, its text) for every token that is drawn.

    Zero-width byte pieces are left out; the end token has no text, and a rest that no token covers is row -1.
    """
    done = 0
    for i, (start, end, text) in enumerate(zip(tokens["start"], tokens["end"], tokens["token"], strict=True)):
        start, end = max(int(start), done), int(end)
        if end > start and answer is None:
            yield i, "", str(text)
        elif end > start and answer is not None:
            yield i, answer[done:start], answer[start:end]
            done = end
        elif i == len(tokens) - 1 and (answer is None or done == len(answer)):
            yield i, "", ""
    if answer is not None and done < len(answer):
        yield -1, answer[done:], ""


def pieces(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, Markup, Markup, str]]:
    """The same as (row number, HTML before it, its HTML, its text), the end token as a small mark."""
    for i, gap, text in cuts(tokens, answer):
        if i >= 0 and not text:
            yield i, visible(gap), END, "end of the answer"
        else:
            yield i, visible(gap), visible(text), text


def scored_row(
    tokens: pd.DataFrame, layers: list[Layer], first: int, answer: str | None, switch: bool = False
) -> Markup:
    """The answer of one sample, each token coloured for layer `first` and, with `switch`, marked for the others."""
    values = [layer.scores.reindex(tokens.index).to_numpy(dtype=float) for layer in layers]
    spans = tokens["span"].tolist()
    out: list[str] = []
    for i, gap, text, raw in pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        words: list[str] = []
        lines: dict[str, str] = {}  # by scorer, its first and its last step in one
        for j, layer in enumerate(layers):
            value = values[j][i]
            level = layer.scale.level(value) if layer.scale else 0
            selected = layer.selects(value)
            words += [_word(j, level)] * bool(level) + [f"{j}!"] * selected + [f"{j}?"] * math.isnan(value)
            score = f"{number(value)}{' ✓' if selected else ''}"
            lines[layer.scorer] = f"{lines[layer.scorer]} → {score}" if layer.scorer in lines else score
            if j == first:
                shown = level, selected, not math.isfinite(value)
        title = [token_title(raw, i, len(tokens), spans[i]), *(f"{name} {score}" for name, score in lines.items())]
        marks = " ".join(words) if switch else ""
        out.append(token_mark(text, title, shown[0], shown[1], spans[i] is True, marks, shown[2] and not switch))
    return Markup("".join(out))


def token_title(text: str, place: int, count: int, span: Any) -> str:
    """First line of a token's title: text, place, whether in a labelled span; not yet escaped."""
    where = "" if span is None or pd.isna(span) else f" · {'in' if span else 'not in'} a labelled span"
    return f"“{text}” · token {place + 1} of {count}{where}"


def token_view(
    scores: pd.DataFrame,
    samples: Samples,
    *,
    scorer: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    title: str | None = None,
    max_samples: int = 24,
    alignment: Mapping[str, Any] | None = None,
    css: bool = True,
) -> Markup:
    """Answers as highlighted text, with a switch between the table's scorers that needs no script.

    Each scorer has a scale of its own: 0..1 where all its scores are in that range, -m..m with blue below zero where
    some are negative, else min..max. Prompt tokens are not drawn. A scorer with several steps shows its first and last.

    Args:
        scores: a score table (one row a token and scorer), or its file.
        samples: a task, its samples, or sample id -> (question, answer); a missing one is drawn from its tokens.
        scorer: the one shown first; the first of the table by default.
        threshold: scores at or above it are underlined; one number, or one a scorer. By default as many tokens as
            are labelled, or the highest fifth where no spans are known; the bar says which.
        title: a heading above the bar.
        max_samples: at most so many samples are drawn, spread evenly; the numbers in the bar cover all.
        alignment: scorer -> {"auroc": ...} as `workbench align` gives it.
        css: include the style sheet.

    Raises:
        UserError: for an empty table or an unknown scorer.
    """
    texts = as_texts(samples)
    tokens, layers, first = layers_of(as_scores(scores), scorer, threshold, alignment)
    ids = list(dict.fromkeys(tokens.index.get_level_values("sample_id")))
    scored = set(layers[first].scores.index.get_level_values("sample_id"))
    groups, several = by_sample(tokens), len(layers) > 1
    rows = []
    for sample in spread([i for i in ids if i in scored] or ids, max_samples):
        question, answer = texts.get(sample, ("", None))
        rows.append((question, scored_row(groups[sample], layers, first, answer, several), f"sample {sample}"))
    return render(
        "scores.token_view",
        layers=layers,
        first=first,
        rows=rows,
        total=len(ids),
        spans=tokens["span"],
        labelled=bool(tokens["span"].notna().any()),
        switch_css=_switch_css(len(layers)) if several else "",
        title=title,
        css=css,
    )
