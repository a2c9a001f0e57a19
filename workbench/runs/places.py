"""Where the run of a configuration is, among the runs of a sweep."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory


def place_of(config: Config, prefix: str, root: Path) -> Path:
    """The directory in `root` of a configuration's run: `<prefix>-<hash of the configuration>`.

    The configurations of an older version had fewer fields and thus another hash. Its run is known by the hash of the
    fields that its file holds, where the others have their defaults here, and is taken up instead of begun again.
    """
    for path in sorted(root.glob(f"{glob.escape(prefix)}-*")):
        with contextlib.suppress(UserError):  # damaged, or no run
            older = _fields_of(config.as_dict(), RunDirectory(path).config)
            if path.name == f"{prefix}-{_digest(older)}" and Config.from_dict(older) == config:
                return path
    return root / f"{prefix}-{_digest(config.as_dict())}"


def _fields_of(record: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the fields that another one lacks."""
    parts = {name: held[name] for name in ("task", "settings") if isinstance(held.get(name), dict)}
    record = record | {name: {k: v for k, v in record[name].items() if k in part} for name, part in parts.items()}
    return {name: value for name, value in record.items() if name in held}


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
