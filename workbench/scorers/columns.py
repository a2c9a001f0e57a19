"""A score table from disk as arrays: what can be said of it without pandas, which takes longer to load than to use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from workbench.errors import UserError

COLUMNS = [
    *("task", "sample_id", "position", "token_id", "token", "start", "end"),
    *("segment", "scorer", "step", "score", "span"),
]
KINDS = {
    **dict.fromkeys(("sample_id", "segment", "scorer"), "text in every row"),
    **dict.fromkeys(("task", "token"), "text"),
    **dict.fromkeys(("position", "token_id", "start", "end", "step"), "whole numbers"),
    **{"score": "numbers", "span": "true, false or nothing"},
}
NEEDED = ("text in every row", "whole numbers")  # kinds of which no row may lack a value
T = TypeVar("T")


def opened(path: Path, read: Callable[[Path], T]) -> T:
    """A parquet file that has the columns of a score table, as `read` gives it; UserError where it is none."""
    if not path.is_file():
        what = "a directory" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a score table, made by `workbench score`")
    try:
        table: Any = read(path)
    except Exception as error:
        raise UserError(f"{path}: not parquet ({type(error).__name__}); make one with `workbench score`") from error
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", table)]
    if missing:
        raise UserError(f"{path}: no score table, it lacks {', '.join(missing)}; make one with `workbench score`")
    return table


def _read(path: Path) -> Any:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()  # `read_table` would load pandas with its datasets
    table.validate(full=True)
    return table


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a score table that say what is scored how: no score is NaN, `span` is 1, 0, or -1 for no label.

    Raises:
        UserError: as `read_scores`.
    """
    import pyarrow as pa

    table, types = opened(path, _read), pa.types
    kinds = {
        "text in every row": lambda t: types.is_string(t) or types.is_large_string(t),
        "whole numbers": types.is_integer,
        "numbers": lambda t: types.is_floating(t) or types.is_integer(t),
        "true, false or nothing": types.is_boolean,
    }
    wanted = {name: KINDS[name] for name in ("sample_id", "scorer", "segment", "start", "end", "step", "score", "span")}
    columns: dict[str, list[Any]] = {}
    for name, kind in wanted.items():
        column, of_kind = table[name], kinds[kind](table[name].type)
        nulls = column.null_count
        if not (of_kind and not nulls if kind in NEEDED and len(column) else of_kind or nulls == len(column)):
            raise UserError(
                f"{path}: no score table: its column {name} holds {column.type}, not {kind}; make one with "
                "`workbench score`"
            )
        columns[name] = column.to_pylist()  # `to_numpy` would load pandas
    columns["span"] = [-1 if label is None else label for label in columns["span"]]
    dtypes = {"text in every row": object, "whole numbers": int, "numbers": float, "true, false or nothing": int}
    return {name: np.array(columns[name], dtype=dtypes[kind]) for name, kind in wanted.items()}
