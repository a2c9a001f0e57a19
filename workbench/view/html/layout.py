"""What a run did to tokens and answers, as plain HTML strings; tables of cells, and the page around all views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view.html.markup import NOT_AVAILABLE, plain, style_sheet

# Change of each token ----------------------------------------------------------------------------------------------


# Answers ------------------------------------------------------------------------------------------------------------


# Tables -------------------------------------------------------------------------------------------------------------


def value_of(entry: Any) -> tuple[float | None, str]:
    """(value, reason) of a metric as stored: a number, or {"value": number or None, "reason": why}."""
    reason = ""
    if isinstance(entry, Mapping):
        entry, reason = entry.get("value"), str(entry.get("reason", ""))
    if entry is None or not math.isfinite(entry):
        return None, reason or "no finite value"
    return float(entry), ""


def label(name: str) -> str:
    """A column or metric name for people."""
    return plain(str(name).replace("_", " "))


def missing_cell(reason: str) -> str:
    """The cell of a value there is none of; the reason shows on hover."""
    return f'<span class="wb-none" title="{plain(reason)}">{NOT_AVAILABLE}</span>'


def row(first: str, cells: Sequence[str], name: str = "") -> str:
    """A row of ready HTML cells under a class; the first is its heading."""
    extra = f' class="{name}"' if name else ""
    return f'<tr{extra}><th scope="row">{first}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def grid(head: Sequence[str], lines: Sequence[str]) -> str:
    """A table of ready rows."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return f'<div class="wb-scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, last: str = "") -> str:
    """A table of ready HTML cells; `last` is the class of the last row."""
    names = [""] * (len(rows) - 1) + [last]
    return grid(head, [row(first, rest, name) for (first, *rest), name in zip(rows, names, strict=False)])


# Page ---------------------------------------------------------------------------------------------------------------

TOGGLE = (
    "<script>document.querySelector('.wb-theme').onclick=()=>{const r=document.documentElement,"
    "d=r.dataset.theme||(matchMedia('(prefers-color-scheme:dark)').matches?'dark':'light');"
    "r.dataset.theme=d==='dark'?'light':'dark'}</script>"
)


def page(title: str, body: str, *, subtitle: str = "") -> str:
    """A whole HTML document that asks nothing of anyone; its one script switches between light and dark."""
    sub = f'<p class="wb-sub">{plain(subtitle)}</p>' if subtitle else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{plain(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,">{style_sheet()}{style_sheet("page")}</head>'
        '<body class="wb-page"><main><header>'
        f'<button class="wb-theme" type="button">light / dark</button><h1>{plain(title)}</h1>{sub}</header>\n'
        f"{body}\n</main>{TOGGLE}</body></html>\n"
    )
