"""Highlighted text as plain HTML strings: token scores, and what a run did to each token's probability.

Pure functions from tables to strings: no model, no notebook, no script. Colour is the alpha of one hue over the host's
background, written inline so that it survives where a style sheet is stripped; lines, numbers and titles say the same.
"""

from __future__ import annotations

import html
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.registry import UserError, unknown

STATIC = Path(__file__).parent / "static"
LEVELS = 12
ORANGE, BLUE = "230,126,0", "31,111,220"
NOT_AVAILABLE = "not available"
Samples = Mapping[Any, tuple[str, str]]


# Text ---------------------------------------------------------------------------------------------------------------


def _mark(character: str) -> str | None:
    """A visible stand-in for a character that would not show, or would change how the others show."""
    code = ord(character)
    if character in "\n\t\r":
        return {"\n": "↵", "\t": "⇥", "\r": "␍"}[character]
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"[U+{code:04X}]"
    return None


def plain(text: str) -> str:
    """`text` for an attribute: control, zero-width and direction characters as visible marks, then escaped."""
    if not text.isprintable():
        text = "".join(_mark(c) or c for c in text)
    return html.escape(text)


def visible(text: str) -> str:
    """`text` as HTML, each invisible character as a small mark; the text stays one flow."""
    if text.isprintable():
        return html.escape(text)
    marks = ((c, _mark(c)) for c in text)
    return "".join(html.escape(c) if m is None else f'<i class="wb-x">{m}</i>' for c, m in marks)


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: `digits` decimals, fewer for large ones, a real minus sign."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    size = abs(value)
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.{digits}f}"
    if 0 < size < 10**-digits:
        text = f"{value:.1g}"
    return text.replace("-", "−")  # noqa: RUF001


def style_sheet(name: str = "view") -> str:
    """The style element of static/<name>.css."""
    return f"<style>{(STATIC / f'{name}.css').read_text(encoding='utf-8')}</style>"


def frame(body: str, *, title: str | None = None, tag: str = "div", attributes: str = "", css: bool = True) -> str:
    """`body` in the frame every view shares; with `css=False` the page around it brings the style sheet."""
    heading = f'<p class="wb-title">{plain(title)}</p>' if title else ""
    extra = f" {attributes}" if attributes else ""
    klass = "" if "class=" in attributes else ' class="wb"'
    return f"{style_sheet() if css else ''}<{tag}{klass}{extra}>{heading}{body}</{tag}>"


# Colour -------------------------------------------------------------------------------------------------------------


def alpha(level: int) -> float:
    """Opacity of a colour step, 0 for step 0; at most 0.62 so that text keeps a contrast of 4.5 in both themes."""
    step = min(abs(level), LEVELS)
    return round(0.04 + 0.58 * (step / LEVELS) ** 1.25, 2) if step else 0.0


def colour(level: int) -> str:
    """The rgba of a step: orange above zero, blue below."""
    return f"rgba({ORANGE if level > 0 else BLUE},{alpha(level):.2f})"


@dataclass(frozen=True)
class Scale:
    """Where a scorer's numbers lie: 0..1 where all do, -m..m where some are negative, else min..max."""

    low: float
    high: float
    flat: bool = False

    @classmethod
    def of(cls, scores: np.ndarray) -> Scale | None:
        """The scale of finite `scores`; None where there are none."""
        if not len(scores):
            return None
        low, high = float(scores.min()), float(scores.max())
        flat = low == high
        if low < 0:
            low, high = -max(-low, high), max(-low, high)
        elif high <= 1:
            low, high = 0.0, 1.0
        return cls(low, high, flat)

    @property
    def signed(self) -> bool:
        """Whether zero is in the middle and two hues are used."""
        return self.low < 0

    def place(self, score: float) -> float:
        """Position of `score` on the legend, 0..1."""
        return (score - self.low) / ((self.high - self.low) or 1.0)

    def level(self, score: float) -> int:
        """Colour step of `score`, -LEVELS..LEVELS."""
        if self.flat or not math.isfinite(score):
            return 0
        return round(LEVELS * (score / self.high if self.signed else self.place(score)))

    def legend(self, threshold: float | None = None, low: str = "", high: str = "") -> str:
        """The ramp as drawn, with its numbers and a tick at the threshold."""
        steps = range(-LEVELS if self.signed else 0, LEVELS + 1, 2)
        ramp = ",".join(colour(s) if s else "rgba(128,128,128,0.04)" for s in steps)
        tick = "" if threshold is None else f'<i style="left:{100 * min(max(self.place(threshold), 0), 1):.0f}%"></i>'
        ends = f"{low}{number(self.low, 0 if self.low == int(self.low) else 2)}"
        middle = " · 0 · " if self.signed else " "
        grad = f'<span class="wb-grad" style="background-image:linear-gradient(90deg,{ramp})">{tick}</span>'
        top = f"{number(self.high, 0 if self.high == int(self.high) else 2)}{high}"
        return f'<span class="wb-leg">{ends} {grad} {"0 in the middle, " if middle != " " else ""}{top}</span>'


