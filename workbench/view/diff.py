"""Two models on one text: what one of them expects more than the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.evals import difference
from workbench.models import LanguageModel
from workbench.view.html import By, check_by
from workbench.view.model_source import ModelSource, model_of
from workbench.view.see import as_samples
from workbench.view.widgets.diff_view import DiffView


def _names(a: LanguageModel, b: LanguageModel) -> tuple[str, str]:
    """Short names of two models, which differ."""
    first, second = (Path(lm.name).name or lm.name for lm in (a, b))
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def diff(
    a: ModelSource,
    b: ModelSource,
    text: Any = None,
    *,
    question: str | None = None,
    answer: str | None = None,
    columns: Mapping[str, str] | None = None,
    by: By = "value",
    title: str | None = None,
) -> DiffView:
    """Each token's log p under `b` minus that under `a`: `wb.diff("bio-retain", "bio-full", "Zeno lives in Bergen.")`.

    Orange: `b` expects the token more; blue: `a` does. Pointing at a token shows both probabilities and what else each
    model expected there. Where the two cut the text into other tokens, the view is of words, and says so: a word's
    log p is the sum over its tokens.

    Args:
        a: a model: the name of an embedded one, a directory, a hub name, a run, or a loaded model.
        b: another.
        text: a text, or rows in any form, as `wb.see` takes them; of any length.
        question: in place of `text`: what the models are asked;
        answer: and the answer, whose tokens are compared.
        columns: key -> column, where the rows' columns do not tell by their names.
        by: what colour goes by at first: "value", "rank" or "logarithm".
        title: a heading; by default it names the models.

    Raises:
        UserError: no text, or something that is no model.
    """
    samples, by = as_samples(text, question, answer, columns), check_by(by)
    first, second = model_of(a), model_of(b)
    names = _names(first, second)
    both = difference(first, second, samples)
    words = " Shown by word: the models tokenise the text differently." if both.by_words else ""
    hues = f"orange where it expects a {'word' if both.by_words else 'token'} more, blue where less."
    title = title or f"{names[1]} compared with {names[0]}: {hues}{words}"
    return DiffView(both, samples, names, title=title, by=by)
