"""The token view as a widget: highlighted text whose scorer, threshold and step are chosen in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UserError, printable, unknown
from workbench.runs import RunDirectory
from workbench.view.figures import TextFigure, tokens_figure, visible
from workbench.view.html import Samples, as_scores, as_texts, texts_of, token_view
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.saving import SHOWN, SavesFigure
from workbench.view.widgets.static_twin import FEW, Twin, script, styles
from workbench.view.widgets.token_payload import CHANGE, payload

UNITS = ("token", "word")
LOOKS = ("scorer", "step", "threshold", "unit", "by", "title")  # what a figure has of the view
SCRIPTS = ("elements", "scores", "card", "text", "controls", "view")  # one module; each uses those before it


def samples_of(run: RunDirectory) -> dict[Any, tuple[str, str]]:
    """Question and answer of a run's forget samples; of those it probed, where its task is gone or another by now."""
    try:
        task = run.read_config().task.load(lambda line: None)
        if run.config.get("data_sha256", task.fingerprint) != task.fingerprint:
            raise UserError("the task has changed since the run")
        return {s.id: (s.question, s.answer) for s in task.forget}
    except (UserError, OSError):
        probes = run.table("probes.parquet")
        return {} if probes is None else texts_of(probes, "forget")


class TokenView(SavesFigure, Twin, anywidget.AnyWidget):
    """Answers as highlighted text: choose a scorer and a threshold, replay a run, search, sort, select a token.

    Hovering, switching and replaying need no kernel. Colours, scales and default thresholds are those of `token_view`,
    its static twin. A word is the text between spaces; its score is the mean of its tokens.

    Args:
        scores: a score table or its file; answer tokens are shown, every scorer at every step it has.
        samples: a task, its samples, or sample id -> (question, answer); a missing one is drawn from its tokens.
        tokens: a run's token table (`tokens.parquet`): adds the change in probability as a scorer, and to a token's
            card its probability, rank and the five most probable tokens before and after.
        curve: a run's events, drawn beside the step.
        scorer: the one shown first; the first of the table by default.
        threshold: tokens at or above it are selected; by default as many as are labelled, or the highest fifth.
        title: a heading.

    Attributes:
        scorer: the scorer that is shown.
        step: the step of the run; a scorer without that step shows its newest one before it.
        threshold: of the scorer that is shown; None where it has none.
        unit: "token" or "word".
        sort: "order", "score", and where they are known "disagreement" (of the scorers), "damage" (probability lost).
        search: samples without this text are hidden.
        selected: the token that was clicked or chosen by keyboard: sample_id, position, token, span, its scores and the
            step that each is of, the newest up to `step`; empty where none is.

    Raises:
        UserError: a table without answer tokens, or a scorer it does not have.
    """

    twin_of = FEW
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
    sort = traitlets.Unicode("order").tag(sync=True)
    search = traitlets.Unicode("").tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    selected = traitlets.Dict()

    def __init__(self, scores: pd.DataFrame, samples: Samples, *, title: str | None = None, **more: Any) -> None:
        super().__init__(title=title or "", **self._state(scores, samples, **more))
        self._named("wb-token-view")
        self._answer_saves()

    def _state(
        self,
        scores: pd.DataFrame,
        samples: Samples,
        tokens: pd.DataFrame | None = None,
        curve: Sequence[Mapping[str, Any]] = (),
        scorer: str | None = None,
        threshold: float | None = None,
    ) -> dict[str, Any]:
        """The traits that show a table."""
        scores, samples = as_scores(scores), as_texts(samples)
        data = payload(scores, samples, tokens, curve)
        layers = {layer["name"]: layer for layer in data.head["layers"]}
        if scorer is not None and scorer not in layers:
            raise unknown("scorer", scorer, list(layers))
        self._scores, self._samples, self._data = scores, samples, data
        first = layers[scorer or next(iter(layers))]
        return {
            "head": data.head,
            "codes": data.codes,
            "books": data.books,
            "details": data.details,
            "scorer": first["name"],
            "step": max(step for layer in layers.values() for step in layer["steps"]),
            "threshold": first["threshold"] if threshold is None else threshold,
            "chosen": -1,
        }

    def show(self, scores: pd.DataFrame, samples: Samples, **more: Any) -> None:
        """Show another table in the same place; arguments and errors as of the class, without `title`."""
        state = self._state(scores, samples, **more)
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)

    @classmethod
    def of_run(cls, run: RunSource, **more: Any) -> TokenView:
        """The forget answers of a run as it recorded them: its weights at every step, and each token's change.

        Args:
            run: its directory, its path, or a `Job`; the run may still be running.
            more: further arguments of the view.

        Raises:
            UserError: no run, or one that has recorded no scores yet.
        """
        run = run_directory(run)
        scores = run.table("scores.parquet")
        if scores is None:
            raise UserError(f"{run.path} has recorded no scores yet; a run does at its first checkpoint and at its end")
        weights = [name for name in dict.fromkeys(scores["scorer"]) if name != "probability"]
        known = {"tokens": run.table("tokens.parquet"), "curve": run.events(), "scorer": next(iter(weights), None)}
        return cls(scores, samples_of(run), **{**known, **more})

    @traitlets.observe("chosen", "step", "scorer")
    def _select(self, _: Any) -> None:
        if not 0 <= self.chosen < len(self._data.index):
            self.selected = {}
            return
        sample, position = self._data.index[self.chosen]
        scores, steps = self._data.at(self.step, self.chosen)
        self.selected = {
            "sample_id": sample,
            "position": int(position),
            "token": self._data.tokens[self.chosen],
            "span": {"0": False, "1": True}.get(self.head["spans"][self.chosen]),
            "scores": scores,
            "steps": steps,
        }

    def select(self, sample_id: Any, position: int) -> None:
        """Select a token, as a click does.

        Raises:
            UserError: there is no such token.
        """
        try:
            self.chosen = self._data.index.index((sample_id, position))
        except ValueError:
            raise UserError(f"no answer token at position {position} of sample '{sample_id}'") from None

    def to_html(self, *, max_samples: int = 24) -> str:
        """The static twin: the same text and scorers, a scorer's first and last step, as HTML without scripts."""
        scorer = None if self.scorer == CHANGE else self.scorer
        return token_view(self._scores, self._samples, scorer=scorer, title=self.title or None, max_samples=max_samples)

    def figure(self, sample_ids: Sequence[Any] | None = None, **shown: Any) -> TextFigure:
        """What is shown as a figure: scorer, step, threshold, words or tokens, search and order.

        Args:
            sample_ids: of which answers; by default the first 24 of those that are shown.
            shown: what the browser adds.

        Raises:
            UserError: a sample that there is not.
        """
        if sample_ids is None:
            sample_ids = visible(self._data, self.search, self.sort, self.scorer, self.step)[:SHOWN]
        choice: dict[str, Any] = {name: getattr(self, name) for name in LOOKS if self.has_trait(name)}
        return tokens_figure(self._data, **choice, sample_ids=sample_ids)

    def __repr__(self) -> str:
        names = ", ".join(layer["name"] for layer in self.head["layers"])
        return printable(
            f"TokenView({len(self.head['samples'])} samples, {len(self.head['spans'])} tokens; scorers: {names})"
        )