# Token view ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One scorer of a token view: its scores over all tokens, its scale, and what its threshold selects."""

    name: str
    scores: pd.Series  # indexed by (sample_id, position)
    scale: Scale | None
    threshold: float | None
    rule: str
    auroc: str

    def selects(self, score: float) -> bool:
        """Whether the threshold selects `score`."""
        return self.threshold is not None and math.isfinite(score) and score >= self.threshold

    def bar(self, spans: pd.Series) -> str:
        """Scorer, legend, threshold, how much is selected and how well that matches the labelled spans."""
        parts = [f"<span>scorer <b>{plain(self.name)}</b></span>"]
        finite = self.scores.dropna()
        missing = len(spans) - len(finite)
        if self.scale is None:
            return "".join([*parts, f"<span>scores {NOT_AVAILABLE} for all {len(spans)} tokens</span>"])
        if self.scale.flat:
            parts.append(f"<span>all scores are equal ({number(float(finite.iloc[0]))})</span>")
        else:
            parts.append(self.scale.legend(self.threshold))
        if self.threshold is not None:
            parts.append(f"<span>threshold <b>{number(self.threshold)}</b>{self.rule}</span>")
            parts.append(f'<span class="wb-last">{self._matches(finite, spans)}</span>')
        if missing:
            parts.append(f"<span>{missing} tokens {NOT_AVAILABLE}</span>")
        return "".join(parts)

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
    name: str, scores: pd.Series, spans: pd.Series, threshold: float | None, alignment: Mapping[str, Any] | None
) -> Layer:
    finite = scores[np.isfinite(scores.to_numpy(dtype=float))]
    scale, rule = Scale.of(finite.to_numpy(dtype=float)), ""
    if threshold is None and scale is not None and not scale.flat:
        labelled = int(spans.reindex(finite.index).eq(True).sum())
        count = labelled or math.ceil(len(finite) / 5)
        threshold = float(finite.nlargest(count).iloc[-1])
        rule = " (as many tokens as are labelled)" if labelled else " (the highest fifth)"
    auroc = (alignment or {}).get(name, {}).get("auroc")
    if isinstance(auroc, Mapping):
        auroc = auroc.get("value")
    shown = "" if auroc is None else f" · AUROC <b>{number(auroc)}</b>"
    return Layer(name, finite, scale, threshold, rule, shown)


def _layers(
    scores: pd.DataFrame,
    scorer: str | None,
    threshold: float | Mapping[str, float] | None,
    alignment: Mapping[str, Any] | None,
) -> tuple[pd.DataFrame, list[Layer], int]:
    """The tokens (index sample_id, position), one layer a scorer (first and last step where it has several)."""
    scores = scores[scores["segment"] == "answer"] if "segment" in scores else scores
    names = list(dict.fromkeys(scores["scorer"]))
    if not names:
        raise UserError("the score table has no answer tokens; score a task first")
    if scorer is not None and scorer not in names:
        raise unknown("scorer", scorer, names)
    key = ["sample_id", "position"]
    tokens = scores.drop_duplicates(key).set_index(key)
    spans = tokens["span"] if "span" in tokens else pd.Series(None, index=tokens.index, dtype=object)
    layers, first = [], 0
    for name in names:
        table = scores[scores["scorer"] == name]
        steps = sorted(table["step"].unique()) if "step" in table else [0]
        if name == scorer:
            first = len(layers)
        limit = threshold.get(name) if isinstance(threshold, Mapping) else threshold
        for step in dict.fromkeys((steps[0], steps[-1])):
            part = table[table["step"] == step] if "step" in table else table
            label = name if len(steps) == 1 else f"{name}, step {step}"
            layers.append(_layer(label, part.set_index(key)["score"].astype(float), spans, limit, alignment))
    return tokens, layers, first


