"""A chat template around one question and its answer: rendered whole, in a sandbox, and taken apart again."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import UserError

if TYPE_CHECKING:
    from workbench.models.language_model import LanguageModel

DATE = "2024-07-26"  # what Llama 3's template writes where it knows no date; another day would be another prompt
SECONDS, CHARACTERS, MEMORY = 5.0, 1 << 20, 1 << 30  # limits of one rendering: templates come with models, untrusted
History = Sequence[tuple[str, str]]
_QUESTION, _ANSWER = "QuestionStandsHere", "AnswerStandsHere"


class Around(NamedTuple):
    """The text of a whole turn: before the question, the question, between, the answer, and what ends the turn."""

    before: str
    question: str
    between: str
    answer: str
    after: str


def render(lm: LanguageModel, question: str, answer: str, history: History = ()) -> Around:
    """The model's template around a question and its answer, without a prompt for a further turn.

    Turns before it (`history`) are a part of the text before the question. Templates may cut white space around a
    message; any other change to it is refused.

    Raises:
        UserError: the template fails, or does not write question and answer as they are, once and in this order.
    """
    as_list, (before, between, after) = frame(lm)
    text = _apply(lm, _messages(lm.system, question, answer, as_list, history))
    if history:
        framed = _apply(lm, _messages(lm.system, _QUESTION, _ANSWER, as_list, history))
        before, between, after = _parts(framed) or ("", "", "")
    body = text.removeprefix(before).removesuffix(after)
    if len(before) + len(body) + len(after) == len(text):
        for question_text in _trimmed(question):
            for answer_text in _trimmed(answer):
                if body == question_text + between + answer_text:
                    return Around(before, question_text, between, answer_text, after)
    shown = f"'{question[:40]}'" if question in text else f"the question '{question[:40]}'"
    raise UserError(
        f"the chat template of {lm.name} changes the text of {shown} or of its answer; use --prompt plain, or mend it"
    )


def is_dated(lm: LanguageModel) -> bool:
    """Whether the model's template may write the date."""
    template = lm.tokenizer.get_chat_template()
    return "strftime_now" in template or "date_string" in template


def frame(lm: LanguageModel) -> tuple[bool, tuple[str, str, str]]:
    """Whether the template takes messages as lists of parts; its text before a question, between, and after the answer.

    Raises:
        UserError: see `render`; or it has no place for the system message.
    """
    key = (str(lm.tokenizer.chat_template), str(lm.tokenizer.special_tokens_map), lm.system, lm.date)
    if key not in _frames:
        _frames[key] = _find_frame(lm)
    return _frames[key]


_frames: dict[tuple[str, str, str | None, str], tuple[bool, tuple[str, str, str]]] = {}


def _find_frame(lm: LanguageModel) -> tuple[bool, tuple[str, str, str]]:
    problem: UserError | None = None
    for as_list in (False, True):  # multimodal models take lists of parts
        try:
            with _memory_limit():
                text = _apply(lm, _messages(lm.system, _QUESTION, _ANSWER, as_list))
            if parts := _parts(text):
                _check_system(lm, as_list, text)
                return as_list, parts
            problem = problem or UserError(
                f"the chat template of {lm.name} does not write the question once and after it the answer; "
                "use --prompt plain, or mend the template"
            )
        except UserError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _parts(text: str) -> tuple[str, str, str] | None:
    """The text before, between and after the stand-ins for a question and its answer; None unless each stands once."""
    before, question, rest = text.partition(_QUESTION)
    between, answer, after = rest.partition(_ANSWER)
    once = question and answer and _QUESTION not in rest and _ANSWER not in before + after
    return (before, between, after) if once else None


def _check_system(lm: LanguageModel, as_list: bool, text: str) -> None:
    """Raise where the system message, if there is one, leaves no trace."""
    if lm.system is not None and text == _apply(lm, _messages(None, _QUESTION, _ANSWER, as_list)):
        raise UserError(f"the chat template of {lm.name} has no place for a system message; leave --system out")


def _messages(
    system: str | None, question: str, answer: str, as_list: bool, history: History = ()
) -> list[dict[str, Any]]:
    earlier = [turn for pair in history for turn in zip(("user", "assistant"), pair, strict=True)]
    turns = [("system", system), *earlier, ("user", question), ("assistant", answer)]
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if as_list else text}
        for role, text in turns
        if text is not None
    ]


def _trimmed(text: str) -> list[str]:
    return list(dict.fromkeys((text, text.strip(), text.rstrip(), text.lstrip())))


def _apply(lm: LanguageModel, messages: list[dict[str, Any]]) -> str:
    """The rendered text; templates run in transformers' sandbox, with a limit of time and size."""
    template = lm.tokenizer.get_chat_template()
    values = {"date_string": _strftime(lm.date, "%d %b %Y")} if "date_string" in template else {}
    try:
        with _time_limit():
            text: str = lm.tokenizer.apply_chat_template(
                messages, chat_template=_dated(template, lm.date), tokenize=False, **values
            )
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        advice = "leave --system out, or use --prompt plain" if lm.system is not None else "use --prompt plain"
        raise UserError(f"the chat template of {lm.name} fails: {why}; {advice}, or mend the template") from error
    if len(text) > CHARACTERS + sum(len(str(message["content"])) for message in messages):
        raise UserError(f"the chat template of {lm.name} writes over {CHARACTERS:,} characters; use --prompt plain")
    return text


def _dated(template: str, day: str) -> str:
    """The template with `strftime_now` answering from a fixed date, so that the prompt does not change overnight.

    A macro takes the function's place. trim_blocks removes the newline after it, so the template renders as before.
    """
    if "strftime_now" not in template:
        return template
    codes = [code for code in "aAbBcdDefFgGhHIjmMnpSuUVwWxXyYzZ%"]
    codes = [f"%{each}" for each in codes] + [f"%-{each}" for each in "dmHIMSyj"]
    values = {code: _strftime(day, code) for code in codes}
    replaced = "".join(f"|replace({code!r},{value!r})" for code, value in values.items() if value != code)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}\n{template}"


def _strftime(day: str, code: str) -> str:
    return date.fromisoformat(day).strftime(code)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raise TimeoutError in this thread once its Python code has run for too long, whatever loop it is in."""
    deadline, before = time.monotonic() + SECONDS, sys.gettrace()

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished after {SECONDS:.0f} seconds")
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Make an allocation far beyond what a template needs a MemoryError, where the system can (Linux)."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + MEMORY
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
