"""Highlighted text as plain HTML strings: answers coloured by their token scores.

Pure functions from tables to strings: no model, no notebook, no script. Colour is the alpha of one hue over the host's
background, written inline so that it survives where a style sheet is stripped; lines, numbers and titles say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError, unknown
from workbench.tasks import spread
from workbench.view.html.markup import NOT_AVAILABLE, Samples, frame, number, plain, visible
from workbench.view.html.scale import LEVELS, Scale, colour

END = '<i class="wb-x"> ∎</i>'
HATCH = "repeating-linear-gradient(135deg,rgba(128,128,128,.22) 0 2px,transparent 2px 6px)"


@dataclass(frozen=True)
class Layer:
    """One scorer at one step: its scores over all tokens, its scale, and what its threshold selects."""

    name: str
    scorer: str
    scores: pd.Series  # indexed by (sample_id, position)
    scale: Scale | None
    threshold: float | None
    rule: str
    auroc: str

    def selects(self, score: float) -> bool:
        """Whether the threshold selects `score`."""
        return self.threshold is not None and bool(score >= self.threshold)

    def bar(self, spans: pd.Series) -> str:
        """Scorer, legend, threshold, what it selects and how well that matches the labelled spans."""
        parts = [f'<span class="wb-name">scorer <b>{plain(self.name)}</b></span>']
        finite = self.scores.dropna()
        missing = len(spans) - len(finite)
        if self.scale is None:
            return " ".join([*parts, f"<span>scores {NOT_AVAILABLE} for all {len(spans)} tokens</span>"])
        if self.scale.flat:
            parts.append(f"<span>all scores are equal ({number(float(finite.iloc[0]))})</span>")
        else:
            parts.append(self.scale.legend(self.threshold))
        if self.threshold is not None:
            parts.append(f"<span>threshold <b>{number(self.threshold)}</b>{self.rule}</span>")
            parts.append(f'<span class="wb-last">{self._matches(finite, spans)}</span>')
        if missing:
            parts.append(f"<span>{NOT_AVAILABLE}: {missing} of {len(spans)} tokens</span>")
        return " ".join(parts)

    def _matches(self, scores: pd.Series, spans: pd.Series) -> str:
        chosen = scores >= self.threshold
        known = spans.reindex(scores.index)
        known = known[known.notna()].astype(bool)
        text = f"<b>{int(chosen.sum())}</b> of {len(spans)} tokens selected"
        if known.any():
            both = int((chosen[known.index] & known).sum())
            picked = int(chosen[known.index].sum())
            precision = number(both / picked) if picked else NOT_AVAILABLE
            text += f" · precision <b>{precision}</b> recall <b>{number(both / int(known.sum()))}</b>"
        return text + self.auroc


def _layer(
    name: str,
    scorer: str,
    scores: pd.Series,
    spans: pd.Series,
    threshold: float | None,
    alignment: Mapping[str, Any] | None,
) -> Layer:
    finite = scores[np.isfinite(scores.to_numpy(dtype=float))]
    scale, rule = Scale.of(finite.to_numpy(dtype=float)), ""
    if threshold is None and scale is not None and not scale.flat:
        labelled = int(spans.reindex(finite.index).eq(True).sum())
        threshold, rule = default_threshold(finite.to_numpy(dtype=float), labelled)
    auroc = (alignment or {}).get(name, {}).get("auroc")
    if isinstance(auroc, Mapping):
        auroc = auroc.get("value")
    shown = "" if auroc is None else f" · AUROC <b>{number(auroc)}</b>"
    return Layer(name, scorer, finite, scale, threshold, rule, shown)


def default_threshold(scores: np.ndarray, labelled: int) -> tuple[float, str]:
    """A threshold that selects as many tokens as are labelled, or the highest fifth of `scores`; and which it is."""
    count = min(labelled, len(scores)) or math.ceil(len(scores) / 5)
    least = float(np.partition(scores, len(scores) - count)[len(scores) - count])
    return least, " (as many as labelled)" if labelled else " (highest fifth)"


def layers_of(
    scores: pd.DataFrame,
    scorer: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    alignment: Mapping[str, Any] | None = None,
    segment: str = "answer",
) -> tuple[pd.DataFrame, list[Layer], int]:
    """A segment's tokens (index sample_id, position), one layer a scorer (its first and last step), which is first."""
    scores = scores[scores["segment"] == segment] if "segment" in scores else scores
    names = list(dict.fromkeys(scores["scorer"]))
    if not names:
        raise UserError(f"the score table has no {segment} tokens; score a task first")
    if scorer is not None and scorer not in names:
        raise unknown("scorer", scorer, names)
    key = ["sample_id", "position"]
    tokens = scores.drop_duplicates(key).set_index(key)
    spans = tokens["span"] if "span" in tokens else pd.Series(None, index=tokens.index, dtype=object)
    layers: list[Layer] = []
    first = 0
    for name in names:
        table = scores[scores["scorer"] == name]
        steps = sorted(table["step"].unique()) if "step" in table else [0]
        if name == scorer:
            first = len(layers)
        limit = threshold.get(name) if isinstance(threshold, Mapping) else threshold
        for step in dict.fromkeys((steps[0], steps[-1])):
            part = table[table["step"] == step] if "step" in table else table
            label = name if len(steps) == 1 else f"{name}, step {step}"
            values = part.set_index(key)["score"].astype(float)
            layers.append(_layer(label, name, values, spans, limit, alignment))
    return bool_spans(tokens), layers, first


