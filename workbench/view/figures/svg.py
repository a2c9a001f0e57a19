"""A sheet as SVG: text as text, each line of it one element whose words are at their places."""

from __future__ import annotations

from workbench.view.figures.layout import FAMILY, Sheet
from workbench.view.html import render

FONTS = f"'{FAMILY}', Verdana, sans-serif"  # Verdana is as wide, and where the first is not


def svg(sheet: Sheet, name: str) -> str:
    """The document; `name` is its accessible title."""
    body = render("figure.svg", sheet=sheet, name=name, fonts=FONTS)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
