"""A set of samples from a user's own file, and how it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import UserError, check_known, note
from workbench.tasks.columns import NAMEABLE, Reading
from workbench.tasks.json_rows import CHATS, RowList
from workbench.tasks.pieces import PIECE_WORDS, cut
from workbench.tasks.rows import KEYS, samples_from
from workbench.tasks.samples import Sample, Task
from workbench.tasks.sources import hub, rows

HUB = "hub:"  # before a data set's name: hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, either with :SPLIT


def own_set(
    source: str, prefix: str, named: Mapping[str, str] | None = None, piece_words: int = PIECE_WORDS
) -> tuple[list[Sample], Reading]:
    """The samples of a file, or of a data set of the hub (`hub:` and a name); long plain texts are cut into pieces.

    Rows without an id get one of the prefix, the set's name. `named` is key -> column, where the columns' names do not
    tell; a source without any of these is read as usual.

    Returns:
        (samples, how the rows were read; its `named` is empty where the source has none of those columns).

    Raises:
        UserError: it cannot be read, has no rows, or a row is wrong; the line names the place.
    """
    records = _from_hub(source) if source.startswith(HUB) else list(rows(Path(source)))
    return _samples(records, source, prefix, named, piece_words)


def read_rows(
    source: Any, columns: Mapping[str, str] | None = None, *, prefix: str = "row", say: Callable[[str], None] = note
) -> list[Sample]:
    """Rows in any form as samples; long texts stay whole.

    Args:
        source: a file (JSON, JSON Lines, CSV, TSV, Parquet, Arrow, text), a folder that `datasets` saved, or
            `hub:OWNER/NAME`; a DataFrame, a data set of `datasets`, columns as a dictionary of lists; a list of texts,
            dictionaries, (question, answer) pairs or samples, or the turns of one chat; one dictionary; or a task,
            whose forget set it then is.
        columns: key -> column, such as `{"question": "Q", "answer": "A"}`, where the columns' names do not tell.
        prefix: of the ids of rows without one.
        say: called with the one line that says what was read and how; by default `note` prints it.

    Raises:
        UserError: it cannot be read, has no rows, or a row is wrong; the line names the place.
    """
    check_named(columns)
    if isinstance(source, Task):
        return list(source.forget)
    if isinstance(source, str | Path):
        name, where = str(source), source
        records = _from_hub(name) if name.startswith(HUB) else list(rows(Path(where)))
    else:
        name, records = type(source).__name__, _in_memory(source)
    samples, reading = _samples(records, name, prefix, columns, None)
    if len(reading.kinds):
        say(reading.line())
    return samples


def _in_memory(source: Any) -> RowList:
    """Rows of what a notebook holds, each with the place that errors name."""
    kind = type(source).__name__
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame
        source = source.to_dict("records")
    elif isinstance(source, Mapping):
        source = _mapped(source)
    elif not isinstance(source, Iterable):
        raise UserError(f"rows are a file, a table, a list or a data set, not a {kind}")
    entries = list(source)
    if entries and all(isinstance(each, Mapping) and {"role", "content"} <= set(each) for each in entries):
        entries = [{"messages": entries}]  # one chat
    return [(f"{kind} row {n}", _row(entry, f"{kind} row {n}")) for n, entry in enumerate(entries)]


def _mapped(source: Mapping[Any, Any]) -> list[Any]:
    """The rows of a dictionary: its columns', or itself."""
    values = list(source.values())
    if values and all(hasattr(each, "column_names") for each in values):
        raise UserError(f"the data set has the splits {', '.join(map(str, source))}; give one, such as data['train']")
    if values and all(isinstance(each, list | tuple) for each in values) and not set(source) & {*CHATS}:
        if len({len(each) for each in values}) > 1:
            raise UserError(f"the columns {', '.join(map(str, source))} differ in length")
        return [dict(zip(source, row, strict=True)) for row in zip(*values, strict=True)]
    return [source]


def _row(entry: Any, where: str) -> dict[str, Any]:
    """One row: a dictionary, a text, a pair, or a sample."""
    if isinstance(entry, Sample):
        about = {key: getattr(entry, key) for key in KEYS if key not in ("text", "question", "answer")}
        about = {key: list(value) if isinstance(value, tuple) else value for key, value in about.items()}
        about["spans"] = None if entry.spans is None else [list(span) for span in entry.spans]
        texts = {"question": entry.question, "answer": entry.answer} if entry.question else {"text": entry.answer}
        return dict(entry.about) | about | texts
    if isinstance(entry, str):
        return {"text": entry}
    if isinstance(entry, tuple | list) and len(entry) == 2 and all(isinstance(text, str) for text in entry):
        return {"question": entry[0], "answer": entry[1]}
    if isinstance(entry, Mapping):
        return {str(key): value.tolist() if hasattr(value, "tolist") else value for key, value in entry.items()}
    raise UserError(f"{where}: a row is a text, a dictionary, a pair or a sample, not a {type(entry).__name__}")


def _samples(
    records: RowList, source: str, prefix: str, named: Mapping[str, str] | None, piece_words: int | None
) -> tuple[list[Sample], Reading]:
    """The samples of rows, and how these were read."""
    if not records:
        raise UserError(f"{source}: the {prefix} set is empty; give at least one row")
    columns = dict.fromkeys(name for _, row in records for name in row)
    missing = [name for name in (named or {}).values() if name not in columns]
    if named and missing and len(missing) < len(named):
        raise UserError(f"{source}: no column '{missing[0]}', which --columns names; there are {', '.join(columns)}")
    reading = Reading(source, {} if missing else named or {})
    samples = samples_from([(where, reading.row(where, row)) for where, row in records], prefix)
    pieces = [cut(sample, piece_words) if piece_words else [sample] for sample in samples]
    if long := [each for each in pieces if len(each) > 1]:
        note = f"cut into {sum(map(len, long))} pieces of at most {piece_words} words"
        reading.notes[note] += len(long)
    return [piece for each in pieces for piece in each], reading


def check_named(named: Mapping[str, str] | None) -> None:
    """Raise for a key that no row has."""
    for key in named or {}:
        check_known("key of --columns", key, NAMEABLE)


def _from_hub(source: str) -> RowList:
    name, _, split = source.removeprefix(HUB).partition(":")
    owner, _, rest = name.partition("/")
    name, _, config = rest.partition("/")
    if not (owner and name):
        raise UserError(f"{source}: write {HUB}OWNER/NAME, {HUB}OWNER/NAME/CONFIG, and :SPLIT after either")
    return hub(f"{owner}/{name}", config or None, split or "train", "check the name, or save it as a file")