def by_sample(tokens: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """The tokens of each sample in reading order."""
    return dict(list(tokens.sort_index(level="position", sort_remaining=False).groupby(level="sample_id", sort=False)))


def _switch_css(count: int) -> str:
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
    return f"<style>{''.join(rules)}</style>"


def _word(index: int, level: int) -> str:
    return f"{index}{chr((96 if level > 0 else 64) + abs(level))}"


def token_mark(
    text: str, title: str, level: int, underline: bool, span: bool, words: str = "", missing: bool = False
) -> str:
    """One token: text with a title, coloured inline, `<u>` where it is selected, a dotted line above in a span."""
    tag = "u" if underline else "span"
    names = " ".join(n for n, yes in (("wb-s", span), ("wb-na", missing)) if yes)
    parts = [f'class="{names}"' if names else "", f'data-w="{words}"' if words else "", f'title="{title}"']
    parts.append(f'style="background-color:{colour(level)}"' if level else "")
    return f"<{tag} {' '.join(p for p in parts if p)}>{text}</{tag}>"


def sample_row(question: str, body: str, label: str) -> str:
    """A sample: its question, small, above `body`."""
    ask = f'<div class="wb-q" dir="auto">{visible(" ".join(question.split()))}</div>' if question.strip() else ""
    return f'<div class="wb-row" title="{plain(label)}">{ask}{body}</div>'


def text_row(question: str, answer: str, label: str) -> str:
    """A sample: its question, small, above the HTML of its answer."""
    return sample_row(question, f'<div class="wb-a" dir="auto">{answer}</div>', label)


def cuts(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, str, str]]:
    """(row number, text before it that no token covers, its text) for every token that is drawn.

    Zero-width byte pieces are left out; the end token comes with no text, and what is left over as row -1.
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


def pieces(tokens: pd.DataFrame, answer: str | None) -> Iterator[tuple[int, str, str, str]]:
    """The same as (row number, HTML before it, its HTML, its text), the end token as a small mark."""
    for i, gap, text in cuts(tokens, answer):
        if i >= 0 and not text:
            yield i, visible(gap), END, "end of the answer"
        else:
            yield i, visible(gap), visible(text), text


def scored_row(tokens: pd.DataFrame, layers: list[Layer], first: int, answer: str | None, switch: bool = False) -> str:
    """The answer of one sample, each token coloured for layer `first` and, to `switch`, marked for the others."""
    values = [layer.scores.reindex(tokens.index).to_numpy(dtype=float) for layer in layers]
    spans = tokens["span"].tolist() if "span" in tokens else [None] * len(tokens)
    out = []
    for i, gap, text, raw in pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        words: list[str] = []
        lines: dict[str, str] = {}  # a line a scorer, its first and its last step in one
        for j, layer in enumerate(layers):
            value = values[j][i]
            level = layer.scale.level(value) if layer.scale else 0
            chosen = layer.selects(value)
            words += [_word(j, level)] * bool(level) + [f"{j}!"] * chosen + [f"{j}?"] * math.isnan(value)
            said = f"{number(value)}{' ✓' if chosen else ''}"
            lines[layer.scorer] = f"{lines[layer.scorer]} → {said}" if layer.scorer in lines else said
            if j == first:
                shown = level, chosen, not math.isfinite(value)
        told = "&#10;".join(f"{plain(name)} {said}" for name, said in lines.items())
        title = f"{token_title(raw, i, len(tokens), spans[i])}&#10;{told}"
        marks = " ".join(words) if switch else ""
        out.append(token_mark(text, title, shown[0], shown[1], spans[i] is True, marks, shown[2] and not switch))
    return "".join(out)


def token_title(text: str, place: int, count: int, span: Any) -> str:
    """First line of a token's title: text, place, whether in a labelled span."""
    where = "" if span is None or pd.isna(span) else f" · {'in' if span else 'not in'} a labelled span"
    return f"“{plain(text)}” · token {place + 1} of {count}{where}"


