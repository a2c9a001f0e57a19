"""Highlighted text in a terminal; where there is none, a table of tokens and numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.console import LINE, finite, say, table_line
from workbench.cli.figure import check_figure
from workbench.errors import UserError, printable
from workbench.files import writable, write_text

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.widgets import TokenView

CUBE = (0, 95, 135, 175, 215, 255)  # the values of a channel in the 256 colours of terminals


def show(view: TokenView) -> None:
    """Print a view: its text in colours, a scorer after the other, or a table where colours cannot be shown."""
    stream = getattr(sys.stdout, "stream", sys.stdout)  # under what takes control characters out of all texts
    if stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        for line in _lines(view):
            stream.write(line + "\n")
        stream.flush()
    else:
        _table(view)


def _lines(view: TokenView) -> list[str]:
    """The text under each scorer as lines with colours; all that is of the text is printable."""
    from workbench.view.html import as_texts, by_sample, cuts, layers_of, number

    tokens, layers, _ = layers_of(view.scores, by=view.by)
    texts, groups, lines = as_texts(view._samples), by_sample(tokens), []
    for layer in layers:
        low, high = ("", "") if layer.scale is None else (number(layer.scale.low), number(layer.scale.high))
        lines.append(f"\x1b[1m{printable(layer.name)}\x1b[0m {low} to {high}, colour by {view.by}")
        for sample, part in groups.items():
            question, answer = texts.get(sample, ("", None))
            if question:
                lines.append(f"\x1b[2m{printable(question, LINE)}\x1b[0m")
            values = layer.scores.reindex(part.index).to_numpy(dtype=float)
            out = []
            for row, gap, text in cuts(part, answer):
                level = layer.scale.level(values[row]) if layer.scale and row >= 0 else 0
                out.append(_plain(gap) + _coloured(_plain(text), level))
            lines.append("".join(out))
    return lines


def _plain(text: str) -> str:
    """Text in which nothing moves the cursor, but for line breaks."""
    return "".join(c if c.isprintable() or c in "\n " else repr(c)[1:-1] for c in text)


def _coloured(text: str, level: int) -> str:
    """Text on the colour of a step over white, in black: the same in light and dark terminals."""
    from workbench.view.html import BLUE, ORANGE, alpha

    if not level or not text:
        return text
    channels = [255 - alpha(level) * (255 - int(c)) for c in (BLUE if level < 0 else ORANGE).split(",")]
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        colour = "2;" + ";".join(f"{c:.0f}" for c in channels)
    else:
        near = [min(range(6), key=lambda i, c=c: abs(CUBE[i] - c)) for c in channels]  # type: ignore[misc]
        colour = f"5;{16 + 36 * near[0] + 6 * near[1] + near[2]}"
    return f"\x1b[48;{colour};38;5;16m{text}\x1b[0m"


def _table(view: TokenView) -> None:
    """A row a token, a column a scorer."""
    answers = view.scores[view.scores["segment"] == "answer"]
    wide = answers.set_index(["sample_id", "position", "scorer"])["score"].unstack("scorer", sort=False)
    wide = wide[list(dict.fromkeys(answers["scorer"]))]
    tokens: pd.Series = answers.drop_duplicates(["sample_id", "position"]).set_index(["sample_id", "position"])["token"]
    rows = [["token", *map(str, wide.columns)]]
    for key, values in wide.iterrows():
        text = tokens[key]
        rows.append([repr(text) if text else "(end)", *(f"{v:.3f}" if v == v else "not available" for v in values)])
    table_line(rows)


def records(view: TokenView) -> list[dict[str, Any]]:
    """The scores as JSON: a row a token and scorer."""
    rows = view.scores[["sample_id", "segment", "position", "token", "start", "end", "scorer", "score"]]
    return finite(rows.to_dict("records"))


def source(text: str | None, file: Path | None, question: str | None, html: Path | None, figure: Path | None) -> Any:
    """TEXT or FILE, after checking that one thing is named, and that the page and the figure can be written."""
    if sum(each is not None for each in (text, file, question)) != 1:
        raise UserError("give one of TEXT, --file FILE, or --question with --answer")
    if html:
        writable(html)
    check_figure(figure)
    return file if text is None else text


def save(view: TokenView, html: Path | None, title: str, figure: Path | None) -> None:
    """Write the view as a page that opens without a server, and as a figure, where these are asked for."""
    from markupsafe import Markup

    from workbench.view.html import page

    if html:
        write_text(html, page(title, Markup(view.to_html(max_samples=10_000))))
        say(html)
    if figure:
        say(view.save(figure))
