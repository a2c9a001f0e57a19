"""Tags and notes about a run's answers, kept with the run in a file that several browsers may write."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import UserError
from workbench.files import parse_json, write_json
from workbench.view.widgets.typing_box import whole

FILE = "notes.json"
Mark = dict[str, str]


class AnswerNotes:
    """`notes.json` of a run: "<probe set>/<sample id>" -> {"tags": "a, b", "note": "..."}.

    What cannot be written is kept in memory and written with the next note that can.

    Raises:
        UserError: the file is not such JSON.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.unsaved: dict[str, Mark] = {}
        self.marks = self._read()

    def _read(self) -> dict[str, Mark]:
        try:
            marks = parse_json(self.path.read_bytes()) if self.path.exists() else {}
            return {str(key): {"tags": str(m["tags"]), "note": str(m["note"])} for key, m in marks.items()}
        except (ValueError, AttributeError, TypeError, KeyError):
            raise UserError(f"{self.path} does not hold tags and notes as JSON; mend it or move it away") from None
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}; mend it or move it away") from error

    def of(self, key: str) -> Mark:
        """Tags and note of an answer; empty ones where there are none."""
        return self.marks.get(key, {"tags": "", "note": ""})

    def set(self, key: str, tags: str, note: str) -> None:
        """Mark an answer, and write all marks that are not written yet; what others wrote meanwhile stays.

        Raises:
            UserError: the file cannot be read or written; the mark is kept in memory.
        """
        words = dict.fromkeys(word.strip() for word in tags.split(",") if word.strip())
        mark = {"tags": whole(", ".join(words)), "note": whole(note.strip())}
        self.marks[key] = self.unsaved[key] = mark
        try:
            marks = {k: m for k, m in (self._read() | self.unsaved).items() if any(m.values())}
            write_json(self.path, marks)
        except UserError as error:
            raise UserError(f"{error}. It is kept here until it can be written") from error
        self.marks, self.unsaved = marks, {}
