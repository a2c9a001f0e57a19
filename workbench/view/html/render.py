"""From templates to HTML: one jinja2 environment, in which every text is escaped and invisible characters get marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from workbench.errors import UserError
from workbench.evals import TRUST_SHORT
from workbench.view.html.definitions import arrow, lines, reach
from workbench.view.html.text import NOT_AVAILABLE, label, large, marked, number, value_of, visible, wrapping

STATIC = Path(__file__).parents[1] / "static"
NO_FORMULAS = "tex2jax_ignore mathjax_ignore"  # classes: notebooks typeset "$300 to $400" as a formula elsewhere


class Html(Markup):
    """HTML that a notebook shows where it is the last value of a cell, or where `display` gets it."""

    def _repr_html_(self) -> str:
        return str.__str__(self)

    def save(self, *_: Any, **__: Any) -> None:
        """Raise UserError: a static view is no figure; the message says what is."""
        raise UserError(
            "this is HTML, which no figure is made of: TokenView(...).save(...) and CompareView(...).save(...) make "
            "them; page(title, view) gives a whole page as text"
        )

    def __repr__(self) -> str:
        return f"<HTML of {len(self)} characters>"


class Indented(Extension):
    """Lets templates be indented: a line break and the indentation after it are a space between words, else nothing."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The source with each line break inside a comment, so that errors still name the right line."""

        def folded(gap: re.Match[str]) -> str:
            words = source[gap.start() - 1] not in ">}" and source[gap.end()] not in "<{"
            return "{#" + gap.group() + "#}" + " " * words

        source = source.strip()
        return re.sub(r"\n\s*", folded, source)


def _with_marks(value: Any) -> Any:
    """What is printed: text with its invisible characters marked, Markup and numbers as they are."""
    return marked(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def titled(rows: Sequence[str]) -> Markup:
    """Lines for a title attribute, in which a browser keeps the line breaks."""
    return Markup("&#10;").join(map(_with_marks, rows))


def style_sheet(name: str = "view") -> Html:
    """The style element of static/<name>.css."""
    return Html(f"<style>{(STATIC / f'{name}.css').read_text(encoding='utf-8')}</style>")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(STATIC.parent / "templates"),
        extensions=[Indented],
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_with_marks,
    )
    filters = (arrow, label, large, lines, number, reach, titled, visible, wrapping)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {"style_sheet": style_sheet, "value_of": value_of}
    environment.globals |= {"NOT_AVAILABLE": NOT_AVAILABLE, "NO_FORMULAS": NO_FORMULAS, "TRUST": TRUST_SHORT}
    return environment


def render(name: str, /, **values: Any) -> Html:
    """The HTML of a macro: `render("tables.cost", ...)` is `cost` in templates/tables.html.

    Strings are escaped; what is Markup already, such as the result of another `render`, stays as it is.
    """
    file, _, macro = name.partition(".")
    return Html(getattr(_environment().get_template(f"{file}.html").module, macro)(**values))


def page(title: str, body: Markup, *, subtitle: str = "") -> str:
    """A whole HTML document that makes no request; its one script switches between light and dark."""
    return f"<!doctype html>{render('parts.page', title=title, body=body, subtitle=subtitle)}\n"
