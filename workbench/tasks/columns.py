"""Which columns of a row hold the question, the answer or the text, in the forms that people have."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import UserError, printable
from workbench.tasks.json_rows import CHATS, decoded
from workbench.tasks.rows import KEYS, USED, empty

QUESTIONS = ("question", "query", "prompt", "instruction", "input")  # in the order of preference
ANSWERS = ("answer", "answers", "completion", "response", "output", "chosen")
PLAIN = ("text", "content", "document", "passage")
NAMEABLE = (*KEYS, "messages")  # what a user may name a column for
ABOUT = tuple(key for key in KEYS if key not in ("question", "answer", "text"))  # beside any of them
Turns = list[tuple[str, Any]]  # the role, and what should be a text
ROLES = {"human": "user", "developer": "system"} | dict.fromkeys(
    ("gpt", "chatgpt", "model", "bot", "bard", "bing"), "assistant"
)
SYSTEM = 'a system message belongs to the model (--system "..."), not to a row: ignored'
MANY_SHOWN = 8  # ignored columns that are named


@dataclass
class Reading:
    """How the rows of one file are read: counted row by row, said in one line.

    Attributes:
        source: the file's name.
        named: key -> column, where the user says which column is what.
        kinds: how a row was read -> rows.
        ignored: names of columns that were filled and not used.
        notes: what else there is to say -> rows.
    """

    source: str
    named: Mapping[str, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, None] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """What was used, what was ignored and what was changed."""
        kinds = [kind if len(self.kinds) == 1 else f"{n} with {kind}" for kind, n in self.kinds.items()]
        parts = [f"{self.source}: {_count(self.kinds.total())}, {' and '.join(kinds)}"]
        if self.ignored:
            names = [f"'{name}'" for name in self.ignored]
            more = f" and {len(names) - MANY_SHOWN} more" if len(names) > MANY_SHOWN else ""
            parts.append(f"ignored: {', '.join(names[:MANY_SHOWN])}{more}")
        parts += [f"{note} ({_count(n)})" for note, n in self.notes.items()]
        return printable("; ".join(parts))

    def row(self, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row in our own keys; one that is in no known form stays as it is, for `Row` to say what it lacks.

        Raises:
            UserError: a key is misspelt, or what a column holds cannot be learned; the line names the place.
        """
        filled = {key: value for key, value in row.items() if not empty(value)}
        columns: dict[str, str] = {}  # our name -> the column's own; an exact name comes before one in capitals
        for name in sorted(filled, key=lambda name: name != _plain(name)):
            columns.setdefault(_plain(name), name)
        _refuse_misspelt(columns, where)
        systems = self.notes[SYSTEM]
        try:
            kind, used, values = self._form(filled, columns)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except RecursionError:
            raise UserError(f"{where}: nested too deeply to be read") from None
        if not used:
            return dict(row)
        about = {key: self.named.get(key, columns.get(key)) for key in ABOUT}
        about["wrong_answers"] = about["wrong_answers"] or columns.get("perturbed_answer")
        values |= {key: filled[name] for key, name in about.items() if name in filled}
        values |= {key: _cell(values[key]) for key in ("spans", "wrong_answers") if key in values}
        if isinstance(flag := values.get("continues"), str):  # as in CSV
            values["continues"] = {"true": True, "false": False}.get(flag.strip().lower(), flag)
        self.kinds[kind] += 1
        rest = [name for name in filled if name not in {*used, *about.values()}]
        self.ignored |= dict.fromkeys(rest)
        values = {name: filled[name] for name in rest if name not in USED} | values  # by which rows can be grouped
        if columns.get("system") in self.ignored:
            self.notes[SYSTEM] = systems + 1
        return values

    def _form(self, filled: dict[str, Any], columns: dict[str, str]) -> tuple[str, list[str], dict[str, Any]]:
        """How a row holds question and answer or a text, in which columns (none: in no known form), and these."""

        def column(key: str, names: tuple[str, ...]) -> str:
            name = self.named.get(key) or next((columns[name] for name in names if name in columns), "")
            return name if name in filled else ""

        chat, text = column("messages", CHATS), column("text", PLAIN)
        question, answer = column("question", QUESTIONS), column("answer", ANSWERS)
        own = {"question", "answer"} & {*columns, *self.named}
        if "text" in self.named and text:
            question = answer = chat = ""
        if chat and ("messages" in self.named or not (len(own) == 2 or {"question", "answer"} & {*self.named})):
            return f"question and answer from column '{chat}'", [chat], self._chat(_turns(_cell(filled[chat])), chat)
        if answer and _turns(filled[answer]) and not question:  # preferences without a prompt of their own
            return f"question and answer from column '{answer}'", [answer], self._chat(_turns(filled[answer]), answer)
        if question and answer:
            used, prompt = [question, answer], filled[question]
            if question == columns.get("instruction") and "input" in columns and answer != columns["input"]:
                used, prompt = [question, columns["input"], answer], f"{prompt}\n{filled[columns['input']]}"
            names = ", ".join(f"'{name}'" for name in used)
            return f"question and answer from columns {names}", used, self._exchange(prompt, filled[answer], answer)
        if text and "role" in columns:
            raise UserError(f"is one turn of a chat; give all of its turns as a list under '{CHATS[0]}'")
        if text and (not own or "text" in self.named):
            return f"text from column '{text}'", [text], {"text": filled[text]}
        return "", [], {}

    def _exchange(self, question: Any, value: Any, column: str) -> dict[str, Any]:
        """Question and answer, of which each may be turns of a chat, and the answer a list, as SQuAD's are."""
        value = _cell(value) if _plain(column) == "answers" else value
        if _turns(question) or _turns(value):
            turns = _turns(value) or [("assistant", value)]
            if "user" not in (role for role, _ in turns):
                turns = [*(_turns(question) or [("user", question)]), *turns]
            return self._chat(turns, column)
        if isinstance(value, dict):
            value = value.get("text", value.get("value", value))
        if isinstance(value, list):
            texts = [each.get("text", each) if isinstance(each, dict) else each for each in value if not empty(each)]
            if not texts:
                raise UserError(f"'{column}' holds no answer; leave the row out")
            if any(text != texts[0] for text in texts):
                self.notes[f"the first of several in '{column}'"] += 1
            value = texts[0]
        return {"question": question, "answer": value}

    def _chat(self, turns: Turns, column: str) -> dict[str, Any]:
        """The last answer of a chat and the question before it."""
        roles = [role for role, _ in turns]
        if not turns:
            raise UserError(f"'{column}' must be a list of turns such as {{'role': 'user', 'content': '...'}}")
        last = max((n for n, role in enumerate(roles) if role == "assistant"), default=0)
        users = [n for n, role in enumerate(roles[:last]) if role == "user"]
        if not users:
            raise UserError(f"'{column}' has no assistant's turn after a user's; that is the answer to learn")
        if empty(turns[users[-1]][1]) or empty(turns[last][1]):
            raise UserError(f"'{column}' has a turn without text; leave the row out")
        if "system" in roles:
            self.notes[SYSTEM] += 1
        if roles.count("user") > 1 or roles.count("assistant") > 1:
            self.notes["of several turns only the last answer and the question before it"] += 1
        if others := sorted({*roles} - {"user", "assistant", "system"}):
            self.notes[f"turns of {', '.join(others)} ignored"] += 1
        return {"question": turns[users[-1]][1], "answer": turns[last][1]}


