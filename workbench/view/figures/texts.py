"""Views of text as figures: highlighted answers, scorers side by side, changes of tokens, answers before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import unknown
from workbench.tasks import spread
from workbench.view.figures.text_figure import ABSENT, ACCENT, DEEP, MUTED, Piece, Row, TextFigure, on_white, scale_key
from workbench.view.html import (
    By,
    Comparison,
    Samples,
    Scale,
    as_scores,
    as_texts,
    bool_spans,
    changes,
    cuts,
    diff_pieces,
    marked,
    texts_of,
)

END = "∎"
DIFFERENCES = "Struck through: words that are gone. Underlined: new words."
SPANNED = "Dotted line above: labelled span."
NOT_SCORED = "Grey: no score."
SWITCHED = "Underlined: the model's first choice before, and no longer."
CHANGE = Scale(-1.0, 1.0)  # of probabilities
CHANGE_KEY = scale_key("change in probability", CHANGE, None, "lost ", " gained")


def question_row(question: str, *, ruled: bool = False) -> list[Row]:
    """The question of a sample, small; no row without one."""
    text = " ".join(question.split())
    return [Row([Piece(marked(text), ink=MUTED)], small=True, ruled=ruled)] if text else []


def highlighted(text: str, level: int | None, *, under: bool = False, span: bool = False) -> Iterator[Piece]:
    """A token: coloured from where its word begins; `level` is None where it has no score."""
    word = text.lstrip(" ")
    if len(word) < len(text):
        yield Piece(text[: len(text) - len(word)])
    fill = ABSENT if level is None else on_white(level)
    yield Piece(marked(word), fill, ACCENT if under else None, span)


def _tokens(
    tokens: pd.DataFrame, answer: str | None, levels: Sequence[int | None], under: Sequence[bool]
) -> list[Piece]:
    """A sample's tokens as pieces, with the text between them."""
    spans, out = tokens["span"].tolist(), list[Piece]()
    for i, gap, text in cuts(tokens, answer):
        out += [Piece(marked(gap))] if gap else []
        if i >= 0:
            out += highlighted(text or f" {END}", levels[i], under=under[i], span=spans[i] is True)
    return out


def compare_figure(
    scores: pd.DataFrame,
    samples: Samples,
    *,
    scorers: Sequence[str] | None = None,
    order: Sequence[Any] | None = None,
    max_samples: int = 6,
    by: By = "value",
    title: str = "",
) -> TextFigure:
    """The same answers under each scorer, as `compare_view` shows them; its arguments and errors.

    A scorer's question tokens are left out.
    """
    comparison, texts = Comparison.of(as_scores(scores), scorers, by), as_texts(samples)
    ids = spread(list(comparison.answers), max_samples) if order is None else list(order)[:max_samples]
    rows, gaps, labelled = list[Row](), False, False
    for sample in ids:
        question, answer = texts.get(comparison.sample(sample), ("", None))
        rows += question_row(question, ruled=bool(rows))
        tokens = comparison.answers[sample]
        labelled |= bool(tokens["span"].eq(True).any())
        for place, scored in enumerate(comparison.scored):
            layer = scored.answer
            values = layer.scores.reindex(tokens.index).to_numpy(dtype=float)
            gaps |= bool(np.isnan(values).any())
            levels = [None if math.isnan(v) else layer.scale.level(v) if layer.scale else 0 for v in values]
            pieces = _tokens(tokens, answer or None, levels, [layer.selects(v) for v in values])
            rows.append(Row(pieces, marked(layer.name), ruled=not question.strip() and place == 0 and bool(rows)))
    keys = [scale_key(marked(s.answer.name), s.answer.scale, s.answer.threshold) for s in comparison.scored]
    rules = {s.answer.rule: None for s in comparison.scored if s.answer.threshold is not None}
    notes = [f"Underlined: a scorer's highest answer tokens ({' or '.join(rules)})."] if rules else []
    notes += [SPANNED] * labelled + [NOT_SCORED] * gaps
    return TextFigure(rows, keys, [" ".join(notes)] if notes else [], marked(title))


def change_figure(
    tokens: pd.DataFrame,
    samples: Samples | pd.DataFrame,
    *,
    probe_set: str | None = None,
    sample_ids: Sequence[Any] | None = None,
    max_samples: int = 6,
    title: str = "",
) -> TextFigure:
    """What a run changed: each token of a probe set (of all by default) by its probability after minus before.

    `tokens` is a run's token table; `samples` are the questions and answers, or the run's probe table, which has those
    of each set. Without `sample_ids`, `max_samples` of each set are shown, spread over all.

    Raises:
        UserError: a table without both phases, or a set or sample that it does not have.
    """
    table, rows = bool_spans(changes(tokens)), list[Row]()
    for name, part in _sets(table, probe_set):
        texts = texts_of(samples, name) if isinstance(samples, pd.DataFrame) else as_texts(samples)
        by_id = dict(list(part.sort_values("position", kind="stable").groupby("sample_id", sort=False)))
        rows += [Row([Piece(marked(name), bold=True)], small=True, ruled=bool(rows))] if probe_set is None else []
        for sample in spread(list(by_id), max_samples) if sample_ids is None else sample_ids:
            if sample not in by_id:
                raise unknown("sample", str(sample), [str(known) for known in by_id])
            question, answer = texts.get(sample, ("", None))
            rows += question_row(question, ruled=bool(rows))
            rows.append(Row(_changed(by_id[sample], answer), ruled=bool(rows) and not question.strip()))
    note = f"{SWITCHED} {SPANNED}" if table["span"].eq(True).any() else SWITCHED
    return TextFigure(rows, [CHANGE_KEY], [note], marked(title))


