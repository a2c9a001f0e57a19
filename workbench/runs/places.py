"""Where what a configuration names is: the run of a sweep, a sequence."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory


def place_of(config: Config, prefix: str, root: Path) -> Path:
    """The directory in `root` of a configuration's run: `<prefix>-<hash of the configuration>`; see `place_by_hash`."""

    def read(record: dict[str, Any]) -> dict[str, Any]:
        return Config.from_dict(record).as_dict()

    return place_by_hash(config.as_dict(), prefix, root, lambda path: RunDirectory(path).config, read)


def place_by_hash(
    record: dict[str, Any],
    prefix: str,
    root: Path,
    held: Callable[[Path], dict[str, Any]],
    read: Callable[[dict[str, Any]], dict[str, Any]],
) -> Path:
    """The directory in `root` of what a record names: `<prefix>-<hash of the record>`.

    The records of an older version had fewer fields and thus another hash. Its directory is known by the hash of the
    fields that its file holds, where the others have their defaults here, and is taken up instead of begun again.
    `held` gives the record that a directory's file holds, and raises a UserError where there is none; `read` an older
    record with today's fields.
    """
    for path in sorted(root.glob(f"{glob.escape(prefix)}-*")):
        with contextlib.suppress(UserError):
            older = _fields_of(record, held(path))
            if path.name == f"{prefix}-{_digest(older)}" and read(older) == record:
                return path
    return root / f"{prefix}-{_digest(record)}"


def _fields_of(record: Any, held: Any) -> Any:
    """A record without the fields that another one lacks, in tasks and settings too."""
    if isinstance(record, dict) and isinstance(held, dict):
        return {name: _fields_of(value, held[name]) for name, value in record.items() if name in held}
    if isinstance(record, list) and isinstance(held, list) and len(record) == len(held):
        return [_fields_of(*pair) for pair in zip(record, held, strict=True)]
    return record


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