def bool_spans(tokens: pd.DataFrame) -> pd.DataFrame:
    """The table with `span` as True, False or None, whatever it was stored as."""
    if "span" not in tokens:
        return tokens
    return tokens.assign(
        span=pd.Series([None if pd.isna(s) else bool(s) for s in tokens["span"]], tokens.index, object)
    )


def showing(shown: int, total: int) -> str:
    """Says how many samples are drawn where that is not all."""
    return f"Showing {shown} of {total} samples; the numbers above cover all of them. " if shown < total else ""


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
) -> str:
    """Answers as highlighted text, with a switch between the table's scorers that needs no script.

    Each scorer has a scale of its own: 0..1 where all its scores lie there, -m..m with blue below zero where some are
    negative, else min..max. Prompt tokens are not drawn. A scorer with several steps shows its first and its last.

    Args:
        scores: a score table (one row a token and scorer).
        samples: sample id -> (question, answer); a missing one is drawn from its tokens.
        scorer: the one shown first; the first of the table by default.
        threshold: scores at or above it are underlined; one number, or one a scorer. By default as many tokens as
            are labelled, or the highest fifth where no spans are known; the bar says which.
        title: a heading above the bar.
        max_samples: at most so many samples are drawn, spread evenly; the numbers in the bar cover all.
        alignment: scorer -> {"auroc": ...} as `workbench align` gives it.
        css: bring the style sheet along.

    Raises:
        UserError: for an empty table or an unknown scorer.
    """
    tokens, layers, first = layers_of(scores, scorer, threshold, alignment)
    spans = tokens["span"] if "span" in tokens else pd.Series(None, index=tokens.index, dtype=object)
    ids = list(dict.fromkeys(tokens.index.get_level_values("sample_id")))
    groups, many = by_sample(tokens), len(layers) > 1
    rows = []
    for sample in spread(ids, max_samples):
        question, answer = samples.get(sample, ("", None))
        rows.append(text_row(question, scored_row(groups[sample], layers, first, answer, many), f"sample {sample}"))
    bars = "".join(f'<div class="wb-bar wb-b{i}">{x.bar(spans)}</div>' for i, x in enumerate(layers) if many or not i)
    guide = "Underlined: at or above the threshold. " + (
        "Dotted line above: labelled span. " if spans.notna().any() else ""
    )
    foot = f'<div class="wb-foot">{showing(len(rows), len(ids))}{guide}Hover a token for its numbers.</div>'
    body = f"{_switch(layers, first) if many else ''}{bars}{''.join(rows)}{foot}"
    if not many:
        return frame(body, title=title, css=css)
    return frame(body, title=title, tag="form", attributes='class="wb wb-m" method="dialog"', css=css)


def _switch(layers: list[Layer], first: int) -> str:
    pills = "".join(
        f'<label><input type="radio" name="wb-scorer" class="wb-r{i}"{" checked" if i == first else ""}>'
        f"{plain(layer.name)}</label> "
        for i, layer in enumerate(layers)
    )
    return f'{_switch_css(len(layers))}<div class="wb-pick" role="radiogroup" aria-label="scorer">{pills}</div>'
