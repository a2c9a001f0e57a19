"""The retention matrix as a widget: a click on a cell opens the answers that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import pandas as pd
import traitlets
from markupsafe import Markup

from workbench.errors import UserError, printable, unknown
from workbench.view.charts import Chart, retention_chart
from workbench.view.html import render, retention_view, style_sheet
from workbench.view.sequence_view import SequenceSource, cell_detail, sequence_directory
from workbench.view.widgets.saving import SavesFigure
from workbench.view.widgets.static_twin import Twin, script, styles

FEW = {"max_samples": 4}  # answers of the cell in the copy that a saved notebook keeps


class RetentionView(SavesFigure, Twin, anywidget.AnyWidget):
    """What is left of every set after every request; hovering and moving need no kernel, opening a cell does.

    Args:
        sequence: what `wb.sequence` returns, or its directory.
        metric: of the matrix; the usual one by default.
        title: a heading.
        max_samples: at most so many answers of the cell that is open.

    Attributes:
        retention: the matrix that is shown, with its numbers.
        metric: of the matrix.
        seed: whose answers a cell opens, as text; the matrix is of all seeds.
        chosen: requests so far and column of the cell that is open; empty for none.
        selected: the same in words: after, set, value, change; empty for none.

    Raises:
        UserError: it is no sequence, no seed of it is done, or it has no such metric.
    """

    twin_of: Mapping[str, Any] = FEW
    twin_shows = ("html", "detail")
    _esm = script("keys", "save", "token_view/elements", "retention")
    _css = styles("view", "linked", "retention")

    html = traitlets.Unicode().tag(sync=True)
    detail = traitlets.Unicode("").tag(sync=True)
    metrics = traitlets.List(traitlets.Unicode()).tag(sync=True)
    metric = traitlets.Unicode().tag(sync=True)
    seeds = traitlets.List(traitlets.Unicode()).tag(sync=True)
    seed = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    selected = traitlets.Dict()

    def __init__(
        self, sequence: SequenceSource, *, metric: str | None = None, title: str | None = None, max_samples: int = 8
    ) -> None:
        self.sequence, self.title, self._most = sequence_directory(sequence), title, max_samples
        self.retention = self.sequence.retention(metric)
        seeds = [str(seed) for seed in self.retention.seeds]
        shown = {"metrics": self.sequence.metrics(), "metric": self.retention.metric, "html": self._drawn()}
        super().__init__(**shown, seeds=seeds, seed=seeds[0])
        self._named("wb-retention-view")
        self._answer_saves()

    def _drawn(self) -> str:
        return str(retention_view(self.retention, title=self.title, css=False))

    @traitlets.validate("metric")
    def _known_metric(self, proposal: Any) -> str:
        if proposal.value not in self.metrics:
            raise unknown("metric of the sequence", str(proposal.value), list(self.metrics))
        return str(proposal.value)

    @traitlets.validate("seed")
    def _known_seed(self, proposal: Any) -> str:
        if proposal.value not in self.seeds:
            raise UserError(f"the seeds are {', '.join(self.seeds)}; not '{printable(str(proposal.value))}'")
        return str(proposal.value)

    @traitlets.validate("chosen")
    def _known_cell(self, proposal: Any) -> list[int]:
        states, sets = self.retention.values.shape[1:]
        if proposal.value and not (
            len(proposal.value) == 2 and 0 <= proposal.value[0] < states and 0 <= proposal.value[1] < sets
        ):
            raise UserError(f"a cell is [requests so far, column], 0 to {states - 1} and 0 to {sets - 1}; [] for none")
        return list(proposal.value)

    @traitlets.observe("metric")
    def _other_metric(self, _: Any) -> None:
        self.retention = self.sequence.retention(self.metric)
        with self.hold_sync():
            self.html = self._drawn()
            self._open(None)

    @traitlets.observe("chosen", "seed")
    def _open(self, _: Any) -> None:
        if not self.chosen:
            self.detail, self.selected = "", {}
            return
        after, column = self.chosen
        self.detail = str(self._cell(self._most))
        values = self.retention.mean()
        value, before = float(values[after, column]), float(values[0, column])
        self.selected = {"after": after, "set": self.retention.sets[column], "value": value, "change": value - before}

    def _cell(self, count: int) -> Markup:
        after, column = self.chosen
        return cell_detail(self.sequence, after, column, seed=int(self.seed), max_samples=count)

    def select(self, after: int, set_: str) -> None:
        """Open a cell, as a click does: a set after so many requests.

        Raises:
            UserError: there is no such set or state.
        """
        if set_ not in self.retention.sets:
            raise unknown("set of the sequence", set_, list(self.retention.sets))
        self.chosen = [after, self.retention.sets.index(set_)]

    def to_frame(self) -> pd.DataFrame:
        """The matrix as a table, a row a seed, state and set; see `Retention.to_frame`."""
        return self.retention.to_frame()

    def figure(self, **shown: Any) -> Chart:
        """The matrix as a chart: for `.svg`, `.pdf` and `.png`."""
        return retention_chart(self.retention)

    def to_html(self, *, max_samples: int | None = None) -> str:
        """The static twin: the same matrix without scripts, and the answers of the cell that is open."""
        chosen = (self.chosen[0], self.chosen[1]) if self.chosen else None
        html = retention_view(self.retention, chosen=chosen, title=self.title, css=False)
        detail = self._cell(max_samples or self._most) if self.chosen else Markup()
        return style_sheet() + style_sheet("linked") + render("retention.twin", html=html, detail=detail)

    def __repr__(self) -> str:
        return printable(f"RetentionView({len(self.retention.requests)} requests, {self.metric})")
