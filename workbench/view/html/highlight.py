"""Highlighted text as HTML: answers coloured by their token scores.

Pure functions from tables to strings: no model, no notebook, no script. Colour is the alpha of one hue over the host's
background, written inline so that it survives where a style sheet is stripped; lines, numbers and titles say the same.

The spans of tokens are put together here and not in a template, as there may be tens of thousands of them: every text
goes through `plain` or `visible`, which escape it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup

from workbench.tasks import spread
from workbench.view.html.inputs import Samples, as_scores, as_texts
from workbench.view.html.layers import Layer, by_sample, layers_of
from workbench.view.html.render import Html, render
from workbench.view.html.scale import BY, HATCH, LEVELS, By, Scale, check_by, colour, letter
from workbench.view.html.text import number, plain, visible

END = Markup('<i class="wb-x"> ∎</i>')
SPACES = " \u00a0\u2002\u2003\u2009\u202f\u3000"  # that show as nothing, unlike a line break's mark
ATTRIBUTES = ("data-w", "data-r", "data-l")  # a token's colours by each of `BY`


@dataclass
class Choices:
    """What the reader of a view without scripts may choose: what colour goes by and, of several, the scorer.

    Each token has the colours of all choices as words of an attribute a choice of colour, such as `0c` for step 3 of
    the first scorer (capitals below zero), and a style sheet shows those of the inputs that are checked.

    Attributes:
        several: whether a token has the words of all scorers, or only of the one that its row is of.
        used: (attribute, word) of all colours that occur.
    """

    several: bool = False
    used: set[tuple[str, str]] = field(default_factory=set)

    def words(self, scorer: int, scales: Sequence[Scale], value: float) -> list[str]:
        """The word of a score by value, by rank and by logarithm; empty where it has no colour."""
        levels = [scale.level(value) for scale in scales] or [0] * len(BY)
        words = [f"{scorer}{letter(level)}" if level else "" for level in levels]
        self.used |= {(name, word) for name, word in zip(ATTRIBUTES, words, strict=True) if word}
        return words

    def css(self, count: int) -> Markup:
        """Rules that recolour the text by the checked inputs, for `count` scorers."""
        # A page may hold other views: what has no scorer to choose must not recolour what has.
        on = [f":has(.wb-r{i}:checked)" if self.several else ":not(.wb-many)" for i in range(count)]
        palette = (f"--wb-{letter(n)}:{colour(n)}" for n in range(-LEVELS, LEVELS + 1) if n)
        rules = [f".wb-m{{{';'.join(palette)}}}"]
        for by, name in enumerate(ATTRIBUTES):
            rules.append(f".wb-m:has(.wb-by{by}:checked) .wb-leg.wb-by{by}{{display:flex}}")
            for i in range(count):
                words = sorted(word for attribute, word in self.used if attribute == name and word[:-1] == str(i))
                each = (f'[{name}~="{w}"]{{background-color:var(--wb-{w[-1]})!important}}' for w in words)
                rules.append(f".wb-m{on[i]}:has(.wb-by{by}:checked){{{''.join(each)}}}")
        if self.several:
            where = [f".wb{each}" for each in on]
            chosen = ",".join(f'{s} [data-w~="{i}!"]' for i, s in enumerate(where))
            missing = ",".join(f'{s} [data-w~="{i}?"]' for i, s in enumerate(where))
            rules.append("".join((",".join(f"{s} .wb-b{i}" for i, s in enumerate(where)), "{display:flex}")))
            rules.append(f".wb-m .wb-a :is({chosen}){{box-shadow:inset 0 -2px 0 var(--wb-acc)}}")
            rules.append(f"{missing}{{background-image:{HATCH}}}")
        return Markup(f"<style>{''.join(rules)}</style>")


def token_mark(
    text: Markup,
    title: Sequence[str],
    level: int,
    underline: bool,
    span: bool,
    words: Sequence[str] = (),
    missing: bool = False,
) -> str:
    """One token: text with a title, coloured inline, `<u>` where it is selected, a dotted line above in a span.

    `words` are those of `Choices`, one string for each choice of colour.
    """
    tag = "u" if underline else "span"
    names = " ".join(n for n, yes in (("wb-s", span), ("wb-na", missing)) if yes)
    attributes = [f'class="{names}"'] if names else []
    attributes += [f'{name}="{each}"' for name, each in zip(ATTRIBUTES, words, strict=False) if each]
    attributes.append(f'title="{"&#10;".join(map(plain, title))}"')
    attributes += [f'style="background-color:{colour(level)}"'] if level else []
    return f"<{tag} {' '.join(attributes)}>{text}</{tag}>"


def cuts(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, str, str]]:
    """(row number, text before it, its text) for every token that is drawn.

    A token is drawn without the spaces at its ends, so that a highlight ends where the word ends; they belong to the
    text before it, as does what no token covers. Zero-width byte pieces are left out; the end token has no text, and a
    rest after the last token is row -1.
    """
    after = ""  # spaces at the end of the token before
    for row, gap, text in _covered(tokens, answer):
        word = text.strip(SPACES) or text
        start = text.index(word) if text else 0
        yield row, f"{after}{gap}{text[:start]}", word
        after = text[start + len(word) :]
    if after:
        yield -1, after, ""


def _covered(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, str, str]]:
    """The same with the spaces of each token."""
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
    tokens: pd.DataFrame,
    layers: list[Layer],
    first: int,
    answer: str | None,
    choices: Choices | None = None,
    notes: Mapping[Any, Sequence[str]] | None = None,
) -> Markup:
    """The answer of one sample, each token coloured for layer `first` and, with `choices`, marked for the others."""
    values = [layer.scores.reindex(tokens.index).to_numpy(dtype=float) for layer in layers]
    scales = [[layer.scale.going_by(by) for by in BY] if layer.scale else [] for layer in layers]
    marked = (range(len(layers)) if choices.several else (first,)) if choices else ()
    spans = tokens["span"].tolist()
    out: list[str] = []
    for i, gap, text, raw in pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        words: list[list[str]] = []
        lines: dict[str, str] = {}  # by scorer, its first and its last step in one
        for j, layer in enumerate(layers):
            value = values[j][i]
            selected = layer.selects(value)
            score = f"{number(value)}{' ✓' if selected else ''}"
            lines[layer.scorer] = f"{lines[layer.scorer]} → {score}" if layer.scorer in lines else score
            if choices and j in marked:
                own = choices.words(j if choices.several else 0, scales[j], value)
                own[0] += (f" {j}!" * selected + f" {j}?" * math.isnan(value)) if choices.several else ""
                words.append(own)
            if j == first:
                shown = layer.scale.level(value) if layer.scale else 0, selected, not math.isfinite(value)
        title = [token_title(raw, i, len(tokens), spans[i]), *(f"{name} {score}" for name, score in lines.items())]
        title += (notes or {}).get(tokens.index[i], ())
        joined = [" ".join(" ".join(each).split()) for each in zip(*words, strict=True)]
        hatched = shown[2] and not (choices and choices.several)
        out.append(token_mark(text, title, shown[0], shown[1], spans[i] is True, joined, hatched))
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
    by: By = "value",
    notes: Mapping[Any, Sequence[str]] | None = None,
    css: bool = True,
) -> Html:
    """Answers as highlighted text, with a switch between the table's scorers that needs no script.

    Each scorer has a scale of its own, from 0, with blue below it where some scores are negative; see `Scale`. The
    reader chooses whether colour goes by value, rank or logarithm, for all scorers at once. Prompt tokens are not
    drawn. A scorer with several steps shows its first and last.

    Args:
        scores: a score table (one row a token and scorer), or its file.
        samples: a task, its samples, or sample id -> (question, answer); a missing one is drawn from its tokens.
        scorer: the one shown first; the first of the table by default.
        threshold: scores at or above it are underlined; one number, or one a scorer. By default as many tokens as
            are labelled, or the highest fifth where no spans are known; the bar says which.
        title: a heading above the bar.
        max_samples: at most so many samples are drawn, spread evenly; the numbers in the bar cover all.
        alignment: scorer -> {"auroc": ...} as `workbench align` gives it.
        by: what colour goes by at first: "value", "rank" or "logarithm".
        notes: (sample id, position) -> further lines about that token.
        css: include the style sheet.

    Raises:
        UserError: for an empty table, an unknown scorer or an unknown choice of colour.
    """
    texts = as_texts(samples)
    tokens, layers, first = layers_of(as_scores(scores), scorer, threshold, alignment, by=check_by(by))
    ids = list(dict.fromkeys(tokens.index.get_level_values("sample_id")))
    scored = set(layers[first].scores.index.get_level_values("sample_id"))
    groups, several = by_sample(tokens), len(layers) > 1
    choices = Choices(several) if several or any(x.scale and not x.scale.flat for x in layers) else None
    rows = []
    for sample in spread([i for i in ids if i in scored] or ids, max_samples):
        question, answer = texts.get(sample, ("", None))
        rows.append((question, scored_row(groups[sample], layers, first, answer, choices, notes), f"sample {sample}"))
    return render(
        "scores.token_view",
        layers=layers,
        first=first,
        rows=rows,
        total=len(ids),
        spans=tokens["span"],
        labelled=bool(tokens["span"].notna().any()),
        choices=BY if choices else (),
        by=by,
        choices_css=choices.css(len(layers)) if choices else "",
        title=title,
        css=css,
    )
