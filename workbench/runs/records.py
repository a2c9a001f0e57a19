"""The files of a run as they must be: what a JSON file or table holds, and by the manifest each content's sha256.

Every reader of a run directory goes through here, so that a file that is damaged is one line that names it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import pydantic
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from workbench.errors import UserError
from workbench.files import as_json, parse_json, sha256, write_json, writing

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
METRICS = "metrics.json"
OWN_CHANGE = f"remove {MANIFEST} if you changed it yourself"
Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=0)]


class Damaged(UserError):
    """A file of a run that is not what a run writes; the line names the file and what is wrong."""

    def __init__(self, path: Path, what: str, otherwise: str = "remove the run") -> None:
        super().__init__(f"{path} is damaged: {what}; put back a copy of it, or {otherwise}")
        self.path, self.what = path, what


class _Phase(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    calls: NotRequired[int]
    tokens: NotRequired[int]
    flops: Number
    seconds: Number
    peak_bytes: NotRequired[int]


class _Cost(TypedDict):
    phases: dict[str, _Phase]
    total: _Phase
    peak_memory_bytes: NotRequired[int]


class _End(TypedDict):
    status: str
    steps: NotRequired[Count]
    reason: NotRequired[str | None]


class _Missing(TypedDict):
    value: None
    reason: str


Metrics = dict[str, dict[str, Number | _Missing | None]]


class _Settings(TypedDict):
    steps: Annotated[int, pydantic.Field(ge=1)]


class _Config(TypedDict):
    task: dict[str, Any]
    model: str
    objective: str
    weights: str
    settings: _Settings
    precision: NotRequired[str | None]
    stop_at: NotRequired[str]
    probe_limit: NotRequired[int | None]
    threads: NotRequired[Annotated[int, pydantic.Field(ge=1, le=65536)]]
    versions: NotRequired[dict[str, str]]
    model_sha256: NotRequired[str]
    data_sha256: NotRequired[str]


class _Plan(TypedDict):
    requests: Annotated[list[str], pydantic.Field(min_length=1)]
    tasks: Annotated[list[dict[str, Any]], pydantic.Field(min_length=1)]
    seeds: Annotated[list[int], pydantic.Field(min_length=1)]
    config: _Config


class _Measured(TypedDict):
    kept: list[str]
    metrics: Metrics
    cost: _Cost


class _Event(TypedDict):
    step: Annotated[int, pydantic.Field(ge=1)]
    tokens: NotRequired[Count]
    flops: NotRequired[Number]
    seconds: NotRequired[Number]
    time: NotRequired[Number]
    total_flops: NotRequired[Number]
    total_seconds: NotRequired[Number]
    forget_nll: NotRequired[float | None]
    retain_nll: NotRequired[float | None]
    probe: NotRequired[Metrics]
    notes: NotRequired[list[str]]


class _Point(TypedDict):
    step: Count


class _Suite(TypedDict):
    summary: NotRequired[dict[str, Number | _Missing | None]]
    parts: NotRequired[dict[str, dict[str, Any]] | None]
    curve: NotRequired[list[_Point] | None]
    general: NotRequired[dict[str, dict[str, Any]] | None]


class _MadeFrom(TypedDict):
    task: str
    data_sha256: str
    limit: int | None
    seed: int
    models: dict[str, str]


class _Attack(TypedDict):
    before: Number | _Missing
    run: Number | _Missing
    retain_only: Number | _Missing
    comes_back: Number | _Missing
    better: str
    options: dict[str, Any]
    parts: dict[str, dict[str, Any]]
    answers: dict[str, Count]
    seconds: dict[str, Number]


class _Attacks(TypedDict):
    made_from: _MadeFrom
    attacks: dict[str, _Attack]


class _State(TypedDict):
    step: Count
    alpha: Number
    micro_batch: Count
    cost: _Cost
    events: NotRequired[str]


class _File(TypedDict):
    bytes: Count
    sha256: str


class _Manifest(TypedDict):
    files: dict[str, list[_File]]


SHAPES: dict[str, Any] = {
    "config.json": _Config,
    "run.json": _End,
    METRICS: dict[str, Metrics],
    "cost.json": _Cost,
    MANIFEST: _Manifest,
    "events.jsonl": _Event,
    "state.json": _State,
    "summary.json": _Attacks,
    "suite": _Suite,
    "sequence.json": _Plan,
    "measured.json": _Measured,
    "attacks-cost.json": _Cost,
}


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES.get(name, Any))


def wrong(name: str, content: Any) -> str:
    """What is wrong with the content of a file of this name; empty for nothing."""
    try:
        _adapter(name).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place or 'it'}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return ""


def read_json(path: Path, name: str = "") -> Any:
    """A JSON file of a run; `name` says what it must hold, by default the file's own name.

    Raises:
        Damaged: it is not JSON, or does not hold what a run writes.
        FileNotFoundError: it does not exist.
        UserError: it cannot be read.
    """
    try:
        content = parse_json(read(path))
    except ValueError as error:
        raise Damaged(path, f"not JSON ({str(error).partition(': line')[0]})") from None
    if what := wrong(name or path.name, content):
        raise Damaged(path, what)
    return content


def read(path: Path) -> bytes:
    """The content of a file; raises a UserError where there is one that cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def entries(path: Path, name: str) -> dict[str, dict[str, Any]]:
    """The manifest's entry of a file, or of each file in a folder: name -> bytes and sha256."""
    files = {name: path}
    if path.is_dir():
        files = {(Path(name) / p.relative_to(path)).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()}
    return {each: {"bytes": p.stat().st_size, "sha256": sha256(p)} for each, p in files.items()}


