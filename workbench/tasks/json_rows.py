"""Rows of JSON text: a list, one object, or objects a line each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UserError

Record = tuple[str, dict[str, Any]]  # a row and the place that errors name, such as `file:line`
Rows = Iterable[Record]
RowList = Sequence[Record]

CHATS = ("messages", "conversations", "conversation")  # columns whose lists are the turns of one chat


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose keys stands twice."""
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [name for name, _ in pairs]
        raise UserError(f"'{next(name for name in names if names.count(name) > 1)}' is there twice in one object")
    return keys


DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=lambda name: None if name == "NaN" else float(name))


def decoded(text: str, where: str, hint: str = "") -> Any:
    """The value of a JSON text; errors in a text of several lines name the line."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if "\n" in text else where
        raise UserError(f"{place}: not JSON ({error.msg} at column {error.colno}){hint}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply to be read") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except ValueError:
        raise UserError(f"{where}: a number has too many digits; write it as a string") from None


def json_rows(path: Path, text: str) -> Iterator[Record]:
    """A list, one object, or objects a line each."""
    text = text.lstrip("\ufeff")
    first, _, rest = text.strip().partition("\n")
    if first.startswith("["):
        return _list(path, text)
    if first.startswith("{") and not (rest and _is_json(first)) and _is_json(text):
        return _object(path, decoded(text, f"{path}:1"))
    return _lines(path, text)


def _object(path: Path, whole: dict[str, Any]) -> Iterator[Record]:
    """The rows of one object, if it is one of rows; else it is a row itself."""
    entries = None if whole.keys() & {*CHATS, "question", "text"} and not _columns(whole) else _entries(path, whole)
    if entries is None:
        yield f"{path}:1", whole
    else:
        yield from ((f"{path} entry {n}", entry) for n, entry in enumerate(entries))


def _columns(whole: dict[str, Any]) -> bool:
    """Whether an object holds columns: lists, one at least of strings, or as pandas writes them, objects by number."""
    values = list(whole.values())
    lists = all(isinstance(each, list) for each in values) and any(_all(each, str) for each in values)
    return lists or (bool(values) and all(map(_numbered, values)))


def _numbered(value: Any) -> bool:
    """Whether this is an object whose keys are numbers, as pandas writes a column."""
    return isinstance(value, dict) and bool(value) and all(key.isdecimal() for key in value)


def _entries(path: Path, whole: dict[str, Any]) -> list[Any] | None:
    """The rows of an object: its columns', those under its only key, `data` or numbers; None if there are none."""
    values = list(whole.values())
    listed: Any = values[0] if len(values) == 1 else whole.get("data")
    if _columns(whole):
        if len({tuple(each) if isinstance(each, dict) else len(each) for each in values}) > 1:
            raise UserError(f"{path}: the columns {', '.join(whole)} differ in length")
        columns = [list(each.values()) if isinstance(each, dict) else each for each in values]
        return [dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True)]
    if _numbered(whole) and all(isinstance(each, dict) for each in values):
        return values
    if _all(listed, dict) and not any(each.keys() & {"role", "from"} for each in listed):
        return [row for entry in listed for row in _questions(entry)]
    return None


def _questions(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of an article in SQuAD's own files; of anything else, itself."""
    paragraphs: Any = entry.get("paragraphs")
    if not _all(paragraphs, dict) or not all(_all(each.get("qas"), dict) for each in paragraphs):
        return [entry]
    return [{"context": each.get("context")} | question for each in paragraphs for question in each["qas"]]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _all(values: Any, kind: type) -> bool:
    """Whether this is a list, not empty, of nothing but such values."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)


def _lines(path: Path, text: str) -> Iterator[Record]:
    """JSON Lines."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip("\ufeff \t")
        if line:
            row = decoded(line, f"{path}:{number}", "; one object a line")
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
            yield f"{path}:{number}", row


def _list(path: Path, text: str) -> Iterator[Record]:
    """Entries of a JSON list, decoded one by one, since each needs its line; a string is a row's `text`."""
    decoded(text, str(path))
    gap = re.compile(r"[\s,]*")
    end, line, n = text.index("[") + 1, 1, 0
    line += text.count("\n", 0, end)
    while True:
        start = end + len(gap.match(text, end)[0])  # type: ignore[index]
        if text[start] == "]":
            return
        line += text.count("\n", end, start)
        where = f"{path}:{line} entry {n}"
        entry, end = DECODER.raw_decode(text, start)
        if not isinstance(entry, str | dict):
            raise UserError(f"{where}: expected an object or a string, found {type(entry).__name__}")
        yield where, {"text": entry} if isinstance(entry, str) else entry
        line, n = line + text.count("\n", start, end), n + 1
