"""Rows of JSON Lines files and how they become samples; every error names the file and the line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import UserError
from workbench.tasks.samples import Sample

Rows = Iterable[tuple[str, dict[str, Any]]]  # rows, each with the place that errors name, such as `file:line`

Text = Annotated[str, Field(min_length=0)]  # any constraint makes pydantic refuse half of a surrogate pair
Filled = Annotated[str, Field(pattern=r"\S")]
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


def _listed(value: Any) -> Any:
    """One wrong answer may stand without a list."""
    return [value] if isinstance(value, str) and value else value or []


class Row(BaseModel):
    """What a row of one's own may hold: `question` and `answer`, or `text`, and more about them; see `Sample`.

    Other keys are ignored. A field's description completes the error "'field' must be ...".
    """

    model_config = ConfigDict(strict=True, loc_by_alias=False)

    id: Annotated[Text, BeforeValidator(str)]
    question: Filled | None = None
    answer: Filled | None = None
    text: Filled | None = None
    spans: list[Pair] | None = Field(None, description="a list of [start, end] character offsets into the answer")
    paraphrased_question: Text | None = Field(None, description="a string")
    paraphrased_answer: Text | None = Field(None, description="a string")
    wrong_answers: Annotated[list[Filled], BeforeValidator(_listed)] = Field(
        [], validation_alias=AliasChoices("wrong_answers", "perturbed_answer"), description="a list of strings"
    )
    continues: bool = Field(False, description="true or false, and true only beside a 'question'")

    @model_validator(mode="before")
    @classmethod
    def _question_or_text(cls, row: dict[str, Any]) -> dict[str, Any]:
        """A text goes without question and answer; without it both are needed, and neither may be null."""
        if row.get("text") is not None:
            return {key: value for key, value in row.items() if key not in ("question", "answer")}
        if not {"question", "answer"} <= set(row):
            keys = ", ".join(sorted(set(row) - {"id"})) or "nothing"
            raise ValueError(f"needs 'question' and 'answer', or 'text'; found {keys}")
        return row | {key: row[key] or "" for key in ("question", "answer")}

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        """Spans are inside the answer, and only an answer continues."""
        length = len(self.text or self.answer or "")
        for start, end in self.spans or ():
            if start == end:
                raise ValueError(f"span [{start}, {end}] is empty; the end is exclusive")
            if not 0 <= start < end <= length:
                raise ValueError(f"span [{start}, {end}] is outside its answer of {length} characters")
        if self.continues and not self.question:
            raise ValueError(f"'continues' must be {Row.model_fields['continues'].description}")
        return self

    def sample(self) -> Sample:
        """The row as a sample."""
        fields = dict(self) | {"question": self.question or "", "answer": self.text or self.answer}
        fields["spans"] = None if self.spans is None else tuple((start, end) for start, end in self.spans)
        fields["wrong_answers"] = tuple(self.wrong_answers)
        del fields["text"]
        return Sample(**fields)


KEYS = tuple(Row.model_fields)


def problem(error: ValidationError, key: str = "") -> str:
    """The first thing that is wrong with a row (or with its value under `key`), in one line."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else key
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "string_unicode":
        return f"'{key}' holds half of a surrogate pair; write the character as UTF-8"
    field = Row.model_fields.get(key)
    return f"'{key}' must be {(field and field.description) or 'a non-empty string'}"


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects of a JSON Lines file, each with its `file:line`."""
    for number, line in enumerate(text_of(path, "JSON Lines").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); one object a line") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, row


def own_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one's own file: other keys than ours are fine, misspelt ones are refused."""
    for where, row in rows(path):
        for key in row:
            close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.85)
            if close and key not in KEYS:
                raise UserError(f"{where}: unknown key '{key}': did you mean {close[0]}?")
        yield where, row


def text_of(path: Path, kind: str) -> str:
    """The text of a file; `kind` says in errors what sort of file is expected."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a {kind} file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a directory; give the path of a {kind} file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def samples_from(source: Rows, prefix: str) -> list[Sample]:
    """Validated samples of rows; ids default to `<prefix>-<n>` and must be unique."""
    samples: dict[str, Sample] = {}
    for n, (where, row) in enumerate(source):
        try:
            sample = Row.model_validate({"id": f"{prefix}-{n:04d}"} | row).sample()
        except ValidationError as error:
            raise UserError(f"{where}: {problem(error)}") from None
        if sample.id in samples:
            raise UserError(f"{where}: id '{sample.id}' is used twice; ids must be unique")
        samples[sample.id] = sample
    return list(samples.values())


def with_spans(samples: list[Sample], path: Path) -> list[Sample]:
    """The same samples with the span labels of a JSON Lines file, matched by question and answer."""
    labels = {(s.question, s.answer): s.spans for s in samples_from(rows(path), "spans")}
    labelled = [replace(s, spans=labels.get((s.question, s.answer), s.spans)) for s in samples]
    if all(s.spans is None for s in labelled):
        raise UserError(f"{path}: no row matches a forget sample by question and answer")
    return labelled