def _changed(own: pd.DataFrame, answer: str | None) -> list[Piece]:
    """An answer's tokens, each by its probability under the second model minus that under the first."""
    levels = [CHANGE.level(v) if math.isfinite(v) else None for v in own["change"]]
    pieces = _tokens(own, answer, levels, own["switched"].tolist())
    return [piece._replace(under=DEEP) if piece.under else piece for piece in pieces]


def answers_figure(
    probes: pd.DataFrame,
    *,
    probe_set: str | None = None,
    sample_ids: Sequence[Any] | None = None,
    max_samples: int = 4,
    title: str = "",
) -> TextFigure:
    """What the model says before and after a run, with the words that are gone and new.

    Raises:
        UserError: a set or sample that the table does not have.
    """
    rows = list[Row]()
    for name, part in _sets(probes, probe_set):
        phases = {p: dict(zip(x["sample_id"], x.to_dict("records"), strict=True)) for p, x in part.groupby("phase")}
        first = phases.get("before") or phases["after"]
        rows += [Row([Piece(marked(name), bold=True)], small=True, ruled=bool(rows))] if probe_set is None else []
        for sample in spread(list(first), max_samples) if sample_ids is None else sample_ids:
            if sample not in first:
                raise unknown("sample", str(sample), [str(known) for known in first])
            row, after = first[sample], phases.get("after", {}).get(sample, {}).get("generation")
            rows += question_row(row["prompt"] if isinstance(row["prompt"], str) else "", ruled=bool(rows))
            rows += answer_rows(str(row["answer"]), {"before": row.get("generation"), "after": after})
    return TextFigure(rows, notes=[DIFFERENCES], title=marked(title))


def _sets(table: pd.DataFrame, probe_set: str | None) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each probe set, or of one."""
    sets = {str(name): part for name, part in table.groupby("probe_set", sort=False)}
    if probe_set is not None and probe_set not in sets:
        raise unknown("probe set", probe_set, list(sets))
    return list(sets.items()) if probe_set is None else [(probe_set, sets[probe_set])]


def answer_rows(reference: str, answers: Mapping[str, Any]) -> list[Row]:
    """The reference, and each answer with its words that differ from those of the first."""
    return [Row([Piece(marked(reference), ink=MUTED)], "reference"), *differing_rows(answers)]


def differing_rows(answers: Mapping[str, Any]) -> list[Row]:
    """Answers below each other, each with its words that differ from those of the first."""
    texts = {name: text if isinstance(text, str) else None for name, text in answers.items()}
    rows, first = list[Row](), next(iter(texts.values()), None)
    for place, (name, text) in enumerate(texts.items()):
        if text is None:
            pieces = [Piece("not available", ink=MUTED)]
        elif place == 0 and len(texts) == 2 and (other := list(texts.values())[1]) is not None:
            pieces = [_differing(kind, part) for kind, part in diff_pieces(text, other)[0]]
        elif place == 0 or first is None:
            pieces = [Piece(marked(text))]
        else:
            pieces = [_differing(kind, part) for kind, part in diff_pieces(first, text)[1]]
        rows.append(Row(pieces or [Piece("∅")], marked(name)))
    return rows


def _differing(kind: str, text: str) -> Piece:
    if kind == "del":
        return Piece(marked(text), on_white(-5), struck=True, ink=DEEP)
    return Piece(marked(text), on_white(6), ACCENT) if kind == "ins" else Piece(marked(text))


def chat_figure(turns: Sequence[tuple[str, Mapping[str, str], Mapping[str, pd.DataFrame]]]) -> TextFigure:
    """What several models answered.

    A turn is the question, each model's answer, and the token tables of those answers whose tokens' change is shown.
    """
    rows, changed = list[Row](), False
    for question, answers, tables in turns:
        rows += question_row(question, ruled=bool(rows))
        for name, row in zip(answers, differing_rows(answers), strict=True):
            if name in tables:
                row = Row(_changed(bool_spans(changes(tables[name])), answers[name]), row.label)
                changed = True
            rows.append(row)
    if changed:
        return TextFigure(rows, [CHANGE_KEY], [SWITCHED])
    return TextFigure(rows, notes=["Struck: words that only the first has. Underlined: words that it has not."])


def answers_of_runs(answers: Sequence[Any], names: Mapping[str, str]) -> TextFigure:
    """The same answers under several runs: `answers` of `compared_runs.shared_answers`, runs by letter in `names`."""
    rows = list[Row]()
    for answer in answers:
        rows += question_row(answer.question, ruled=bool(rows))
        bare = not answer.question.strip() and bool(rows)
        rows.append(Row([Piece(marked(answer.reference), ink=MUTED)], "reference", ruled=bare))
        rows += [Row([Piece(marked(shared))], "before")] if (shared := answer.shared_before) is not None else []
        for letter in names:
            before, after = answer.before.get(letter), answer.after.get(letter)
            if after is not None:
                pieces = diff_pieces(before, after)[1] if before is not None else [("", after)]
                rows.append(Row([_differing(kind, text) for kind, text in pieces] or [Piece("∅")], letter))
    note = "; ".join(f"{letter}: {marked(name)}" for letter, name in names.items())
    return TextFigure(rows, notes=[f"{note}. Underlined: words that the model did not say before."])
