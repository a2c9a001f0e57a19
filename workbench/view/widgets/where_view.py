"""Where a fact still is, as a widget: layers and tokens of three models, linked to the views of the same answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UserError, printable
from workbench.evals import Where, most_left
from workbench.runs import Job, where_maps
from workbench.view.charts import Chart, where_chart
from workbench.view.html import VALUES, shortened, style_sheet, where_view
from workbench.view.widgets.saving import SavesFigure
from workbench.view.widgets.static_twin import Twin, script, styles

if TYPE_CHECKING:
    from workbench.view.widgets.linked import BeforeAfter
    from workbench.view.widgets.token_view import TokenView

SHOWN = {"max_samples": 3}  # in the copy that a saved notebook keeps
LABEL = 90  # characters of an answer in the list of answers


class WhereView(SavesFigure, Twin, anywidget.AnyWidget):
    """In which layers a fact survives: a row a token, a column a layer, for the models before, run and retain-only.

    Hovering, switching the value and moving by keyboard need no kernel; another answer does.

    Args:
        maps: of one answer or several, as `workbench.runs.where_maps` gives them.
        title: a heading.

    Attributes:
        maps: of all answers.
        answer: the place in `maps` of the one that is shown.
        value: "logp", "rank" or "uds".
        chosen: the place of the token that is selected; -1 where none is.
        selected: the token that was clicked or chosen by keyboard: sample_id, position, token, fact, and the values of
            each model by layer; empty where none is.

    Raises:
        UserError: there are no maps.
    """

    twin_of: Mapping[str, Any] = SHOWN
    twin_shows = ("html", "value", "chosen")
    _esm = script("keys", "save", "token_view/elements", "where")
    _css = styles("view", "linked", "where")

    html = traitlets.Unicode().tag(sync=True)
    answers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    answer = traitlets.Int(0).tag(sync=True)
    value = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    selected = traitlets.Dict()

    def __init__(self, maps: Where | Sequence[Where], *, title: str | None = None) -> None:
        self.maps = [maps] if isinstance(maps, Where) else list(maps)
        if not self.maps:
            raise UserError("there are no maps: attack the run with logit_lens and uds, or name an answer")
        self.title = title
        labels = [printable(shortened(f"{m.sample_id}: {m.answer}", LABEL)) for m in self.maps]
        lens = any(m.lenses for m in self.maps)
        super().__init__(answers=labels, value="logp" if lens else "uds", html=self._drawn(0))
        self._named("wb-where-view")
        self._answer_saves()

    @property
    def where(self) -> Where:
        """The maps of the answer that is shown."""
        return self.maps[self.answer]

    def _drawn(self, answer: int) -> str:
        return str(where_view(self.maps[answer], title=self.title, css=False))

    @traitlets.validate("answer")
    def _known(self, proposal: Any) -> int:
        if not 0 <= proposal.value < len(self.maps):
            raise UserError(f"there is no answer {proposal.value}: the answers are numbered 0 to {len(self.maps) - 1}")
        return int(proposal.value)

    @traitlets.validate("value")
    def _a_value(self, proposal: Any) -> str:
        if proposal.value not in VALUES:
            raise UserError(f"value is {', '.join(VALUES)}; not '{printable(str(proposal.value))}'")
        return str(proposal.value)

    @traitlets.observe("answer")
    def _other(self, _: Any) -> None:
        with self.hold_sync():
            self.chosen, self.html = -1, self._drawn(self.answer)

    @traitlets.observe("chosen")
    def _select(self, _: Any) -> None:
        where, i = self.where, self.chosen
        if not 0 <= i < len(where.tokens):
            self.selected = {}
            return
        values: dict[str, dict[str, list[float]]] = {}
        for model in where.models:
            lens, depths = where.lenses.get(model), where.depths(model)
            values[model] = {} if lens is None else {"logp": lens.logp[:, i].tolist(), "rank": lens.rank[:, i].tolist()}
            values[model] |= {} if depths is None else {"uds": depths[:, i].tolist()}
        about = {"sample_id": where.sample_id, "position": where.positions[i], "token": where.tokens[i]}
        self.selected = about | {"fact": where.facts[i], "values": values}

    def select(self, sample_id: Any, position: int) -> None:
        """Select a token, as a click does; of another answer, show that one.

        Raises:
            UserError: there is no such token.
        """
        places = [n for n, each in enumerate(self.maps) if each.sample_id == sample_id]
        if not places or position not in self.maps[places[0]].positions:
            raise UserError(f"no answer token at position {position} of sample '{printable(str(sample_id))}'")
        self.answer = places[0]
        self.chosen = self.where.positions.index(position)

    def link(self, view: TokenView | BeforeAfter) -> WhereView:
        """Select here what is selected in a view of the same answers, and the other way round; returns itself."""
        for one, other in ((view, self), (self, view)):
            one.observe(lambda change, other=other: _follow(other, change["new"]), "selected")
        _follow(self, view.selected)
        return self

    def to_frame(self) -> pd.DataFrame:
        """All maps as a table, a row an answer, model, layer (from 1) and token; see `Where.to_frame`."""
        return pd.concat([each.to_frame() for each in self.maps], ignore_index=True)

    def figure(self, **shown: Any) -> Chart:
        """The map that is shown, by the value that is shown, as a chart: for `.svg`, `.pdf` and `.png`."""
        return where_chart(self.where, self.value)

    def to_html(self, *, max_samples: int | None = None) -> str:
        """The static twin: the same maps, first of the answer that is shown, then of those of which most is left."""
        first = self.where
        maps = [first, *(m for m in most_left(self.maps, len(self.maps)) if m is not first)][:max_samples]
        view = where_view(maps, value=self.value, title=self.title, css=False, chosen=self.chosen)
        return style_sheet() + view

    def __repr__(self) -> str:
        return printable(f"WhereView({len(self.maps)} answers; {self.where.sample_id}: {self.where.summary()[0]})")


def _last(selected: Any) -> Mapping[str, Any]:
    """The token that is selected in a view, of several the last; empty where none is."""
    return (selected[-1] if selected else {}) if isinstance(selected, list) else selected


def _follow(view: Any, selected: Any) -> None:
    """Select in a view what is selected in another; what it does not have is left alone."""
    token, own = _last(selected), _last(view.selected)
    with contextlib.suppress(UserError):
        if not token:
            view.chosen = view.trait_defaults("chosen")
        elif token.get("probe_set", "forget") != "forget":  # maps are of the forget set
            return
        elif any(own.get(key) != token[key] for key in ("sample_id", "position")):
            view.select(token["sample_id"], token["position"])


def where(
    target: Any,
    answer: str | int | Sequence[str | int] | None = None,
    *,
    reference: Any = None,
    title: str | None = None,
    **more: Any,
) -> WhereView:
    """Where a fact still is: in which layers, for which token, of the model before, the run and a retain-only model.

    Args:
        target: a run, its directory, a `Job`, a model, or models: `{"run": ..., "before": ..., "retain_only": ...}`.
        answer: by its id or by its number from 1, or several; by default those that the run's attacks left maps of.
        reference: a retain-only model, or a run that left one; without one there is no UDS.
        title: a heading.
        more: `before`, `task` and `style`, as of `workbench.runs.where_maps`.

    Returns:
        A widget with the numbers: `to_frame()`, `maps`, `link(view)`.

    Raises:
        UserError: no such answer, model or task; or the model's layers are not found.
    """
    target = target.directory if isinstance(target, Job) else target
    return WhereView(where_maps(target, answer, reference=reference, **more), title=title)