def _switch_css(count: int) -> str:
    """Rules that recolour the same text for the scorer whose radio input is checked."""
    on = [f".wb:has(.wb-r{i}:checked)" for i in range(count)]
    rules = ["".join((",".join(f"{s} .wb-b{i}" for i, s in enumerate(on)), "{display:flex}"))]
    for level in (*range(-LEVELS, 0), *range(1, LEVELS + 1)):
        where = ",".join(f'{s} [data-w~="{_word(i, level)}"]' for i, s in enumerate(on))
        rules.append(f"{where}{{background-color:{colour(level)}!important}}")
    chosen = ",".join(f'{s} [data-w~="{i}!"]' for i, s in enumerate(on))
    rules.append(f".wb-m .wb-a :is({chosen}){{box-shadow:inset 0 -2px 0 var(--wb-acc)}}")
    return f"<style>{''.join(rules)}</style>"


def _word(index: int, level: int) -> str:
    return f"{index}{chr((96 if level > 0 else 64) + abs(level))}"


def _token(
    text: str, title: str, level: int, underline: bool, span: bool, words: str = "", missing: bool = False
) -> str:
    """One token: text with a title, coloured inline, `<u>` where it is selected, a dotted line above in a span."""
    tag = "u" if underline else "span"
    names = " ".join(n for n, yes in (("wb-s", span), ("wb-na", missing)) if yes)
    parts = [f'class="{names}"' if names else "", f'data-w="{words}"' if words else "", f'title="{title}"']
    parts.append(f'style="background-color:{colour(level)}"' if level else "")
    return f"<{tag} {' '.join(p for p in parts if p)}>{text}</{tag}>"


def _row(question: str, answer: str, label: str) -> str:
    ask = f'<div class="wb-q" dir="auto">{visible(" ".join(question.split()))}</div>' if question.strip() else ""
    return f'<div class="wb-row" title="{plain(label)}">{ask}<div class="wb-a" dir="auto">{answer}</div></div>'


def _pieces(tokens: pd.DataFrame, answer: str | None) -> Iterable[tuple[int, str, str, str]]:
    """(row number, text before it that no token covers, its HTML, its text) for every token that is drawn.

    Zero-width byte pieces are left out; the end token is drawn as a small mark.
    """
    done = 0
    for i, (start, end, text) in enumerate(zip(tokens["start"], tokens["end"], tokens["token"], strict=True)):
        if answer is None:
            yield i, "", visible(str(text)), str(text)
            continue
        start, end = max(int(start), done), int(end)
        if end > start:
            yield i, visible(answer[done:start]), visible(answer[start:end]), answer[start:end]
            done = end
        elif i == len(tokens) - 1 and done == len(answer):
            yield i, "", '<i class="wb-x"> ∎</i>', "end of the answer"
    if answer is not None and done < len(answer):
        yield -1, visible(answer[done:]), "", ""


def _scored_row(tokens: pd.DataFrame, layers: list[Layer], first: int, answer: str | None) -> str:
    """The answer of one sample, each token coloured for layer `first` and marked for the others."""
    values = [layer.scores.reindex(tokens.index).to_numpy(dtype=float) for layer in layers]
    spans = tokens["span"].tolist() if "span" in tokens else [None] * len(tokens)
    out = []
    for i, gap, text, raw in _pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        words, lines = [], []
        for j, layer in enumerate(layers):
            value = values[j][i]
            level = layer.scale.level(value) if layer.scale else 0
            chosen = layer.selects(value)
            words += [_word(j, level)] * bool(level) + [f"{j}!"] * chosen
            lines.append(f"{plain(layer.name)} {number(value)}{' ✓' if chosen else ''}")
            if j == first:
                shown = level, chosen, not math.isfinite(value)
        title = _title(raw, i, len(tokens), spans[i]) + "&#10;" + "&#10;".join(lines)
        marks = " ".join(words) if len(layers) > 1 else ""
        out.append(_token(text, title, shown[0], shown[1], spans[i] is True, marks, shown[2] and len(layers) == 1))
    return "".join(out)


