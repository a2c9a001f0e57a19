"""Interference between domains as a widget: damage beside prediction, and for a pair the tokens that carry it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UserError, printable, unknown
from workbench.evals import Interference
from workbench.runs import interfere, read_interference
from workbench.view.html import interference_view, pair_view, style_sheet
from workbench.view.widgets.static_twin import Twin, script, styles

KEPT = {"details": 2}  # in the copy that a saved notebook keeps


class InterferenceView(Twin, anywidget.AnyWidget):
    """Two maps of domains x domains: what forgetting one did to the others, beside what was predicted before.

    Hovering, switching and moving by keyboard need no kernel; the tokens of a pair do.

    Args:
        result: what `workbench.runs.interfere` returned, or the directory where it left it.
        title: a heading.

    Attributes:
        result: all numbers.
        metric: of the damage that is shown: "logp" or "accuracy".
        predictor: the one that is shown.
        chosen: the places [i, j] of the pair whose tokens are shown; empty for none.
        selected: the same by name, with its numbers; empty for none.

    Raises:
        UserError: the directory has no result, or it is damaged.
    """

    twin_of: Mapping[str, Any] = KEPT
    twin_shows = ("metric", "predictor", "chosen")
    _esm = script("keys", "token_view/elements", "interference")
    _css = styles("view", "linked", "interference")

    html = traitlets.Unicode().tag(sync=True)
    detail = traitlets.Unicode().tag(sync=True)
    metric = traitlets.Unicode("logp").tag(sync=True)
    predictor = traitlets.Unicode().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    selected = traitlets.Dict()

    def __init__(self, result: Interference | str | Path, *, title: str | None = None) -> None:
        self.result = result if isinstance(result, Interference) else read_interference(result)
        self.title = title
        drawn = interference_view(self.result, title=title, css=False, details=0)
        super().__init__(html=drawn, predictor=self.result.best())
        self._named("wb-interference-view")

    @traitlets.validate("metric", "predictor")
    def _known(self, proposal: Any) -> str:
        kind = proposal["trait"].name
        known = list(self.result.damage if kind == "metric" else self.result.predicted)
        if proposal["value"] not in known:
            raise unknown(kind, str(proposal["value"]), known)
        return str(proposal["value"])

    @traitlets.validate("chosen")
    def _there(self, proposal: Any) -> list[int]:
        pair = list(proposal["value"])
        sizes = (len(self.result.forgotten), len(self.result.measured))
        if pair and not (len(pair) == 2 and all(0 <= n < size for n, size in zip(pair, sizes, strict=True))):
            raise UserError(
                f"chosen is [i, j], of {sizes[0]} domains that were forgotten and {sizes[1]} that were measured"
            )
        return pair

    @traitlets.observe("chosen")
    def _explain(self, change: Any) -> None:
        if not self.chosen:
            self.detail, self.selected = "", {}
            return
        i, j = self.chosen
        names = self.result.forgotten[i], self.result.measured[j]
        values = {f"damage_{name}": float(self.result.mean(name)[i, j]) for name in self.result.damage}
        values |= {name: float(each[i, j]) for name, each in self.result.predicted.items()}
        self.selected = {"forgotten": names[0], "measured": names[1]} | values
        self.detail = pair_view(self.result, *names)

    def select(self, forgotten: str, measured: str) -> None:
        """Show the tokens of a pair of domains, by name.

        Raises:
            UserError: there is no such domain.
        """
        for name, known in ((forgotten, self.result.forgotten), (measured, self.result.measured)):
            if name not in known:
                raise unknown(self.result.by, name, known)
        self.chosen = [self.result.forgotten.index(forgotten), self.result.measured.index(measured)]

    def to_frame(self) -> pd.DataFrame:
        """A row a seed and pair of domains: damage, predictions, whether the level was reached."""
        return self.result.to_frame()

    def to_html(self, *, details: int = 3) -> str:
        """The static twin: the same maps without scripts, and the tokens of the chosen pair and of those hurt most."""
        chosen = (self.chosen[0], self.chosen[1]) if self.chosen else None
        return style_sheet() + interference_view(
            self.result, metric=self.metric, predictor=self.predictor, title=self.title, css=False, chosen=chosen,
            details=details,
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = self.result.summary(self.metric)
        return printable(f"InterferenceView({self.result.task} by {self.result.by}; {lines[0] if lines else ''})")


def interference(task: Any, by: str, model: str = "", *, title: str | None = None, **more: Any) -> InterferenceView:
    """Which domain hurts which: forget each alone, measure the others, beside what was predicted before.

    Args:
        task: by name, as a `TaskSpec`, or a `Config` of the runs.
        by: the field of the rows that makes the domains: person, attribute, phrasing, author, kind, ...
        model: by name.
        title: a heading.
        more: `objective`, `weights`, `level`, `seeds`, `out` and the rest, as of `workbench.runs.interfere`.

    Returns:
        A widget with the numbers: `result`, `to_frame()`, `select(forgotten, measured)`.

    Raises:
        UserError: a name is wrong, or there are not two domains; nothing is loaded then.
    """
    return InterferenceView(interfere(task, by, model, **more), title=title)
