"""The token view as a widget: highlighted text whose scorer, threshold and step are chosen in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from workbench.errors import UserError, printable, unknown
from workbench.view.figures import UNITS, TextFigure, tokens_figure, visible
from workbench.view.html import (
    BY,
    By,
    Samples,
    Scores,
    as_scores,
    as_texts,
    check_by,
    plain_text,
    texts_of_run,
    token_view,
)
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.saving import SHOWN, SavesFigure
from workbench.view.widgets.static_twin import FEW, Twin, script, styles
from workbench.view.widgets.token_payload import CHANGE, payload

LOOKS = ("scorer", "step", "threshold", "unit", "by", "title")  # what a figure has of the view
SCRIPTS = ("elements", "scores", "card", "text", "controls", "view")  # one module; each uses those before it


def _weights(scores: pd.DataFrame) -> str | None:
    """The scorer of a run's weights; beside them it records the probabilities of its tokens."""
    return next((name for name in dict.fromkeys(scores["scorer"]) if name != "probability"), None)


class TokenView(SavesFigure, Twin, anywidget.AnyWidget):
    """Answers as highlighted text: choose a scorer and a threshold, replay a run, search, sort, select a token.

    Hovering, switching and replaying need no kernel. Colours, scales and default thresholds are those of `token_view`,
    its static twin. A word is the text between spaces; its score is the mean of its tokens.

    Args:
        scores: a score table or its file, or a run; answer tokens are shown, every scorer at every step it has.
        samples: a task, its samples, a table of them, a run, or sample id -> (question, answer); a missing one is
            drawn from its tokens.
        tokens: a run's token table (`tokens.parquet`): adds the change in probability as a scorer, and to a token's
            card its probability, rank and the five most probable tokens before and after.
        curve: a run's events, drawn beside the step.
        scorer: the one shown first; the first of the table by default.
        threshold: tokens at or above it are selected; by default as many as are labelled, or the highest fifth.
        phases: what the two phases of `tokens` are called in a token's card.
        title: a heading.
        by: what colour goes by at first.

    Attributes:
        scorer: the scorer that is shown.
        step: the step of the run; a scorer without that step shows its newest one before it.
        threshold: of the scorer that is shown; None where it has none.
        unit: "token" or "word".
        by: what colour goes by, for all scorers: "value", "rank" or "logarithm".
        sort: "order", "score", and where they are known "disagreement" (of the scorers), "damage" (probability lost).
        search: samples without this text are hidden.
        scores: the score table.
        selected: the tokens that were clicked or chosen by keyboard (with Shift, several), each a dictionary:
            sample_id, position, token, span, its scores and the step that each is of, the newest up to `step`.

    Raises:
        UserError: a table without answer tokens, or a scorer it does not have.
    """

    twin_of = FEW
    twin_shows = ("by", "scorer", "title")
    _esm = script("keys", "save", *(f"token_view/{name}" for name in SCRIPTS))
    _css = styles("view", "token_view")

    head = traitlets.Dict().tag(sync=True)
    codes = traitlets.Bytes().tag(sync=True)
    books = traitlets.Bytes().tag(sync=True)
    details = traitlets.Bytes().tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    scorer = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    threshold = traitlets.Float(None, allow_none=True).tag(sync=True)
    unit = traitlets.Enum(UNITS, default_value="token").tag(sync=True)
    by = traitlets.Enum(BY, default_value="value").tag(sync=True)
    sort = traitlets.Unicode("order").tag(sync=True)
    search = traitlets.Unicode("").tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    selected: traitlets.List[dict[str, Any]] = traitlets.List()
    _notes: Mapping[Any, Sequence[str]] | None = None  # further lines about tokens, in the twin

    def __init__(
        self, scores: Scores, samples: Samples = None, *, title: str | None = None, by: By = "value", **more: Any
    ) -> None:
        super().__init__(title=title or "", by=check_by(by), **self._state(scores, samples, **more))
        self._named("wb-token-view")
        self._answer_saves()

    def _state(
        self,
        scores: Scores,
        samples: Samples = None,
        tokens: pd.DataFrame | None = None,
        curve: Sequence[Mapping[str, Any]] = (),
        scorer: str | None = None,
        threshold: float | None = None,
        phases: tuple[str, str] = ("before", "after"),
    ) -> dict[str, Any]:
        """The traits that show a table."""
        scores, samples = as_scores(scores), as_texts(samples)
        data = payload(scores, samples, tokens, curve, phases)
        layers = {layer["name"]: layer for layer in data.head["layers"]}
        if scorer is not None and scorer not in layers:
            raise unknown("scorer", scorer, list(layers))
        self.scores, self._samples, self._data = scores, samples, data
        first = layers[scorer or next(iter(layers))]
        return {
            "head": data.head,
            "codes": data.codes,
            "books": data.books,
            "details": data.details,
            "scorer": first["name"],
            "step": max(step for layer in layers.values() for step in layer["steps"]),
            "threshold": first["threshold"] if threshold is None else threshold,
            "chosen": [],
        }

    def show(self, scores: Scores, samples: Samples = None, **more: Any) -> None:
        """Show another table in the same place; arguments and errors as of the class, without `title`.

        Other scores of the same tokens leave those selected that are.
        """
        before = self._data
        state = self._state(scores, samples, **more)
        same = (before.index, before.tokens) == (self._data.index, self._data.tokens)
        if same:
            state["chosen"] = self.chosen
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)
            if same:
                self._select(None)  # the same tokens, with their new scores
        self.redraw_twin()

    @classmethod
    def of_run(cls, run: RunSource | Any, **more: Any) -> TokenView:
        """The forget answers of a run as it recorded them: its weights at every step, and each token's change.

        Args:
            run: its directory, its path, a `Job`, or what `unlearn` returned; the run may still be running.
            more: further arguments of the view.

        Raises:
            UserError: no run, or one that has recorded no scores yet.
        """
        if isinstance(made := getattr(run, "scores", None), pd.DataFrame):  # what `unlearn` returned
            return cls(made, **{"curve": getattr(run, "events", ()), "scorer": _weights(made), **more})
        run = run_directory(run)
        scores = as_scores(run)
        known = {"tokens": run.table("tokens.parquet"), "curve": run.events(), "scorer": _weights(scores)}
        return cls(scores, texts_of_run(run), **{**known, **more})

    @traitlets.observe("chosen", "step", "scorer")
    def _select(self, _: Any) -> None:
        self.selected = [self._token(token) for token in self.chosen if 0 <= token < len(self._data.index)]

    def _token(self, token: int) -> dict[str, Any]:
        sample, position = self._data.index[token]
        scores, steps = self._data.at(self.step, token)
        return {
            "sample_id": sample,
            "position": int(position),
            "token": self._data.tokens[token],
            "span": {"0": False, "1": True}.get(self.head["spans"][token]),
            "scores": scores,
            "steps": steps,
        }

    def select(self, sample_id: Any, position: int, *, add: bool = False) -> None:
        """Select a token, as a click does; with `add`, beside those that are selected, as Shift and a click do.

        Raises:
            UserError: there is no such token.
        """
        try:
            token = self._data.index.index((sample_id, position))
        except ValueError:
            raise UserError(f"no answer token at position {position} of sample '{sample_id}'") from None
        self.chosen = [*self.chosen, token] if add and token not in self.chosen else [token]

    def to_frame(self) -> pd.DataFrame:
        """What is shown, as a table: a row a token (or word) of the samples that the search leaves, in their order.

        Columns are `sample_id`, `position` (of a word, that of its first token), `token`, `span`, `score` (of the
        scorer and step that are shown; NaN where it has none) and `selected` (by the threshold).
        """
        layer = next(each for each in self.head["layers"] if each["name"] == self.scorer)
        rows = [(*key, text) for key, text in zip(self._data.index, self._data.tokens, strict=True)]
        frame = pd.DataFrame(rows, columns=["sample_id", "position", "token"])
        frame["span"] = pd.array([{"0": False, "1": True}.get(c) for c in self.head["spans"]], dtype="boolean")
        frame["score"] = self._data.scores_at(self.scorer, self.step)
        samples = {}
        for sample in self.head["samples"]:
            own = frame.iloc[sample["first"] : sample["first"] + len(sample["texts"])]
            whole = f"{plain_text(sample['ask'])}\n{''.join(own['token'])}".lower()
            if self.search.strip().lower() in whole:
                begins = np.array([c == "1" for c in sample["words"]]) if self.unit == "word" else True
                samples[sample["first"]] = own.assign(unit=np.cumsum(np.ones(len(own), int) * begins))
        kept = pd.concat(samples) if samples else frame.iloc[:0].assign(unit=0)
        whole_of = {"sample_id": "first", "position": "first", "token": "".join, "span": "max", "score": "mean"}
        shown = kept.groupby([kept.index.get_level_values(0), "unit"]).agg(whole_of).reset_index(drop=True)
        limit = np.nan if self.threshold is None else self.threshold
        over = shown["score"] <= limit if layer["falls"] else shown["score"] >= limit
        return shown.assign(selected=over)

    def to_html(self, *, max_samples: int = 24) -> str:
        """The static twin: the same text and scorers, a scorer's first and last step, as HTML without scripts."""
        scorer = None if self.scorer == CHANGE else self.scorer
        more: dict[str, Any] = {"title": self.title or None, "max_samples": max_samples, "by": self.by}
        return token_view(self.scores, self._samples, scorer=scorer, notes=self._notes, **more)

    def figure(self, sample_ids: Sequence[Any] | None = None, **shown: Any) -> TextFigure:
        """What is shown as a figure: scorer, step, threshold, words or tokens, search and order.

        The answers are by default the first 24 of those that are shown; `shown` is what the browser adds.

        Raises:
            UserError: a sample that there is not.
        """
        if sample_ids is None:
            sample_ids = visible(self._data, self.search, self.sort, self.scorer, self.step)[:SHOWN]
        choice: dict[str, Any] = {name: getattr(self, name) for name in LOOKS}
        return tokens_figure(self._data, **choice, sample_ids=sample_ids)

    def __repr__(self) -> str:
        names = ", ".join(layer["name"] for layer in self.head["layers"])
        return printable(
            f"TokenView({len(self.head['samples'])} samples, {len(self.head['spans'])} tokens; scorers: {names})"
        )
