"""What a command shows while it works: one progress line on standard error."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from tqdm import tqdm

from workbench.runs import heed


class Progress:
    """A bar for the steps of a run and one for each probe set; made when first told something."""

    shown: ClassVar[tqdm[Any] | None] = None  # the bar on the screen, whoever made it

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: tqdm[Any] | None = None
        self.what = ""

    def tell(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` of something is done; raises KeyboardInterrupt where Python dropped a Ctrl-C's."""
        heed()
        if self.quiet:
            return
        if self.bar is None or self.what != what:
            self.close()
            self.what, self.bar = what, tqdm(total=total, desc=what, file=sys.stderr, leave=True, mininterval=0.2)
            Progress.shown = self.bar
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.close()

    def hooks(self, steps: int) -> dict[str, Any]:
        """`on_step` and `progress` for a run of so many steps."""

        def on_step(event: dict[str, Any]) -> None:
            parts = [f"{k.split('_')[0]} {event[k]:.2f}" for k in ("forget_nll", "retain_nll") if k in event]
            self.tell("step", event["step"], steps, " ".join(parts))

        return {"on_step": on_step, "progress": self.tell}

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


def progress_hooks(steps: int, *names: str) -> dict[str, Any]:
    """Hooks that show progress on standard error."""
    hooks = Progress().hooks(steps)
    return {name: hooks[name] for name in names} if names else hooks


def table_line(rows: list[list[str]]) -> None:
    """Rows as aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def number(value: Any) -> str:
    """A metric's value, or that it has none."""
    return f"{value:.3f}" if isinstance(value, int | float) else "not available"
