"""What checks share: reading an answer, and comparing numbers. Each raises `Wrong`, which says what to give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from workbench.errors import one_line
from workbench.view.course.exercises import Wrong


def as_number(answer: Any, what: str) -> float:
    """The number that an answer is."""
    try:
        value = float(answer)
    except (TypeError, ValueError):
        raise Wrong(f"give {what} as a number, not a {type(answer).__name__}") from None
    if not np.isfinite(value):
        raise Wrong(f"give {what}; {value} is no number that can be compared")
    return value


def as_numbers(answer: Any, *whats: str) -> list[float]:
    """The numbers of an answer that has several, in their order."""
    if isinstance(answer, str) or not isinstance(answer, Iterable) or len(values := list(answer)) != len(whats):
        raise Wrong(f"give {len(whats)} numbers: {', '.join(whats)}")
    return [as_number(value, what) for value, what in zip(values, whats, strict=True)]


def as_name(answer: Any, known: Iterable[str], kind: str) -> str:
    """The name that an answer is, one of those known."""
    names = [str(name) for name in known]
    if not isinstance(answer, str):
        raise Wrong(f"give the name of one {kind}, as text")
    if answer not in names:
        raise Wrong(f"there is no {kind} '{answer}' here; there are {', '.join(names)}")
    return answer


def as_names(answer: Any, known: Iterable[str], kind: str) -> set[str]:
    """The names that an answer holds, each one of those known."""
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise Wrong(f"give a list or a set of names, each of one {kind}")
    names = list(known)
    return {as_name(each, names, kind) for each in answer}


def close(value: float, truth: float, off: float = 0.006) -> bool:
    """Whether a value is the truth, as far as two digits after the point say."""
    return abs(value - truth) <= off


def results(function: Any, inputs: Iterable[tuple[Any, ...]]) -> np.ndarray:
    """What a learner's function of numbers gives for each input, as one array."""
    if not callable(function):
        raise Wrong(f"give the function itself, without calling it; this is a {type(function).__name__}")
    return np.array([_result(function, each) for each in inputs], dtype=float)


def _result(function: Callable[..., Any], each: tuple[Any, ...]) -> float:
    words = ", ".join(f"{x:.3g}" if isinstance(x, float) else type(x).__name__ for x in each)
    try:
        with np.errstate(all="ignore"):
            value = function(*each)
    except Exception as error:
        raise Wrong(f"your function fails for ({words}): {type(error).__name__}: {one_line(error, 160)}") from None
    if value is None:
        raise Wrong("your function returns nothing; does it end with `return`?")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Wrong(f"your function gives a {type(value).__name__} for ({words}), and not one number") from None


def same(values: np.ndarray, truth: np.ndarray, inputs: Iterable[Any], hints: dict[str, np.ndarray]) -> None:
    """Raise `Wrong` where values are not the truth: with a hint for what they are instead, or the first that is off.

    Args:
        values: of the learner.
        truth: by the definition.
        inputs: of each value, for the message.
        hints: what to say -> values that a known mistake gives.
    """
    if values.shape != truth.shape:
        raise Wrong(f"there are {values.size} values for {truth.size} inputs")
    if np.allclose(values, truth, rtol=1e-4, atol=1e-6, equal_nan=True):
        return
    for hint, mistaken in hints.items():
        if np.allclose(values, mistaken, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise Wrong(hint)
    off = ~np.isclose(values, truth, rtol=1e-4, atol=1e-6, equal_nan=True)
    place = int(np.argmax(off))
    raise Wrong(f"{off.sum()} of {off.size} values are off; the first is at {list(inputs)[place]}: {values[place]:.4g}")
