"""Rows as they lie in files: JSON, JSON Lines, CSV, Parquet, Arrow, saved data sets, text; each with its place.

What a file holds decides how it is read: its first bytes, and for text the end of its name. `.gz` is unpacked.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import UserError
from workbench.tasks.json_rows import Record, RowList, json_rows

TABLES = {".csv": "", ".tsv": "\t"}  # "": the separator that the header has most of
TEXTS = (".txt", ".md")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ARROW = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # how Parquet, Arrow's files and Arrow's streams begin


def rows(path: Path) -> Iterator[Record]:
    """Rows of a file or of a folder that `datasets` saved, each with its place.

    Raises:
        UserError: the file cannot be read, or is not what it seems to be; the line names the place.
    """
    if path.is_dir():
        yield from _saved(path)
        return
    content = _content(path)
    if content.startswith(b"PK\x03\x04"):
        raise UserError(f"{path}: a zip archive or an Excel file; unpack it, or save the table as CSV")
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if content.startswith(ARROW):
        yield from _arrow(path, content)
    elif name.suffix.lower() in TEXTS:
        yield f"{path}:1", {"text": _text(path, content)}
    elif name.suffix.lower() in TABLES:
        yield from _table(path, _text(path, content), TABLES[name.suffix.lower()])
    else:
        yield from json_rows(path, _text(path, content))


def _content(path: Path) -> bytes:
    """The bytes of a file, read once, since it may be a pipe."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a file with rows") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _text(path: Path, content: bytes) -> str:
    """UTF-8, or what a byte-order mark says; lines end as Python's do."""
    coding = next((name for mark, name in BOMS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not {coding.upper()} text ({error.reason}); save it as UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _table(path: Path, text: str, separator: str) -> Iterator[Record]:
    """CSV or TSV with a header; all values are strings, and an empty cell has none."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may hold a long document
    separator = separator or max(",;\t|", key=text.lstrip().partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text.lstrip("\n")), delimiter=separator, strict=True, skipinitialspace=True)
    before = len(text) - len(text.lstrip("\n"))  # empty lines above the header
    try:
        names = [name for name in reader.fieldnames or () if name.strip()]
        for row in reader:
            lines = sum(cell.count("\n") for cell in row.values() if isinstance(cell, str))
            where = f"{path}:{before + reader.line_num - lines}"
            if len(set(names)) < len(names):
                raise UserError(f"{path}: two columns have the same name; the names are {', '.join(names)}")
            if None in row:
                raise UserError(f"{where}: more cells than the header has; put quotes around a text with '{separator}'")
            yield where, {name: row[name] or None for name in names}
    except csv.Error as error:
        raise UserError(
            f'{path}:{before + reader.line_num + 1}: not a table ({error}); a quote in a cell is ""'
        ) from None


def _arrow(path: Path, content: bytes) -> Iterator[Record]:
    """Parquet, or Arrow's file or stream format."""
    import pyarrow as pa
    from pyarrow import ipc, parquet

    try:
        if content.startswith(ARROW[0]):
            table = parquet.read_table(io.BytesIO(content))
        else:
            table = (ipc.open_file if content.startswith(ARROW[1]) else ipc.open_stream)(content).read_all()
        entries = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: cannot be read as Parquet or Arrow ({' '.join(str(error).split())})") from None
    yield from ((f"{path} row {n}", row) for n, row in enumerate(entries))


def _saved(path: Path) -> Iterator[Record]:
    """A data set that `save_to_disk` of `datasets` wrote."""
    parts = sorted(part.parent.name for part in path.glob("*/state.json") if (path / "dataset_dict.json").exists())
    if not (path / "state.json").exists() and len(parts) != 1:
        split = f"it has the splits {', '.join(parts)}; name one, such as {path / parts[0]}" if parts else ""
        raise UserError(f"{path}: a directory; {split or 'give the path of a file, or of a data set saved to disk'}")
    try:
        from datasets import load_from_disk

        entries = load_from_disk(str(path / parts[0] if parts else path)).with_format("arrow")[:].to_pylist()
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a saved data set ({' '.join(str(error).split())})") from error
    yield from ((f"{path} row {n}", row) for n, row in enumerate(entries))


def hub(name: str, config: str | None, split: str, instead: str = "") -> RowList:
    """Rows of a data set of the hub, each with its data set, split and number; `instead` says what else to give."""
    where = f"{name} {config}/{split}" if config else f"{name} {split}"
    try:
        from datasets import load_dataset

        return [(f"{where} row {n}", dict(row)) for n, row in enumerate(load_dataset(name, config, split=split))]
    except Exception as error:
        instead = instead or "give the directory of the official files as data_dir (--data-dir)"
        raise UserError(f"{where} cannot be fetched from the hub ({type(error).__name__}); {instead}") from error
