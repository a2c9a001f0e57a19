"""Directories with official files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from official_files import LUME, MUSE, RWKU, write_lists


@pytest.fixture
def muse_dir(tmp_path: Path) -> Path:
    write_lists(tmp_path, MUSE)
    return tmp_path


@pytest.fixture
def rwku_dir(tmp_path: Path) -> Path:
    write_lists(tmp_path, RWKU)
    return tmp_path


@pytest.fixture
def lume_dir(tmp_path: Path) -> Path:
    for name, found in LUME.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return tmp_path
