"""Names for functions: one dictionary per kind, filled by a decorator, read by everything that offers a choice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from workbench.errors import unknown


@dataclass(frozen=True)
class Entry:
    """A registered function with the facts that belong to it (source, needs, direction, ...)."""

    name: str
    function: Callable[..., Any]
    facts: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """The function's keyword-only parameters and their defaults: its whole configuration."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def kind(self) -> str:
        """What the function is called with, where one registry holds several sorts; see `scorers.table`."""
        return str(self.facts.get("kind", ""))


class Registry:
    """Name -> function. `needs=`, `source=` and other facts are kept beside the function."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}

    def __call__(self, name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that enters a function under `name`, with its facts."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if name in self.entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self.entries[name] = Entry(name, function, facts)
            return function

        return register

    def __getitem__(self, name: str) -> Entry:
        if name not in self.entries:
            raise unknown(self.kind, name, list(self.entries))
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)
