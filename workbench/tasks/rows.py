"""Rows in our own keys and how they become samples; every error names the place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import UserError
from workbench.tasks.json_rows import Rows
from workbench.tasks.pieces import PIECE_WORDS, cut
from workbench.tasks.samples import Sample
from workbench.tasks.sources import rows

Text = Annotated[str, Field(min_length=0)]  # any constraint makes pydantic refuse half of a surrogate pair
Filled = Annotated[str, Field(pattern=r"[^\s\x1c-\x1f]")]  # what Python does not take for white space
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


def _listed(value: Any) -> Any:
    """One wrong answer may stand without a list; null is none."""
    values = value if isinstance(value, list) else [value]
    return value if isinstance(value, dict) else [each for each in values if each is not None]


def empty(value: Any) -> bool:
    """Whether a value is as if absent: null, NaN, blank."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _name(value: Any) -> str:
    """An id may be a number."""
    if not isinstance(value, str | int | float):
        raise ValueError("'id' must be a string or a number")
    return str(value)


class Row(BaseModel):
    """What a row of one's own may hold: `question` and `answer`, or `text`, and more about them; see `Sample`.

    Other keys only tell groups of rows apart (`Sample.about`); `text` beside question and answer is ignored. Null, NaN
    and blank are as if absent.
    A field's description completes the error "'field' must be ...".
    """

    model_config = ConfigDict(strict=True, loc_by_alias=False)

    id: Annotated[Text, BeforeValidator(_name)]
    question: Filled | None = None
    answer: Filled | None = None
    text: Filled | None = None
    spans: list[Pair] | None = Field(None, description="a list of [start, end] character offsets into the answer")
    paraphrased_question: Text | None = Field(None, description="a string")
    paraphrased_answer: Text | None = Field(None, description="a string")
    phrasings: list[Filled] = Field([], description="a list of strings")
    wrong_answers: Annotated[list[Filled], BeforeValidator(_listed)] = Field(
        [], validation_alias=AliasChoices("wrong_answers", "perturbed_answer"), description="a list of strings"
    )
    continues: bool = Field(False, description="true or false, and true only beside a 'question'")

    @model_validator(mode="before")
    @classmethod
    def _question_or_text(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Question and answer, or else a text; neither is there by halves."""
        forms = {"question", "answer", "text"}
        filled = {key for key, value in row.items() if not empty(value)}
        row = {key: value for key, value in row.items() if key in filled or (key in forms and isinstance(value, str))}
        if "text" in filled and len(filled & forms) == 2:
            other = next(iter(filled & forms - {"text"}))
            raise ValueError(f"has 'text' and '{other}'; give 'question' and 'answer', or 'text' alone")
        if "text" in filled and len(filled & forms) == 1:
            return {key: value for key, value in row.items() if key not in ("question", "answer")}
        if not {"question", "answer"} <= set(row) and forms & set(row) != {"text"}:
            keys = textwrap.shorten(", ".join(sorted(set(row) - {"id"})), 200) or "nothing"
            raise ValueError(f"needs 'question' and 'answer', or 'text'; found {keys} (--columns names others)")
        return {key: value for key, value in row.items() if key != "text" or len(forms & set(row)) == 1}

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

    def sample(self, about: tuple[tuple[str, str], ...] = ()) -> Sample:
        """The row as a sample, with its fields of other names."""
        fields = dict(self) | {"question": self.question or "", "answer": self.text or self.answer}
        fields["spans"] = None if self.spans is None else tuple((start, end) for start, end in self.spans)
        fields |= {"wrong_answers": tuple(self.wrong_answers), "phrasings": tuple(self.phrasings)}
        del fields["text"]
        return Sample(**fields, about=about)


KEYS = tuple(Row.model_fields)
USED = frozenset((*KEYS, "perturbed_answer"))


def others_of(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(name, value) of the fields of a row that no sample has and that hold one word, line or number."""
    simple = ((key, value) for key, value in row.items() if key not in USED and isinstance(value, str | int | float))
    return tuple((str(key), str(value)) for key, value in simple if not empty(value))


def problem(error: ValidationError, key: str = "") -> str:
    """The first thing that is wrong with a row (or with its value under `key`), in one line."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else key
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "string_unicode":
        return f"'{key}' holds half of a surrogate pair; write the character as UTF-8"
    field, value = Row.model_fields.get(key), first["input"]
    number = f", not {value}; write it in quotes" if isinstance(value, int | float) and key != "continues" else ""
    return f"'{key}' must be {(field and field.description) or 'a non-empty string'}{number}"


def samples_from(source: Rows, prefix: str) -> list[Sample]:
    """Validated samples of rows; ids default to `<prefix>-<n>` and must be unique."""
    samples: dict[str, Sample] = {}
    for n, (where, row) in enumerate(source):
        try:
            name = f"{prefix}-{n:04d}" if empty(row.get("id")) else row["id"]
            sample = Row.model_validate({**row, "id": name}).sample(others_of(row))
        except ValidationError as error:
            raise UserError(f"{where}: {problem(error)}") from None
        if sample.id in samples:
            raise UserError(f"{where}: id '{sample.id}' is used twice; ids must be unique")
        samples[sample.id] = sample
    return list(samples.values())


def with_spans(samples: list[Sample], path: Path, piece_words: int = PIECE_WORDS) -> list[Sample]:
    """The same samples with the span labels of a file of rows, matched by question and answer."""
    labelled = [piece for sample in samples_from(rows(path), "spans") for piece in cut(sample, piece_words)]
    labels = {(s.question, s.answer): s.spans for s in labelled}
    samples = [replace(s, spans=labels.get((s.question, s.answer), s.spans)) for s in samples]
    if all(s.spans is None for s in samples):
        raise UserError(f"{path}: no row matches a forget sample by question and answer")
    return samples
