"""What can go wrong: errors a user can put right, what a model or task cannot have, values that are not available."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing_extensions import TypeIs

NOT_FINITE = "the model's logits are not finite"  # why nothing is available of a broken model


class UserError(ValueError):
    """Something the user can put right: one line that says what is wrong and what to do."""

    def __init__(self, text: object = "") -> None:
        super().__init__(" ".join(str(text).splitlines()))


class UnsupportedError(UserError):
    """What this model or task cannot have, whatever is set; where everything is asked for, it is left out."""


class NotAvailable(Exception):
    """Why one value cannot be had (a metric of a set, a sample's scores); the others go on."""


def unknown(kind: str, name: str, known: list[str]) -> UserError:
    """The error for a name that is not in `known`, with the nearest known names."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} '{name}': {hint}")


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise `unknown` for a name that is not known."""
    if name not in (names := list(known)):
        raise unknown(kind, name, names)


def check_least(least: int, **options: int) -> None:
    """Raise for an option that is below the least value that it can have."""
    for name, value in options.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")


def printable(text: str, limit: int = 600) -> str:
    """Text on one line of at most `limit` characters, with nothing in it that a terminal would obey."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def one_line(error: BaseException, limit: int = 600) -> str:
    """What an error says, all of it on one line of at most `limit` characters; its kind where it says nothing."""
    return printable(str(error), limit) or type(error).__name__


def note(line: str) -> None:
    """Print a line that is no result: beside the output of a command; in a notebook, where that is red, as output."""
    notebook = type(sys.stdout).__module__.startswith("ipykernel.")
    print(printable(line), file=sys.stdout if notebook else sys.stderr, flush=True)


class Missing(TypedDict):
    """A value that cannot be had, as JSON files hold it: `{"value": null, "reason": "..."}`."""

    value: None
    reason: str


def missing(reason: str) -> Missing:
    """The entry for a value that cannot be had."""
    return {"value": None, "reason": reason}


def is_missing(entry: Any) -> TypeIs[Missing]:
    """Whether an entry is a missing value and not a number."""
    return isinstance(entry, dict) and entry.get("value", 0) is None and "reason" in entry
