"""What all widgets share: their style sheets, and the static twin that stands in where no widget can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.view.html import NO_FORMULAS, STATIC

FEW = {"max_samples": 12}  # answers in the copy that a saved notebook keeps of a long view


def styles(*names: str) -> str:
    """Style sheets of static/, one after the other."""
    return "\n".join((STATIC / f"{name}.css").read_text(encoding="utf-8") for name in names)


def script(*names: str) -> str:
    """One module of scripts of static/, each of which uses those before it."""
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


class Twin:
    """Mixed into a widget: puts its static twin into the notebook, shown where no widget can run."""

    twin_of: Mapping[str, Any] = {}  # arguments of `to_html` for the copy that a saved notebook keeps

    def _named(self, *classes: str) -> None:
        """Give the widget's element these classes, and those by which no formula is looked for in its texts."""
        for name in (*classes, *NO_FORMULAS.split()):
            self.add_class(name)  # type: ignore[attr-defined]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; where none can run (an untrusted or exported notebook) its twin, else a line of text."""
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        twin = self.to_html(**self.twin_of)  # type: ignore[attr-defined]
        return {**(data or {}), "text/plain": repr(self), "text/html": twin}, metadata
