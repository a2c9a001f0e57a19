"""Options that several commands share, and the decorator that makes a command of a function."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from workbench.errors import UserError, one_line
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.models import LanguageModel
    from workbench.tasks import TaskSpec

Prompt = Literal["chat", "plain"]
Precision = Literal["float32", "bfloat16"]


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Make a command of a function: print what it returns where `--json` asks for it.

    A parameter that is one of the groups below stands for all of the group's options.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hints[name] for name in hints if is_dataclass(hints[name])}

    @functools.wraps(function)
    def run(**options: Any) -> None:
        as_json = options.pop("json")
        for name, group in groups.items():
            options[name] = group(**{field: options.pop(field) for field in group.__dataclass_fields__})
        result = function(**options)
        if as_json:
            print(json.dumps(result, allow_nan=False).replace("\x7f", "\\u007f"))  # the only control that it leaves

    spread: dict[str, tuple[Any, Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        of_group = get_type_hints(hints[name], include_extras=True) if name in groups else {name: hints[name]}
        defaults = inspect.signature(hints[name]).parameters if name in groups else {name: parameter}
        spread |= {each: (hint, defaults[each].default) for each, hint in of_group.items()}
    spread["json"] = (Json, False)
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=h, default=d) for n, (h, d) in spread.items()]
    )
    return run


def at_least_one(value: str | int) -> int:
    """A whole number of at least 1."""
    try:
        number = int(value)
    except ValueError:
        raise typer.BadParameter(f"'{value}' is not a whole number") from None
    if number < 1:
        raise typer.BadParameter(f"must be at least 1, not {number}")
    return number


def option(metavar: str, help: str | None = None) -> Any:
    """An option that takes a value."""
    return typer.Option(metavar=metavar, help=help)


def flag(name: str, help: str) -> Any:
    """An option that takes none."""
    return typer.Option(name, help=help)


def count(help: str, metavar: str = "N") -> Any:
    """An option that takes a whole number of at least 1."""
    return typer.Option(parser=at_least_one, metavar=metavar, help=help)


def settings(help: str) -> Any:
    """`--set k=v ...`, which may also be repeated."""
    return typer.Option("--set", metavar="K=V ...", help=help)


Json = Annotated[bool, flag("--json", "one JSON object on the last line of standard output")]
ProbeLimit = Annotated[int | None, count("probe at most N samples from each set")]
Reference = Annotated[str | None, option("MODEL", "reference model for scorers and losses that need one")]
ColourBy = Annotated[Literal["value", "rank", "logarithm"], typer.Option("--by", help="colour scale")]
Background = Annotated[bool, flag("--background", "start it in its own process and return at once")]
AtOnce = Annotated[int | None, count("with --background: wait while N runs in the same directory are running")]


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """The options that name a task."""

    task: Annotated[str | None, typer.Argument(metavar="TASK", help="biographies, tofu/forget01, ...")] = None
    data_dir: Annotated[str | None, option("DIR", "directory with the official files")] = None
    forget: Annotated[str | None, option("FILE", "your own rows to forget")] = None
    retain: Annotated[str | None, option("FILE", "your own rows to keep")] = None
    spans: Annotated[str | None, option("FILE", "span labels of the forget rows")] = None
    retain_rows: Annotated[int | None, count("use only N retain rows")] = None
    retain_from: Annotated[
        Literal["all", "end"], typer.Option(help="all: evenly spaced, rows with wrong answers first; end: the last N")
    ] = "all"
    unlabelled: Annotated[str | None, option("FILE", "text of the same kind that the model has not seen")] = None
    columns: Annotated[str | None, option("KEY=COLUMN,...", "columns of your own files, if they have other names")] = (
        None
    )
    piece_words: Annotated[int, count("cut your own longer texts into pieces of at most N words")] = 200
    keep: Annotated[
        str | None, option("ID,...|FILE", "rows of other sets to add to the retain set; a file has one id per line")
    ] = None

    def spec(self) -> TaskSpec:
        """The task that the options name."""
        from workbench.tasks import TaskSpec

        options = asdict(self)
        if self.columns:
            pairs = [pair.partition("=") for pair in self.columns.split(",")]
            if not all(key.strip() and column for key, _, column in pairs):
                raise UserError(f"--columns takes KEY=COLUMN,... such as question=Q,answer=A, not '{self.columns}'")
            options["columns"] = {key.strip(): column for key, _, column in pairs}
        options["keep"] = _ids(self.keep) if self.keep else ()
        return TaskSpec(name=options.pop("task"), **options)


def _ids(text: str) -> tuple[str, ...]:
    """Ids separated by commas, or those of a file, one a line."""
    if not os.path.isfile(text):  # `Path.is_file` fails for a list that is longer than a name may be
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        lines = Path(text).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--keep: {text} cannot be read: {one_line(error)}") from None
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The options that say how prompts are written."""

    prompt: Annotated[
        Prompt | None, typer.Option(help="default: as recorded, else chat if the model has a template")
    ] = None
    system: Annotated[
        str | None, option("TEXT", "system message for chat prompts; default: as recorded, else none")
    ] = None
    date: Annotated[str | None, option("YYYY-MM-DD", "date for chat templates that write today's date")] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(PromptOptions):
    """The options that name a model and how to use it."""

    model: Annotated[str, option("M", "built-in or hub name, directory, .gguf file")]
    device: Annotated[str | None, option("DEVICE", "cpu, cuda, cuda:1, ...")] = None
    precision: Annotated[Precision | None, typer.Option(help="default: as the hardware allows")] = None

    def load(self) -> LanguageModel:
        """The model that the options name."""
        with uninterrupted():
            from workbench.models import load

        options = asdict(self)
        return load(options.pop("model"), **options)
