"""What a command shows: one progress line on standard error, tables and numbers on standard output."""

from __future__ import annotations

import io
import math
import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import printable
from workbench.runs import heed

if TYPE_CHECKING:
    from tqdm import tqdm


LINE = 10_000  # the most characters of a line


def any_text() -> None:
    r"""Let standard output and error take any text: what their encoding lacks is printed as an escape (`\u2191`).

    Otherwise a terminal or pipe that is not UTF-8 ends a command with a traceback after all its work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Progress:
    """A progress bar for one thing at a time (`workbench.progress.Progress`); made when it is first called."""

    shown: ClassVar[tqdm[Any] | None] = None  # the bar on the screen, whoever made it

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.what = ""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is done; raises KeyboardInterrupt where Python dropped a Ctrl-C's."""
        heed()
        what, note = printable(what), printable(note)
        if self.bar is None or self.what != what:
            from tqdm import tqdm

            self.close()
            self.what, self.bar = what, tqdm(total=total, desc=what, file=sys.stderr, leave=True, mininterval=0.2)
            Progress.shown = self.bar
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.close()

    def of_steps(self, total: int) -> Callable[[dict[str, Any]], None]:
        """`on_step` for a run of `total` steps: the bar, and the losses beside it."""

        def on_step(event: dict[str, Any]) -> None:
            losses = [f"{k.split('_')[0]} {event[k]:.2f}" for k in ("forget_nll", "retain_nll") if k in event]
            self("step", event["step"], total, " ".join(losses))

        return on_step

    def close(self) -> None:
        """End the current bar."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.what = None, ""

    @classmethod
    def end_line(cls) -> None:
        """End the line of a bar that is still open, so that a message begins on a line of its own."""
        if cls.shown is not None:
            cls.shown.close()


def say(text: Any, *, error: bool = False) -> None:
    """Print a line, on standard error if it is no result; what ids and names hold cannot end it or move the cursor."""
    print(printable(str(text), LINE), file=sys.stderr if error else None)


def table_line(rows: list[list[str]]) -> None:
    """Print rows as aligned columns."""
    rows = [[printable(cell, LINE) for cell in row] for row in rows]
    encoding = sys.stdout.encoding or "utf-8"  # what is printed as an escape takes the escape's width
    rows = [[cell.encode(encoding, "backslashreplace").decode(encoding) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def finite(value: Any) -> Any:
    """A value as JSON takes it: in it, also in lists and dictionaries, null stands for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: Any) -> str:
    """A metric's value, or that it has none."""
    return f"{value:.3f}" if isinstance(value, int | float) else "not available"


class Plain:
    """An output in which nothing moves a terminal's cursor, changes its colours or the direction of its text.

    Ids, names and texts come from other people's files; a run's name may hold an escape sequence.
    """

    CONTROL = ("Cc", "Cf", "Zl", "Zp")

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text, with its control characters as escapes."""
        return int(self.stream.write(text if text.isprintable() else "".join(map(self._plain, text))))

    def _plain(self, character: str) -> str:
        control = unicodedata.category(character) in self.CONTROL and character not in "\n\t"
        return repr(character)[1:-1] if control else character

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
