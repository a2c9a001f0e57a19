"""Hostile strings: in every string of a run's directory, and what must not become of them in a page."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pages import Text

from workbench.runs import records, tables

# Closes whatever it may stand in, and leaves an element, an attribute, template code and characters that reorder text.
EVIL = """</style></script></title>--><zz zz="1">" zz='1' zz=1 ' zz="1" &zz;{{zz}}{%zz%}\u202e\x1b[31m\x00\u200b"""
SCRIPT = "<img src=x onerror=\"window.zz='ran'\"><script>window.zz='ran'</script><zz onclick=zz>"


@dataclass
class Seen(HTMLParser):
    """Elements, attribute names and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.text = set[str](), set[str](), ""
        self.feed(str(page))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass
class Typeset(HTMLParser):
    """The text of a page in which a notebook's MathJax looks for formulas."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.kept: list[bool] = []
        self.text = ""
        self.feed(str(page))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in Text.VOID:
            classes = (dict(attributes).get("class") or "").split()
            skipped = tag in ("style", "script", "pre", "title") or {"tex2jax_ignore", "mathjax_ignore"} <= set(classes)
            self.kept.append(skipped or any(self.kept[-1:]))

    def handle_endtag(self, tag: str) -> None:
        self.kept.pop()

    def handle_data(self, data: str) -> None:
        self.text += "" if any(self.kept[-1:]) else data


def names(text: str) -> set[str]:
    return set(text.split())


ELEMENTS = names("""
    html head meta title link style script body main header button h1 h2 p div span section form label input u b i wbr
    small sup ins del ol li ul dl dt dd details summary pre br table thead tbody tr th td svg desc path text
    a circle rect h3 em
""")
ATTRIBUTES = names("""
    lang charset name content rel href class type title style dir role method tabindex scope colspan checked hidden
    data-w data-r data-l data-after data-set
    data-name aria-label aria-valuenow viewbox fill stroke stroke-width stroke-dasharray stroke-linejoin d x y
    text-anchor aria-hidden value id data-run cx cy r width height open
""")


def check(html: str) -> None:
    """The hostile strings of a page are text in it: no element, attribute, script or character that does something."""
    seen = Seen(html)
    assert seen.elements <= ELEMENTS
    assert seen.attributes <= ATTRIBUTES
    assert "<zz" in seen.text  # shown as text
    assert html.count("<script") == html.count('class="wb-page ')  # a page's own
    outside = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200b\u202a-\u202e]", outside)
    Text(html)  # what is opened is closed


# Every string of a run's directory ----------------------------------------------------------------------------------

# `segment`, `attack` and `model` say which rows a view is of: with the tag there would be none to show.
KINDS = ["segment", "attack", "model"]
MODELS = ("model", "checkpoints")  # weights and tokenizers: no view reads them


def poison(run: Path, copy_to: Path, evil: str) -> tuple[set[str], set[str]]:
    """Copy a run and put `evil` into every string of every file that its readers then still take.

    Returns:
        the fields that have it, and those whose readers refuse it: "<file>: <place>".
    """
    shutil.copytree(run, copy_to, ignore=shutil.ignore_patterns(*MODELS, records.MANIFEST, "*.lock"))
    taken, refused = set[str](), set[str]()
    for file in sorted(p for p in copy_to.rglob("*") if p.is_file()):
        name, shape = file.relative_to(copy_to).as_posix(), "suite" if file.parent.name == "suites" else file.name
        if file.suffix == ".json":
            content = _poisoned(json.loads(file.read_text()), shape, name, evil, taken, refused)
            file.write_text(json.dumps(content))
        elif file.suffix == ".jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            lines = [_poisoned(line, shape, name, evil, taken, refused) for line in lines]
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        elif file.suffix == ".parquet":
            table = pd.read_parquet(file)
            for column in table.select_dtypes(["object", "string"]).columns.drop(KINDS, errors="ignore"):
                changed = table.assign(**{column: [_cell(x, evil) for x in table[column]]})
                wrong = tables.wrong_table(file.name, changed)
                (refused if wrong else taken).add(f"{name}: {column}")
                table = table if wrong else changed
            table.to_parquet(file, index=False)
        elif file.suffix == ".txt":
            file.write_text(f"{file.read_text()}\n{evil}\n")
            taken.add(f"{name}: lines")
    return taken, refused


def _poisoned(content: Any, shape: str, name: str, evil: str, taken: set[str], refused: set[str]) -> Any:
    """A JSON file's content with `evil` in every string value, and in a new key of every object."""
    for place in list(_places(content)):
        changed = copy.deepcopy(content)
        part = changed
        for key in place[:-1]:
            part = part[key]
        if isinstance(part, dict) and place[-1] not in part:
            part[evil] = copy.deepcopy(next(iter(part.values())))
        else:
            part[place[-1]] += evil
        wrong = records.wrong(shape, changed)
        (refused if wrong else taken).add(f"{name}: {'.'.join(map(str, place))}")
        content = content if wrong else changed
    return content


NEW = "(a new key)"


def _places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where strings are, by their keys; and in every object, a place for a new key."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(value, str):
            yield (*above, key)
        yield from _places(value, (*above, key))
    if isinstance(content, dict) and content:
        yield (*above, NEW)


def _cell(value: Any, evil: str) -> Any:
    """A table's text with `evil`; in JSON of alternatives, and in a list of texts, each has it."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_cell(each, evil) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("[["):
        return json.dumps([[token + evil, chance] for token, chance in json.loads(value)])
    return value + evil
