"""How a model's prompts are written: recorded beside it, decided when it is loaded, and printed once."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from workbench.errors import UserError, note
from workbench.models.catalog import RECORD, read_record
from workbench.models.chat_template import DATE, is_dated
from workbench.models.encoding import end_of_turn
from workbench.models.language_model import LanguageModel

_described: set[str] = set()


def recorded_style(style: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the user chose of prompt, system message and date, completed by what was recorded beside a model.

    Raises:
        UserError: the record is damaged.
    """
    file = folder / RECORD
    recorded = read_record(file) if file.exists() else {}
    if recorded.get("prompt") not in ("chat", "plain", None):
        raise UserError(f"{file}: prompt is chat or plain, not {str(recorded['prompt'])[:40]!r}")
    for name in ("system", "date"):
        if not isinstance(recorded.get(name), str | None):
            raise UserError(f"{file}: {name} is a text, not {str(recorded[name])[:40]!r}")
    if style["prompt"] == "plain":
        recorded.pop("system", None)
    return {name: recorded.get(name) if value is None else value for name, value in style.items()}


def decided_style(name: str, style: dict[str, Any], *, has_template: bool) -> dict[str, Any]:
    """The same with what is still open decided.

    Raises:
        UserError: the model cannot write its prompts so, or the date is none.
    """
    prompt = style["prompt"] or ("chat" if has_template else "plain")
    if prompt == "chat" and not has_template:
        raise UserError(f"model '{name}' has no chat template; use --prompt plain")
    if prompt == "plain" and style["system"] is not None:
        raise UserError(f"model '{name}': only chat prompts have a system message; leave --system out")
    return {"prompt": prompt, "system": style["system"], "date": checked_date(style["date"] or DATE)}


def checked_date(text: str) -> str:
    """The date, if it is one.

    Raises:
        UserError: it is not written like 2024-07-26.
    """
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise UserError(f"date must be written like {DATE}, not '{text}'") from None


def describe(lm: LanguageModel) -> None:
    """Print, once for each model, what was understood of it.

    Raises:
        UserError: its chat template cannot be used.
    """
    ids, text = end_of_turn(lm)
    marks = [repr(lm.tokenizer.convert_ids_to_tokens(index)) for index in sorted(ids)]
    ends = " or ".join([*marks, *([repr(text)] if text else [])]) or "nothing"
    line = f"{lm.name}: {lm.prompt} prompts, a turn ends with {ends}"
    if lm.prompt == "chat":
        line += f", date {lm.date if is_dated(lm) else 'not used'}"
        line += f", system message {'none' if lm.system is None else repr(lm.system[:60])}"
    line += f"; {lm.precision} on {lm.device}"
    if line not in _described:
        _described.add(line)
        note(line)
