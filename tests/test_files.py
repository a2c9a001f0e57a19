"""Files are whole or absent; a failed write is one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import UserError
from workbench.files import parse_json, read_parquet, writable, write_json, writing


def test_failed_writes_leave_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    target.write_text("old")

    def write_on_a_full_disk() -> None:
        with writing(target) as aside:
            aside.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="disk is full"):
        write_on_a_full_disk()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"value": float("nan")})
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_that_holds_something_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "precious").write_text("kept")

    def replace(make: Callable[[Path], None]) -> None:
        with writing(target) as aside:
            make(aside)

    for make in (lambda aside: aside.write_text("a file"), lambda aside: aside.mkdir()):
        with pytest.raises(UserError, match="cannot write"):
            replace(make)
    assert (target / "precious").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [target]
    (target / "precious").unlink()
    replace(lambda aside: aside.mkdir())
    assert list(tmp_path.iterdir()) == [target]


def test_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("synced"), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("named"), replace(*names)))
    write_json(tmp_path / "file.json", {})
    with writing(tmp_path / "folder") as aside:
        (aside / "inner").mkdir(parents=True)
        for name in ("a", "inner/b"):
            (aside / name).write_text(name)
    assert done == ["synced", "named", "synced", "synced", "named"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".model.{gone.pid}-0a.part"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    others = [
        f".model.{os.getpid()}-0a.part",
        f".model2.{gone.pid}-0a.part",
        f"model.{gone.pid}-0a.part",
        ".model.part",
    ]
    for name in others:
        (tmp_path / name).write_text("of something else")
    writable(tmp_path / "model", folder=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_number_that_no_float_holds_is_refused() -> None:
    assert parse_json("[1" + "0" * 299 + "]") == [10**299]
    with pytest.raises(ValueError, match="a number of 401 digits is too long"):
        parse_json('{"steps": 1' + "0" * 400 + "}")


def test_text_in_parquet_that_is_no_text_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"name": ["marker"], "n": [1]}).to_parquet(path, compression=None)
    assert list(read_parquet(path)["name"]) == ["marker"]
    path.write_bytes(path.read_bytes().replace(b"marker", b"\x80arker"))
    with pytest.raises(ValueError, match="UTF8"):
        read_parquet(path)
