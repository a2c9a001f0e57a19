"""Named functions: one registry per kind, filled by a decorator, read by everything that offers a choice."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from workbench.errors import unknown


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A registered function and the facts about it; each kind has its own spec with more fields.

    Attributes:
        name: by which users choose it.
        function: the function; its keyword-only parameters are its whole configuration.
        source: where the formula comes from: a paper, a framework, "standard" or "ours".
        certainty: how sure the formula is: "sure", "likely" or "ours" (see the reference pages).
        needs: what it needs beside the usual, such as "reference" (a second model) or "spans" (labels).
    """

    name: str
    function: Callable[..., Any]
    source: str
    certainty: str
    needs: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The function's keyword-only parameters and their defaults: its whole configuration."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def provenance(self) -> str:
        """Source and certainty in one phrase, such as "arXiv 2404.05868; sure"."""
        return self.source if self.certainty in self.source else f"{self.source}; {self.certainty}"


S = TypeVar("S", bound=Spec)


class Registry(Generic[S]):
    """Name -> spec, in the order of registration.

    Args:
        kind: what is registered, for errors.
        spec: the type of its entries.
        modules: where functions are registered; loaded when the first entry is read. Entries come in their order.
    """

    def __init__(self, kind: str, spec: type[S], modules: Sequence[str] = ()) -> None:
        self.kind, self.spec, self.modules = kind, spec, modules
        self.entries: dict[str, S] = {}
        self.loaded = not modules

    def load(self) -> dict[str, S]:
        """The entries, after loading the modules that register them."""
        if not self.loaded:
            self.loaded = True
            for module in self.modules:
                importlib.import_module(module)
            places = {module: place for place, module in enumerate(self.modules)}
            last = len(places)
            self.entries = dict(
                sorted(self.entries.items(), key=lambda entry: places.get(entry[1].function.__module__, last))
            )
        return self.entries

    def __call__(self, name: str, **fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that registers a function under `name`; `fields` are those of the registry's spec."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            old = self.entries.get(name)
            if old and {old.function.__module__, function.__module__} != {"__main__"}:  # a cell that is run again
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self.entries[name] = self.spec(name=name, function=function, **fields)
            return function

        return register

    def __getitem__(self, name: str) -> S:
        entries = self.load()
        if name not in entries:
            raise unknown(self.kind, name, list(entries))
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.load())
