"""Two models on one text, as a token view in two hues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from workbench.errors import printable
from workbench.evals import Difference
from workbench.tasks import Sample
from workbench.view.html import By, alternatives, quoted
from workbench.view.widgets.token_view import TokenView


class DiffView(TokenView):
    """Tokens coloured by log p of a second model minus that of a first; a token's card has both models' alternatives.

    `both` are the two models' log-probabilities of `samples`, and `names` those of the models.

    Attributes:
        by_words: whether rows are words, since the two models cut the text into different tokens.
    """

    def __init__(
        self, both: Difference, samples: Sequence[Sample], names: tuple[str, str], *, by: By = "value", title: str = ""
    ) -> None:
        self.names, self.by_words, self._notes = names, both.by_words, _notes(both.tokens, names)
        scores = both.scores(names)
        more: dict[str, Any] = {"tokens": both.tokens, "phases": names, "title": title, "by": by}
        super().__init__(scores, samples, **more)
        self.unit = "word" if both.by_words else "token"

    def __repr__(self) -> str:
        unit = "words" if self.by_words else "tokens"
        return printable(f"DiffView({self.names[1]} minus {self.names[0]}; {len(self.head['spans'])} {unit})")


def _notes(tokens: pd.DataFrame, names: tuple[str, str]) -> dict[tuple[Any, int], list[str]]:
    """For each token, a line a model: its most probable tokens there."""
    notes: dict[tuple[Any, int], list[str]] = {}
    for phase, name in zip(("before", "after"), names, strict=True):
        part = tokens[tokens["phase"] == phase]
        for sample, position, text in zip(part["sample_id"], part["position"], part["alternatives"], strict=True):
            notes.setdefault((sample, position), []).append(f"{name}: {quoted(alternatives(text))}")
    return notes
