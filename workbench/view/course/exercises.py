"""The registry of exercises and `check`: is the answer right, and if not, what about it is wrong."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from workbench.errors import UserError, one_line, printable
from workbench.registry import Registry, Spec
from workbench.view.course.progress import record
from workbench.view.html.render import Html, render


@dataclass(frozen=True, kw_only=True)
class ExerciseSpec(Spec):
    """An exercise of the course; its function returns what a right answer shows, and raises `Wrong` for another.

    Attributes:
        title: what it asks, in a few words.
        difficulty: dots of five.
        importance: dots of five.
        minutes: that it takes.
    """

    title: str
    difficulty: int
    importance: int
    minutes: int
    source: str = "ours"
    certainty: str = "ours"

    @property
    def heading(self) -> str:
        """The line above the exercise in its notebook."""
        dots = [f"{'●' * n}{'○' * (5 - n)}" for n in (self.difficulty, self.importance)]
        return f"difficulty {dots[0]} · importance {dots[1]} · {self.minutes} minutes"

    @property
    def takes(self) -> list[str]:
        """What the check reads beside the answer: its keyword arguments."""
        parameters = inspect.signature(self.function).parameters.values()
        return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


class Wrong(Exception):
    """What about an answer is wrong, in a line or two that do not give the right one away."""


CHAPTERS = ("tour", "importance", "comparison", "own_runs", "causes", "learned", "attacks", "requests")
exercise = Registry("exercise", ExerciseSpec, [f"workbench.view.course.{chapter}" for chapter in CHAPTERS])


@dataclass(frozen=True)
class Verdict:
    """What `check` says; true where the answer is right.

    Attributes:
        exercise: its number.
        title: what it asks.
        right: whether the answer is right; None where there is none yet.
        text: what the answer shows, or what about it is wrong.
    """

    exercise: str
    title: str
    right: bool | None
    text: str

    def __bool__(self) -> bool:
        return bool(self.right)

    def __repr__(self) -> str:
        return f"{self.exercise} {self.mark}: {printable(self.text)}"

    @property
    def mark(self) -> str:
        """In a word: "right", "not yet" or "no answer yet"."""
        return {True: "right", False: "not yet", None: "no answer yet"}[self.right]

    def _repr_html_(self) -> Html:
        return render("course.verdict", verdict=self, css=True)


def check(name: str, answer: Any = ..., **run: Any) -> Verdict:
    """Check the answer to an exercise of the course, on the learner's own run.

    The verdict is noted in `progress.jsonl` where the current folder has one, as `workbench course` makes it.

    Args:
        name: of the exercise, such as "01.2".
        answer: a number, a name, a function or a view, as the exercise says; `...` is no answer yet.
        run: what the check reads beside it: the learner's tables or runs, as the exercise's cell gives them.

    Raises:
        UserError: no such exercise, or what it reads is missing or has another name.
    """
    spec = exercise[name]
    if set(run) != set(spec.takes):
        takes = ", ".join(f"{each}=..." for each in spec.takes)
        raise UserError(f"exercise {name} is checked by: wb.check('{name}', answer{', ' if takes else ''}{takes})")
    if answer is ... or answer is None:
        return Verdict(name, spec.title, None, "put your answer in the place of the dots, and run the cell again")
    try:
        right, text = True, str(spec.function(answer, **run))
    except Wrong as wrong:
        right, text = False, str(wrong)
    except Exception as error:  # an answer is anything, and so is what a learner's function does with what it gets
        right, text = False, f"this cannot be checked: {type(error).__name__}: {one_line(error, 200)}"
    record(name, right)
    return Verdict(name, spec.title, right, text)
