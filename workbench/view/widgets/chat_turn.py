"""One turn of a chat: a question, each model's answer, what each makes of the other's, and samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from workbench.evals import Reply, chance, interruptible, score_typed, streamed, token_table
from workbench.models import LanguageModel
from workbench.tasks import Sample
from workbench.view.widgets.chat_history import Record
from workbench.view.widgets.typing_box import EVERY


@dataclass
class Compared:
    """One answer's token table under the first model ("before") and a later one ("after").

    Attributes:
        tokens: both phases; one only where the two models have different tokenizers.
        chances: the typical probability of its tokens under its own model and under the other.
        other: the other model's place.
    """

    tokens: pd.DataFrame
    chances: tuple[float, float]
    other: int

    @property
    def both(self) -> bool:
        """Whether the change of each token is known."""
        return self.tokens["phase"].nunique() == 2


@dataclass(eq=False)
class Turn:
    """A question and what the models answered, by their places.

    Attributes:
        samples: what each was asked: the question, and its own turns before.
        replies: the answers.
        compared: of each answer; None where it was not compared, since it is empty or was stopped.
        drawn: further answers of each, drawn at a temperature.
        draws: how often each was asked for some.
    """

    samples: list[Sample]
    replies: list[Reply]
    compared: list[Compared | None]
    drawn: list[list[str]] = field(init=False)
    draws: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.drawn, self.draws = [[] for _ in self.replies], [0] * len(self.replies)

    @property
    def question(self) -> str:
        """What was asked."""
        return self.samples[0].question

    def text(self, model: int, which: int) -> str:
        """An answer: the model's own where `which` is -1, else one of those that were drawn."""
        return self.replies[model].text if which < 0 else self.drawn[model][which]


def side_by_side(
    models: list[LanguageModel],
    samples: list[Sample],
    max_new_tokens: int,
    show: Callable[[str, list[str]], None],
    stopped: Callable[[], bool],
) -> list[Reply]:
    """The answers, the models taking turns a token each: two at once would only fight over the same cores.

    `show` is called with the question and the texts so far, a few times a second.
    """
    streams = [streamed(lm, sample, max_new_tokens) for lm, sample in zip(models, samples, strict=True)]
    replies, going, shown = [Reply("")] * len(streams), set(range(len(streams))), 0.0
    while going and not stopped():
        for i in sorted(going):
            replies[i] = next(streams[i])
            if replies[i].ended:
                going.remove(i)
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            show(samples[0].question, [reply.text for reply in replies])
    return [reply if reply.ended else Reply(reply.text, "stopped") for reply in replies]


def compare(models: list[LanguageModel], place: int, sample: Sample, stopped: Callable[[], bool]) -> Compared | None:
    """A model's answer under itself and under another: the first, or for the first's own answer the last."""
    if not sample.answer:
        return None
    other = 0 if place else len(models) - 1
    tables = {}
    for each in (place, other):
        with interruptible(models[each], stopped):
            tables[each] = token_table(models[each], [sample]).assign(probe_set="chat")
    own, theirs = tables[place], tables[other]
    phases = {place: "before" if place == 0 else "after", other: "before" if place else "after"}
    key = ["position", "start", "end", "token_id"]
    same = own[key].equals(theirs[key])
    parts = [table.assign(phase=phases[each]) for each, table in tables.items() if same or each == place]
    return Compared(pd.concat(parts, ignore_index=True), (chance(own), chance(theirs)), other)


def answer_scores(
    models: list[LanguageModel],
    labels: list[str],
    place: int,
    sample: Sample,
    compared: Compared,
    scorers: tuple[str, ...],
    stopped: Callable[[], bool],
) -> pd.DataFrame:
    """An answer's score table: its surprisal under the models it was compared by, and further scorers of its own."""
    of_phase = {"before": min(place, compared.other), "after": max(place, compared.other)}
    parts = [
        rows.assign(scorer=f"surprisal, {labels[of_phase[phase]]}", score=-rows["logp"], step=0, task="")
        for phase, rows in sorted(compared.tokens.groupby("phase"), key=lambda each: of_phase[each[0]])
    ]
    parts += [score_typed(models[place], sample, name, stopped=stopped).scores for name in scorers]
    return pd.concat(parts, ignore_index=True)[list(parts[-1]) if scorers else list(parts[0])]


def record_of(turn: Turn, labels: list[str], chat: str, index: int, **more: Any) -> Record:
    """A turn as its line in the history."""
    answers: list[Record] = []
    for place, (label, reply) in enumerate(zip(labels, turn.replies, strict=True)):
        answer: Record = {"model": label, "text": reply.text, "ended": reply.ended}
        if (compared := turn.compared[place]) is not None:
            chances = dict(zip((label, labels[compared.other]), map(_finite, compared.chances), strict=True))
            answer["token_probability"] = chances
        answers.append(answer)
    return {"kind": "turn", "chat": chat, "turn": index, "question": turn.question, "answers": answers, **more}


def answered(sample: Sample, text: str) -> Sample:
    """What was asked, with an answer to it."""
    return replace(sample, answer=text)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