def record(folder: Path, new: dict[str, dict[str, Any]]) -> None:
    """Add files that are about to be put in place; what each held before counts too, until it is replaced again.

    So a run that is killed between the two leaves a manifest that fits.
    """
    files = {name: list(known) for name, known in manifest(folder).items()}
    for name, entry in new.items():
        files[name] = [entry, *(old for old in files.get(name, [])[:1] if old != entry)]
    write_json(folder / MANIFEST, {"files": files})


@contextlib.contextmanager
def recorded(folder: Path, name: str) -> Iterator[Path]:
    """A temporary name that becomes a file or folder, whose sha256 the folder's manifest then has."""
    with writing(folder / name) as aside:
        yield aside
        record(folder, entries(aside, name))


def record_json(folder: Path, name: str, content: Any) -> None:
    """Write a JSON file of a folder, and into its manifest."""
    with recorded(folder, name) as aside:
        aside.write_text(as_json(content), encoding="utf-8")


def record_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a parquet file of a folder, and into its manifest."""
    with recorded(folder, name) as aside:
        table.to_parquet(aside, index=False)


def manifest(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The files that a manifest names, each with the contents that it may have; empty where there is none."""
    try:
        return dict(read_json(folder / MANIFEST)["files"])
    except FileNotFoundError:
        return {}


def verify(folder: Path, name: str, *, sizes_only: bool = False) -> None:
    """Raise `Damaged` where a file, or one in a folder, of this name is not as written; without a manifest never.

    An empty name stands for all files of the folder that has the manifest. With `sizes_only` sizes are compared and not
    contents, and a folder that is not there (a model takes much space) is no damage.
    """
    for attempt in (1, 2):  # a file that is replaced meanwhile differs at the first look
        try:
            for each, contents in manifest(folder).items():
                if sizes_only and "/" in each and not (folder / each.partition("/")[0]).exists():
                    continue
                if not name or each == name or each.startswith(f"{name}/"):
                    _compare(folder / each, contents, sizes_only)
            return
        except Damaged:
            if attempt == 2:
                raise


def _compare(path: Path, contents: list[dict[str, Any]], sizes_only: bool) -> None:
    if not path.is_file():
        raise Damaged(path, "it is missing")
    size = path.stat().st_size
    if size not in [each["bytes"] for each in contents]:
        raise Damaged(path, f"it has {size} bytes, not {contents[0]['bytes']}", OWN_CHANGE)
    if not sizes_only and sha256(path) not in [each["sha256"] for each in contents]:
        raise Damaged(path, f"its sha256 is not the one in {MANIFEST}", OWN_CHANGE)