def _title(text: str, place: int, count: int, span: Any) -> str:
    where = "" if span is None or pd.isna(span) else f" · {'in' if span else 'not in'} a labelled span"
    return f"“{plain(text)}” · token {place + 1} of {count}{where}"


def _bool_spans(tokens: pd.DataFrame) -> pd.DataFrame:
    if "span" not in tokens:
        return tokens
    return tokens.assign(
        span=pd.Series([None if pd.isna(s) else bool(s) for s in tokens["span"]], tokens.index, object)
    )


def _showing(shown: int, total: int) -> str:
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
        max_samples: at most so many samples are drawn; the numbers in the bar cover all.
        alignment: scorer -> {"auroc": ...} as `workbench align` gives it.
        css: bring the style sheet along.

    Raises:
        UserError: for an empty table or an unknown scorer.
    """
    tokens, layers, first = _layers(scores, scorer, threshold, alignment)
    tokens = _bool_spans(tokens)
    spans = tokens["span"] if "span" in tokens else pd.Series(None, index=tokens.index, dtype=object)
    ids = list(dict.fromkeys(tokens.index.get_level_values("sample_id")))
    groups = dict(
        list(tokens.sort_index(level="position", sort_remaining=False).groupby(level="sample_id", sort=False))
    )
    rows = []
    for sample in ids[:max_samples]:
        question, answer = samples.get(sample, ("", None))
        rows.append(_row(question, _scored_row(groups[sample], layers, first, answer), f"sample {sample}"))
    many = len(layers) > 1
    bars = "".join(f'<div class="wb-bar wb-b{i}">{x.bar(spans)}</div>' for i, x in enumerate(layers) if many or not i)
    guide = "Underlined: at or above the threshold. " + (
        "Dotted line above: labelled span. " if spans.notna().any() else ""
    )
    foot = f'<div class="wb-foot">{_showing(len(rows), len(ids))}{guide}Hover a token for its numbers.</div>'
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


# Change view --------------------------------------------------------------------------------------------------------


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
    for i, gap, text, raw in _pieces(tokens, answer):
        out.append(gap)
        if i < 0:
            continue
        r = rows[i]
        ranks = f"rank {r['rank_before'] + 1:.0f} → {r['rank_after'] + 1:.0f}"
        lines = [
            f"probability {number(r['p_before'])} → {number(r['p_after'])} · {ranks}",
            _alternatives(r["alternatives"]),
        ]
        title = "&#10;".join([_title(raw, i, len(rows), r.get("span")), *filter(None, lines)])
        missing = not math.isfinite(r["change"])
        out.append(
            _token(text, title, scale.level(r["change"]), bool(r["switched"]), r.get("span") is True, "", missing)
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
        f'<div class="wb-bar"><span><b>{plain(name)}</b></span>{Scale(-1.0, 1.0).legend(None, "lost ", " gained")}'
        f"<span>mean change in probability <b>{mean}</b></span>"
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
    body, table = [], _bool_spans(changes(tokens))
    for name, part in table.groupby("probe_set", sort=False):
        groups = list(part.sort_values("position", kind="stable").groupby("sample_id", sort=False))
        order = list(dict.fromkeys(part["sample_id"]))
        by_id = dict(groups)
        body.append(_change_bar(part, str(name)))
        for sample in order[:max_samples]:
            question, answer = samples.get(sample, ("", None))
            body.append(_row(question, _changed_row(by_id[sample], answer), f"sample {sample}"))
        if len(order) > max_samples:
            body.append(f'<div class="wb-foot">{_showing(max_samples, len(order))}</div>')
    guide = (
        "Blue: the token lost probability; orange: it gained. Underlined: it was the model's first choice and no longer is. "
        "Hover a token for before, after and what the model now prefers."
    )
    return frame("".join(body) + f'<div class="wb-foot">{guide}</div>', title=title, css=css)
