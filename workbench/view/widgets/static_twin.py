"""What all widgets share: their style sheets, and the static twin that stands in where no widget can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from IPython.display import display, update_display
from markupsafe import Markup

from workbench.view.html import NO_FORMULAS, STATIC, render

VIEW = "application/vnd.jupyter.widget-view+json"
LIVE = "wb-widget"  # class of a widget that runs
PLACES = 8  # that keep up with the widget: a cell that is run again and again leaves more, which nobody sees
FEW = {"max_samples": 12}  # answers in the copy that a saved notebook keeps of a long view


def styles(*names: str) -> str:
    """Style sheets of static/, one after the other."""
    return "\n".join((STATIC / f"{name}.css").read_text(encoding="utf-8") for name in names)


def script(*names: str) -> str:
    """One module of scripts of static/, each of which uses those before it."""
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


class Twin:
    """Mixed into a widget, before its own base: displaying it leaves two outputs in the notebook, one of which is seen.

    The first is the static twin, the second the widget. Where the widget runs, the twin is hidden; where it cannot
    (no kernel and no saved state, a page made by nbconvert, GitHub), there is nothing in its place, and the twin is
    seen. Both by CSS that travels with the twin, `static/twin.css`, so that no script is needed. One output with both
    would not do: JupyterLab takes the widget of a notebook it trusts, and then finds no model.

    A widget gives `to_html(...)`, calls `_named(...)` when it is built, and names in `twin_shows` what its twin
    depends on; where that is no trait, it calls `redraw_twin()`.
    """

    twin_of: Mapping[str, Any] = {}  # arguments of `to_html` for the copy that a saved notebook keeps
    twin_shows: Sequence[str] = ()  # traits that, when they change, change the twin
    _displayed: tuple[str, ...] = ()  # ids of the twins in notebooks

    def _named(self, *classes: str) -> None:
        """Give the widget's element these classes, one by which the twin knows it, and those that allow no formulas."""
        for name in (*classes, LIVE, *NO_FORMULAS.split()):
            self.add_class(name)  # type: ignore[attr-defined]
        if self.twin_shows:
            self.observe(lambda _: self.redraw_twin(), list(self.twin_shows))  # type: ignore[attr-defined]

    def _twin(self) -> dict[str, str]:
        html = render("twin.still", html=Markup(self.to_html(**self.twin_of)))  # type: ignore[attr-defined]
        return {"text/plain": repr(self), "text/html": str(html)}

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, its twin and a line of text in one, for whoever asks for an object's formats (marimo)."""
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), **self._twin()}, metadata

    def _mime_(self) -> tuple[str, str]:
        """What marimo shows of a widget that is no anywidget, which it cannot run: the twin."""
        return "text/html", self._twin()["text/html"]

    def _ipython_display_(self) -> None:
        """Display the twin, and then the widget."""
        bundle = super()._repr_mimebundle_()  # type: ignore[misc]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        self._displayed = (*self._displayed, uuid4().hex)[-PLACES:]
        display(self._twin(), raw=True, display_id=self._displayed[-1])
        # Nothing in other formats: where the widget is not drawn, the twin above says it all.
        display({VIEW: data[VIEW], "text/html": ""}, metadata=metadata, raw=True)

    def redraw_twin(self) -> None:
        """Draw the twin anew in the places where the widget was displayed last; from any thread."""
        twin = self._twin() if self._displayed else {}
        for place in self._displayed:
            update_display(twin, raw=True, display_id=place)