def _count(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"


@functools.lru_cache(maxsize=1000)
def _plain(name: str) -> str:
    """A column's name as we would write it."""
    return name.strip().casefold().replace(" ", "_")


def _cell(value: Any) -> Any:
    """A list or object that stands as JSON text in a cell, such as a CSV file's."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(UserError):
            return decoded(value, "")
    return value


def _turns(value: Any) -> Turns:
    """The turns of a chat as (role, text); none where this is no chat."""
    if isinstance(value, dict) and all(isinstance(each, list) for each in value.values()):  # as `datasets` keeps them
        value = [dict(zip(value, turn, strict=False)) for turn in zip(*value.values(), strict=False)]
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return []
    turns = []
    for turn in value:
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(role, str):
            return []
        if isinstance(content, list):  # parts; one that is no text, such as an image, makes it none
            texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
            content = "".join(texts) if len(texts) == len(content) else None
        turns.append((ROLES.get(role.casefold(), role.casefold()), content))
    return turns


def _refuse_misspelt(columns: dict[str, str], where: str) -> None:
    """Raise for a key that is nearly ours, unless ours is there too or the key has a meaning of its own."""
    for key, name in columns.items():
        meant = _meant(key)
        if meant and meant not in columns:
            raise UserError(f"{where}: unknown key '{name}': did you mean {meant}?")


@functools.lru_cache(maxsize=1000)  # every row has the same keys
def _meant(key: str) -> str:
    """The key that this one is nearly; none where it has a meaning of its own."""
    if key in {*KEYS, *QUESTIONS, *ANSWERS, *PLAIN, *CHATS, "perturbed_answer"}:
        return ""
    return next(iter(difflib.get_close_matches(key, KEYS, n=1, cutoff=0.85)), "")
