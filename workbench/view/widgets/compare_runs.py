"""Two or more runs side by side as a widget: a click on a point of the trade-off opens the run's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets
from markupsafe import Markup

from workbench.errors import UserError, printable, unknown
from workbench.view.charts import tradeoff_chart
from workbench.view.compared_html import compared_sections
from workbench.view.compared_runs import plotted_metric, read_runs, shared_answers
from workbench.view.figures import Savable, answers_of_runs
from workbench.view.html import render, style_sheet
from workbench.view.run_source import RunSource
from workbench.view.widgets.saving import SavesFigure
from workbench.view.widgets.static_twin import Twin, script, styles


class CompareRuns(SavesFigure, Twin, anywidget.AnyWidget):
    """Runs side by side: forgetting against damage, the same answers under each, metrics, costs, settings that differ.

    A point of the plot opens its run's answers. What of a run is damaged is said, and the others go on.

    Args:
        runs: two or more: directories, paths, or jobs.
        metric: of the plot; by default fact accuracy where the runs have it.
        max_samples: at most so many answers of each probe set.

    Attributes:
        chosen: the letter of the run whose answers are shown; empty for all.

    Raises:
        UserError: fewer than two runs, one twice, something that is no run, or a metric that no run has.
    """

    _esm = script("keys", "save", "token_view/elements", "compare_runs")
    _css = styles("view", "compared")
    html = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

    def __init__(self, runs: Sequence[RunSource], *, metric: str | None = None, max_samples: int = 8) -> None:
        self.runs = read_runs(runs)
        self._metric, self._most = plotted_metric(self.runs, metric), max_samples
        sections = compared_sections(self.runs, metric=metric, max_samples=max_samples)
        super().__init__(html=render("compared.parts", sections=sections))
        self._named("wb-compare-runs")
        self._answer_saves()

    @traitlets.validate("chosen")
    def _letter(self, proposal: Any) -> str:
        letters = [run.letter for run in self.runs]
        if proposal["value"] and proposal["value"] not in letters:
            raise unknown("run", str(proposal["value"]), letters)
        return str(proposal["value"])

    def figure(self, part: str = "tradeoff", **shown: Any) -> Savable:
        """The trade-off as a chart, or (`part` "answers") the same answers under each run, or the chosen one.

        Raises:
            UserError: another part, or one that the runs do not have.
        """
        if part == "answers":
            answers, _ = shared_answers(self.runs, self._most)
            if not answers:
                raise UserError("the runs have no answer in common")
            names = {run.letter: run.name for run in self.runs if self.chosen in ("", run.letter)}
            return answers_of_runs(answers, names)
        if part != "tradeoff" or self._metric is None:
            raise UserError(f"there is no {printable(part)} to save; there may be tradeoff and answers")
        sets = [(phase, name) for phase in ("before", "after") for name in ("forget", "retain")]
        whole = {
            f"{run.letter}: {run.name}": run.metrics
            for run in self.runs
            if all(run.value(*each, self._metric)[0] is not None for each in sets)
        }
        return tradeoff_chart(whole, self._metric)

    def to_html(self) -> str:
        """The static twin: the same content without scripts; a point of the plot leads to the answers."""
        twin = render("compared.twin", html=Markup(self.html))  # put together from templates, which escape
        return style_sheet() + style_sheet("compared") + twin

    def __repr__(self) -> str:
        return printable(f"CompareRuns({', '.join(f'{run.letter}: {run.name}' for run in self.runs)})")
