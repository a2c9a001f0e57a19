"""Files written under a temporary name and renamed: whole or not at all, and one clear line where that fails."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from workbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def cannot_write(path: Path, error: Exception) -> UserError:
    """The one-line error for a failed write; safetensors has the system's error code only in its text."""
    match = re.search(r"os error (\d+)|code: (\d+)", str(error))
    code = getattr(error, "errno", None) or (int(match[1] or match[2]) if match else 0)
    why = {errno.ENOSPC: "the disk is full", errno.EROFS: "the file system is read-only"}
    reason = why.get(code) or getattr(error, "strerror", None) or str(error)
    return UserError(f"cannot write {path}: {reason}; choose another place or make room")


WIDEST = 300  # digits of a whole number in JSON
PART = re.compile(r"\..+\.\d+(-[0-9a-f]+)?\.part")  # a temporary name; the random part keeps threads apart


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; nothing is left behind by a failure.

    An old file is replaced; a directory is replaced only if it is empty.
    """
    aside = path.absolute().with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        for file in aside.rglob("*") if aside.is_dir() else [aside]:
            _to_disk(file)
        if path.is_dir() and aside.is_dir():
            path.rmdir()
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        elif aside.exists():
            aside.unlink()


def _to_disk(file: Path) -> None:
    """Write a file's content to the disk before it is renamed: a power cut must not leave a name without content."""
    if file.is_file():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def remove(path: Path) -> None:
    """Remove a file, or a directory with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def remove_parts(files: Iterable[Path]) -> None:
    """Remove those of some files that are half-written, after the process that wrote them was killed."""
    for file in list(files):
        if PART.fullmatch(file.name):
            remove(file)


def make_folder(path: Path) -> None:
    """Make a directory, and those that it is in, if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def sha256(path: Path) -> str:
    """The digest of a file's content, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """The value that JSON text holds.

    Raises:
        ValueError: it is not JSON: nested too deeply, numbers too long, or NaN, which JSON has not.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    def whole(digits: str) -> int:
        if len(digits) > WIDEST:  # no float holds it, and arithmetic with one fails
            raise ValueError(f"a number of {len(digits):,} digits is too long")
        return int(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def resource(name: str) -> Path:
    """The folder `data` or `notebooks`: inside the package in a wheel, at the top of the repository in a checkout."""
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


def write_text(path: Path, text: str) -> None:
    """Write text, all or nothing."""
    with writing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def as_json(content: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON, all or nothing."""
    write_text(path, as_json(content))


def read_parquet(path: Path) -> pd.DataFrame:
    """A parquet table, with text that is text.

    Raises:
        Exception: whatever pyarrow raises for bytes that mean nothing; ValueError for text that is not UTF-8, at which
            pandas fails only when it is used.
    """
    import pandas as pd

    table = pd.read_parquet(path)
    for name in table:
        if hasattr(values := table[name].array, "__arrow_array__"):
            values.__arrow_array__().validate(full=True)
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write parquet, all or nothing."""
    with writing(path) as aside:
        table.to_parquet(aside, index=False)


def writable(path: Path, *, folder: bool = False) -> Path:
    """`path`, after checking that a file (or folder) can be written there, before hours are spent on its content.

    What a killed process of this machine left half-written for it is removed.
    """
    if path.exists() and path.is_dir() != folder:
        raise UserError(f"{path} is {'no' if folder else 'a'} directory; choose another name")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is neither a file nor a directory; choose another place")
    where = next(p for p in path.absolute().parents if p.exists())
    if not where.is_dir():
        raise UserError(f"{where}: not a directory; choose another place")
    try:
        with tempfile.TemporaryFile(dir=where) as trial:  # without a name, where the system can: none is left behind
            trial.write(b" " * 4096)
    except OSError as error:
        raise cannot_write(path, error) from error
    _remove_left(path)
    return path


def _remove_left(path: Path) -> None:
    """Remove what processes that are gone were writing to `path`: a model in part takes the space of a model."""
    import psutil

    for file in path.absolute().parent.glob("*.part"):
        own = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)-[0-9a-f]+\.part", file.name)
        if own and not psutil.pid_exists(int(own[1])):
            with contextlib.suppress(OSError):
                remove(file)
