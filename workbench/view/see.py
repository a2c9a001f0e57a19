"""Any text, one line: its heatmap under a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import UserError
from workbench.progress import Progress, silent
from workbench.scorers import scorer
from workbench.tasks import Sample, read_rows
from workbench.unlearning import score_texts
from workbench.view.html import By, check_by
from workbench.view.model_source import ModelSource, model_of
from workbench.view.widgets.token_view import TokenView

DEFAULT = ("surprisal", "entropy", "wga")  # need nothing but the model
WITH_TEXT, WITH_REFERENCE = ("specificity",), ("gap",)  # shown too where what they need is there


def as_samples(text: Any, question: str | None, answer: str | None, columns: Mapping[str, str] | None) -> list[Sample]:
    """What is looked at, as samples: a text, a question with its answer, or rows in any form.

    Raises:
        UserError: nothing to look at, or something that is no text.
    """
    if question is not None or answer is not None:
        if text is not None or not (isinstance(question, str) and isinstance(answer, str) and answer.strip()):
            raise UserError("give a text or rows, or question= and answer= together, both as text")
        return [Sample("text", question, answer)]
    if text is None or (isinstance(text, str) and not text.strip()):
        raise UserError("there is no text: see('...', model='bio-full'), or question= and answer=")
    if isinstance(text, str):
        return [Sample("text", "", text)]
    return read_rows(text, columns)


def see(
    text: Any = None,
    model: ModelSource | None = None,
    *,
    question: str | None = None,
    answer: str | None = None,
    scorers: Sequence[str] | str | None = None,
    unlabelled: Any = None,
    reference: ModelSource | None = None,
    options: dict[str, dict[str, Any]] | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    by: By = "value",
    title: str | None = None,
    progress: Progress = silent,
) -> TokenView:
    """The tokens of any text, coloured by how much they matter: `wb.see("Zeno lives in Bergen.", "bio-full")`.

    A text may be longer than the model's context: it is scored in windows that overlap by half, each token in the
    window where most tokens stand before it, and shown whole.

    Args:
        text: a text; or rows as `wb.read_rows` takes them: a file's path as `Path`, a DataFrame, a list of texts,
            dictionaries or samples, a task.
        model: the name of an embedded model (`bio-full`), a directory, a hub name, a run, or a loaded model.
        question: in place of `text`: what the model is asked;
        answer: and what it answers, whose tokens are scored.
        scorers: names; by default surprisal, entropy and wga, which need nothing else, and `specificity` where there is
            `unlabelled` text and `gap` where there is a `reference`. The view switches between them.
        unlabelled: rows of text of the same kind that the model has not seen, for scorers that learn from it.
        reference: a second model with the same tokenizer, for scorers that compare with one.
        options: keyword arguments by scorer.
        columns: key -> column, where the rows' columns do not tell by their names.
        seed: of every random source.
        by: what colour goes by at first: "value", "rank" or "logarithm".
        title: a heading.
        progress: called as the scorers advance.

    Returns:
        the view, which shows itself in a notebook; `.to_frame()` is the same as a table, `.scores` all scores.

    Raises:
        UserError: no text or model, or a scorer lacks what it needs; the line says what.
    """
    if model is None:
        raise UserError("name a model: see('...', model='bio-full'), a directory, a hub name, or what wb.load gives")
    samples, by = as_samples(text, question, answer, columns), check_by(by)
    more = WITH_TEXT * (unlabelled is not None) + WITH_REFERENCE * (reference is not None)
    names = [scorers] if isinstance(scorers, str) else list(dict.fromkeys(scorers or (*DEFAULT, *more)))
    for name in names:
        scorer[name]  # raises for an unknown one before a model is loaded
    other = None if unlabelled is None else read_rows(unlabelled, columns, prefix="unlabelled")
    lm = model_of(model)
    second = None if reference is None else model_of(reference, like=lm)
    table = score_texts(
        lm, samples, names, unlabelled=other, reference=second, seed=seed, options=options, progress=progress
    )
    _refuse_empty(table, names)
    return TokenView(table, samples, title=title, by=by)


def _refuse_empty(table: Any, names: Sequence[str]) -> None:
    """Raise where one scorer has no score at all, with its own reason."""
    for name in names:
        if table.loc[table["scorer"] == name, "score"].isna().all():
            reasons = table.attrs.get("notes", {}).get(name, {}).get("not_available", {}).values()
            raise UserError(f"scorer '{name}' has no score for this: {next(iter(reasons), 'nothing predicts a token')}")
