"""What the readers share: the registry, and rows of official files or of the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workbench.errors import UserError
from workbench.registry import Registry, Spec
from workbench.tasks.rows import Filled, Rows, problem, rows, samples_from, text_of
from workbench.tasks.samples import Sample

PIECE_WORDS = 200  # a longer text is cut into pieces of at most so many words
FILLED: TypeAdapter[str] = TypeAdapter(Filled)

RowList = Sequence[tuple[str, dict[str, Any]]]
task = Registry("task", Spec)


def pieces(texts: Rows, prefix: str) -> list[Sample]:
    """Plain text samples of rows with a `text`; one of over `PIECE_WORDS` words is cut into pieces of similar length.

    Cuts are between words and lose the white space there. A blank text gives no sample.
    """
    cut = []
    for n, (where, row) in enumerate(texts):
        if not isinstance(row.get("text"), str):
            raise UserError(f"{where}: needs 'text', a string; found {', '.join(sorted(row)) or 'nothing'}")
        words = [word.span() for word in re.finditer(r"\S+", row["text"])]
        count = -(-len(words) // PIECE_WORDS)
        for part in range(count):
            first, last = part * len(words) // count, (part + 1) * len(words) // count - 1
            text = row["text"][words[first][0] : words[last][1]]
            cut.append((where, {"id": f"{prefix}-{n:04d}-{part:03d}", "text": text}))
    return samples_from(cut, prefix)


def columns(row: dict[str, Any], where: str, *names: str) -> list[str]:
    """The texts in some columns of a row, none of which may be missing or blank."""
    if any(name not in row for name in names):
        expected = ", ".join(f"'{name}'" for name in names)
        raise UserError(f"{where}: needs {expected}; found {', '.join(sorted(row)) or 'nothing'}")
    texts = []
    for name in names:
        try:
            texts.append(FILLED.validate_python(row[name], strict=True))
        except ValidationError as error:
            raise UserError(f"{where}: {problem(error, name)}") from None
    return texts


def hub(name: str, config: str, split: str) -> RowList:
    """Rows of a data set of the hub, each with its data set, split and number."""
    where = f"{name} {config}/{split}"
    try:
        from datasets import load_dataset

        return [(f"{where} row {n}", dict(row)) for n, row in enumerate(load_dataset(name, config, split=split))]
    except Exception as error:
        raise UserError(
            f"{where} cannot be fetched from the hub ({type(error).__name__}); "
            "give the directory of the official files as data_dir (--data-dir)"
        ) from error


def listed(path: Path) -> RowList:
    """Rows of a JSON file that holds one list, each with its file, line and number; a string is a row's `text`.

    A file that holds no list is read as JSON Lines; where there is no such file, a `.txt` file of that name is one row.
    """
    plain = path.with_suffix(".txt")
    if plain.exists() and not path.exists():
        return [(f"{plain}:1", {"text": text_of(plain, "text")})]
    text = text_of(path, "JSON")
    if not text.lstrip().startswith("["):
        return list(rows(path))
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    return list(_entries(path, text))


def _entries(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a well-formed JSON list; decoded one by one, since each needs its line."""
    decoder, gap = json.JSONDecoder(), re.compile(r"[\s,]*")
    end, line, n = text.index("[") + 1, 1, 0
    line += text.count("\n", 0, end)
    while True:
        start = end + len(gap.match(text, end)[0])  # type: ignore[index]
        if text[start] == "]":
            return
        line += text.count("\n", end, start)
        where = f"{path}:{line} entry {n}"
        entry, end = decoder.raw_decode(text, start)
        if not isinstance(entry, str | dict):
            raise UserError(f"{where}: expected an object or a string, found {type(entry).__name__}")
        yield where, {"text": entry} if isinstance(entry, str) else entry
        line, n = line + text.count("\n", start, end), n + 1
