"""What the readers share: the registry, and rows of official files or of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workbench.errors import UserError
from workbench.registry import Registry, Spec
from workbench.tasks.json_rows import RowList, Rows
from workbench.tasks.pieces import piece_ranges
from workbench.tasks.rows import Filled, problem, samples_from
from workbench.tasks.samples import Sample
from workbench.tasks.sources import rows

FILLED: TypeAdapter[str] = TypeAdapter(Filled)
task = Registry("task", Spec)


def pieces(texts: Rows, prefix: str) -> list[Sample]:
    """Plain text samples of rows with a `text`; one of over 200 words is cut into pieces of similar length.

    Cuts are between words and lose the white space there. A blank text gives no sample.
    """
    cut = []
    for n, (where, row) in enumerate(texts):
        if not isinstance(row.get("text"), str):
            raise UserError(f"{where}: needs 'text', a string; found {', '.join(sorted(row)) or 'nothing'}")
        for part, (start, end) in enumerate(piece_ranges(row["text"])):
            cut.append((where, {"id": f"{prefix}-{n:04d}-{part:03d}", "text": row["text"][start:end]}))
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


def listed(path: Path) -> RowList:
    """Rows of a file; where there is no such file, a `.txt` file of that name is one row with its `text`."""
    plain = path.with_suffix(".txt")
    return list(rows(plain if plain.exists() and not path.exists() else path))
