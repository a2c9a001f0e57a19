"""A new run's directory: empty before, and empty again where the run fails before its first step."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import UserError
from workbench.files import PART, cannot_write, remove
from workbench.runs.config import Config, new_path
from workbench.runs.directory import COPIED, RunDirectory, is_run
from workbench.runs.lock import JOB, LOCK, Lock, run_lock
from workbench.runs.records import MANIFEST, Damaged, manifest, verify


def place(config: Config, path: Path | str | None) -> Path:
    """The directory of a new run: the one that is named, or a new one under `runs/`; UserError where it is no path."""
    if not isinstance(config, Config):
        raise UserError(f"a run needs a Config, not a {type(config).__name__}: wb.Config(task=..., model=...)")
    if not isinstance(path, Path | str | None):
        raise UserError(f"a run's directory is a path, not a {type(path).__name__}")
    return Path(path) if path else new_path(config)


def check_new(path: Path, weights: str = "") -> None:
    """Raise for a directory that holds something; what a run leaves that was killed before it had begun is nothing.

    That may be a copy of the weights with which this one is to begin.
    """

    def left_over(file: Path) -> bool:
        copy = file.stem == "weights" and file.suffix in COPIED and Path(weights).suffix == file.suffix
        if copy and file.is_file() and Path(weights).is_file():
            return filecmp.cmp(file, weights, shallow=False)
        if file.name == MANIFEST:
            with contextlib.suppress(UserError):
                return set(manifest(path)) <= {"config.json", f"weights{Path(weights).suffix}"}
            return False
        return file.name == LOCK or bool(PART.fullmatch(file.name))

    files = list(path.iterdir()) if path.is_dir() else []
    if not all(map(left_over, files)):
        resume = is_run(path) and not (path / "run.json").exists()
        raise UserError(f"{path} is not empty; choose another --out" + ", or resume it" * resume)


@contextlib.contextmanager
def new_directory(path: Path, weights: str) -> Iterator[Lock]:
    """A new run's directory, made and locked; `begin` writes its configuration.

    What the run wrote is removed if it fails before its first step: an answer too long, a full disk.

    Raises:
        UserError: it is there and not empty, or cannot be made.
    """
    check_new(path, weights)
    made = _make(path)
    with run_lock(path) as lock:
        check_new(path, weights)
        with _cleanup_on_failure(path, made):
            yield lock


def begin(path: Path, config: Config) -> RunDirectory:
    """Write the configuration of a new run into its directory, which has been checked and locked."""
    try:
        for file in path.iterdir():  # of a run that was killed before it had begun
            if file.name != LOCK:
                remove(file)
    except OSError as error:
        raise cannot_write(path, error) from error
    return RunDirectory.create(path, config)


def _make(path: Path) -> bool:
    """Make a new run's directory; returns whether it was not there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if path.is_dir():
            return False
        raise UserError(f"{path} is no directory; choose another --out") from None
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


@contextlib.contextmanager
def _cleanup_on_failure(path: Path, made: bool) -> Iterator[None]:
    """Remove what a run wrote if it fails before its first step; the directory only if this process `made` it."""
    try:
        yield
    except Exception as error:
        log = path / "events.jsonl"
        if not getattr(error, "resumable", False) and not (log.exists() and log.stat().st_size):
            with contextlib.suppress(OSError, UserError):
                for name in _written(path):  # the lock last: then the place is free
                    remove(path / name)
                if made:
                    path.rmdir()
        raise


def _written(path: Path) -> list[str]:
    """What a run wrote into its directory before its first step."""
    names = []
    for name in manifest(path):
        with contextlib.suppress(Damaged):  # another file by that name
            verify(path, name)
            names.append(name)
    parts = [file.name for file in path.iterdir() if PART.fullmatch(file.name)]
    return [*names, *parts, MANIFEST, "events.jsonl", "trackers", JOB, LOCK]
