"""The rows that a run is most likely to hurt, in the form of a run: looked at, and added to its retain set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ipywidgets as widgets

from workbench.errors import UserError
from workbench.runs import at_risk
from workbench.tasks import TaskSpec
from workbench.view.html import render, shortened
from workbench.view.widgets.run_status import error_html

FIRST = "20"  # rows that are offered
SHOWN = 12  # rows whose text is shown
LONG = 110  # characters of a row


class RiskBox(widgets.VBox):
    """Which rows to be kept are most at risk, and a button that lets the run rehearse them, too.

    Args:
        task: gives the task of the form.
        change: called with that task when rows were added or taken out.

    Attributes:
        count: how many rows are offered.
        add: adds them to the retain set.
        clear: takes out all that were added.
    """

    def __init__(self, task: Callable[[], TaskSpec], change: Callable[[TaskSpec], None]) -> None:
        self._task, self._change = task, change
        self.count = widgets.Text(value=FIRST, description="rows", tooltip="how many of the rows at risk are added")
        self.add = widgets.Button(
            description="Add these to the retain set", tooltip="let the run rehearse the rows most at risk"
        )
        self.clear = widgets.Button(description="Take them out", tooltip="rehearse only the task's own retain set")
        self.rows = widgets.HTML()
        self.count.add_class("wb-count")
        self.count.observe(lambda _: self.show(), "value")
        self.add.on_click(lambda _: self._set(added=True))
        self.clear.on_click(lambda _: self._set(added=False))
        super().__init__([widgets.HBox([self.count, self.add, self.clear]).add_class("wb-buttons"), self.rows])

    def show(self) -> None:
        """Rank the rows of the task that is in the form, and show the first; what is wrong is shown instead."""
        try:
            spec, count = self._task(), self._count()
            risk = at_risk(replace(spec, keep=()))
            rows = risk.rows[~risk.rows["rehearsed"]].head(count).to_dict("records")
        except UserError as error:
            self.rows.value, self.add.disabled = error_html(str(error)), True
            return
        self.add.disabled, self.clear.disabled = not rows, not spec.keep
        texts = [(r["set"], shortened(f"{r['question']} {r['answer']}".strip(), LONG)) for r in rows[:SHOWN]]
        self.rows.value = render(
            "run.risk", rows=texts, more=max(0, len(rows) - SHOWN), note=f"by {risk.predictor}: {risk.note}",
            kept=len(spec.keep),
        )  # fmt: skip

    def _count(self) -> int:
        text = self.count.value.strip()
        if not (text.isdecimal() and 1 <= int(text) <= 10**6):
            raise UserError(f"rows: '{text}' is no whole number of at least 1")
        return int(text)

    def _set(self, *, added: bool) -> None:
        try:
            plain = replace(self._task(), keep=())
            self._change(at_risk(plain).spec(self._count()) if added else plain)
        except UserError as error:
            self.rows.value = error_html(str(error))
        else:
            self.show()
