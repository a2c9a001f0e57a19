"""What can go wrong: errors a user can put right, what a model or task cannot have, values that are not available."""

from __future__ import annotations

import difflib


class UserError(ValueError):
    """Something the user can put right: one line that says what is wrong and what to do."""


class UnsupportedError(UserError):
    """What this model or task cannot have, whatever is set; where everything is asked for, it is left out."""


class NotAvailable(Exception):
    """Why one value cannot be had (a metric of a set, a sample's scores); the others go on."""


def unknown(kind: str, name: str, known: list[str]) -> UserError:
    """The error for a name that is not in `known`, with the nearest known names."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} '{name}': {hint}")
