"""The playground: a question and an answer in boxes, and every token's importance while one types."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import traitlets

from workbench.errors import UserError, printable, unknown
from workbench.evals import Scored, offered, score_typed, streamed
from workbench.models import UNPREDICTED, encode
from workbench.scorers import check_reference, load_scorer
from workbench.tasks import Sample
from workbench.view.figures import UNITS, TextFigure, question_row
from workbench.view.html import alternatives, number, parts, render, shortened, style_sheet
from workbench.view.model_source import ModelSource, described, model_of
from workbench.view.run_source import run_of
from workbench.view.widgets.shortcut_guard import ShortcutGuard
from workbench.view.widgets.token_view import TokenView
from workbench.view.widgets.typing_box import EMPTY, EVERY, PAUSES, ByHand, NextTokens, TypingBox, whole
from workbench.view.widgets.worker import Worker

SHARE = 0.3  # of the time that a text took: so long a pause is waited for before the next is sent


class Playground(ByHand):
    """Type a question and an answer, or a text alone: its tokens are coloured while you type.

    The newest text wins: the scores of an older one are not shown after it. Click a token (or choose it by keyboard)
    for what the model would rather have said there. The kernel stays free.

    Args:
        model: a name, directory or loaded model, or a run, for the model that it left.
        question: the first question; empty for a plain text.
        answer: the first answer, or text.
        scorer: what the colour is: a scorer that needs nothing but a text and a model (and `reference`), or the one in
            `learned`.
        unit: "token" or "word".
        reference: a second model with the same tokenizer, for scorers that compare with one.
        learned: a learned scorer's file; by default the one that the run has, if it has one.
        max_new_tokens: of the greedy answer, at most.

    Attributes:
        question: what stands in the box; set it to type from Python.
        answer: the same.
        scorer: the same.
        view: the token view; `view.selected` are the tokens that are chosen.
        tokens: the token table of the text that is shown: probabilities, ranks, alternatives.

    Raises:
        UserError: no such model, scorer or file, or two that do not go together.
    """

    def __init__(
        self,
        model: ModelSource,
        *,
        question: str = "",
        answer: str = "",
        scorer: str = "surprisal",
        unit: str = "token",
        reference: ModelSource | None = None,
        learned: Path | str | None = None,
        max_new_tokens: int = 64,
    ) -> None:
        # First, as `close` needs them.
        self._scoring = Worker(self._failed)
        self._answering = Worker(lambda line: setattr(self.box, "problem", line))
        self._workers = self._scoring, self._answering
        if unit not in UNITS:
            raise unknown("unit", unit, list(UNITS))
        run = run_of(model)
        self.lm = model_of(model)
        self.reference = None if reference is None else model_of(reference, self.lm)
        if learned is None and run is not None and (run.path / "scorer.safetensors").exists():
            learned = run.path / "scorer.safetensors"
        self.learned = None if learned is None else load_scorer(Path(learned), str(self.lm.device))
        names = offered(reference=self.reference is not None)
        if self.learned is not None:
            names = {self.learned.name: False} | names
        if scorer not in names:
            raise unknown("scorer", scorer, list(names))
        check_reference(self.lm, self.reference, [] if self.learned and scorer == self.learned.name else [scorer])
        self.max_new_tokens = max_new_tokens
        self.tokens = pd.DataFrame()
        self._first = 0  # 1 where nothing predicts the text's first token, which then has no row in `tokens`
        self._showing: tuple[str, str] = ("", "")
        self._submitted: tuple[int, Sample, str] | None = None
        self._lock = threading.RLock()
        about = described(self.lm) + ("" if self.reference is None else f"; reference {described(self.reference)}")
        scorers = [[name, many] for name, many in names.items()]
        self.box = TypingBox(about=about, scorers=scorers, scorer=scorer, unit=unit)
        self.view = TokenView(EMPTY, {})
        self.view.unit = unit
        self.view.layout.display = "none"
        self.next = NextTokens()
        super().__init__([ShortcutGuard(), self.box, self.view, self.next])
        self._named("wb-playground", "wb-by-hand", "wb-guarded")
        self.box.observe(lambda _: self._submit(), ["typed", "question", "answer", "scorer"])
        traitlets.link((self.box, "unit"), (self.view, "unit"))
        self.view.observe(lambda change: self._chosen(bool(change["new"])), "selected")
        self.box.on_msg(self._heard)
        self.next.on_msg(self._heard)
        if question or answer:
            self.type(question, answer)
            self._scoring.wait(5)  # so that the copy in a saved notebook has the colours

    # What is typed ------------------------------------------------------------------------------------------------

    def type(self, question: str | None = None, answer: str | None = None, scorer: str | None = None) -> None:
        """Put texts into the boxes as if they were typed; None leaves what is there.

        Raises:
            UserError: no such scorer here, or no text.
        """
        names = [name for name, _ in self.box.scorers]
        if scorer is not None and scorer not in names:
            raise unknown("scorer", scorer, names)
        changes = {"question": question, "answer": answer, "scorer": scorer}
        with self.box.hold_sync(), self.box.hold_trait_notifications():
            for name, value in changes.items():
                if value is not None:
                    setattr(self.box, name, whole(value))
            self.box.typed += 1

    question = property(lambda self: self.box.question, lambda self, text: self.type(question=text))
    answer = property(lambda self: self.box.answer, lambda self, text: self.type(answer=text))
    scorer = property(lambda self: self.box.scorer, lambda self, name: self.type(scorer=name))

    def _submit(self) -> None:
        box = self.box
        turn, sample, name = box.typed, Sample("typed", whole(box.question).strip(), whole(box.answer)), box.scorer
        if self._submitted != (turn, sample, name):  # one message changes several traits
            self._submitted = turn, sample, name
            self._scoring.submit(lambda stopped: self._score(turn, sample, name, stopped))

    def _score(self, turn: int, sample: Sample, name: str, stopped: Callable[[], bool]) -> None:
        began = time.perf_counter()
        scored = None
        if sample.question or sample.answer:
            scored = score_typed(self.lm, sample, name, reference=self.reference, learned=self.learned, stopped=stopped)
        if not stopped():
            with self._lock:
                self._show(turn, sample, name, scored, began)
        if not stopped():  # a newer text comes first
            self.redraw_twin()

    def _show(self, turn: int, sample: Sample, name: str, scored: Scored | None, began: float) -> None:
        self.tokens = pd.DataFrame() if scored is None else scored.tokens
        self._showing = (sample.question, sample.answer)
        if scored is not None:
            self._first = len(encode(self.lm, sample).positions(UNPREDICTED))
            self.view.show(scored.scores, {sample.id: ("", sample.answer)}, scorer=name)
        self.view.layout.display = "none" if scored is None or not sample.answer.strip() else ""
        self._place()
        took = 1000 * (time.perf_counter() - began)
        with self.box.hold_sync():
            self.box.shown, self.box.problem = turn, ""
            self.box.note = "" if scored is None else f"{len(scored.tokens)} tokens, {took:.0f} ms"
            self.box.pause = round(min(max(PAUSES[0], SHARE * took), PAUSES[1]))

    def _failed(self, line: str) -> None:
        """What was typed stays; the scores of an older text are hidden, as they are not of what stands there."""
        with self._lock, self.box.hold_sync():
            self.box.problem, self.box.shown, self.box.note = line, self.box.typed, ""
            self.view.layout.display = "none"
            self.next.place = {}

    # Alternatives, and the greedy answer --------------------------------------------------------------------------

    def _chosen(self, any_token: bool) -> None:
        self._place()
        if any_token:  # without one it is a new text that is shown, whose twin is drawn later
            self.redraw_twin()

    def _place(self) -> None:
        """Show what the model expected at the chosen token; without one, after the text."""
        with self._lock:
            rows, chosen = self.tokens, self.view.selected[-1] if self.view.selected else None
            at = chosen["position"] - self._first if chosen else (len(rows) - 1 if self._showing[1] else 0)
            if not 0 <= at < len(rows):
                self.next.place = {}
                return
            row = rows.iloc[at]
            specials = set(self.lm.tokenizer.all_special_tokens)
            pairs = alternatives(row["alternatives"])
            known = math.isfinite(row["logp"])
            self.next.place = {
                "chosen": bool(chosen),
                "token": parts(row["token"].strip() or row["token"]) if row["end"] > row["start"] else "",
                "probability": number(math.exp(row["logp"])) if known else number(None),
                "rank": int(row["rank"]) + 1,
                "rows": [[parts(text), number(p), p, text not in specials] for text, p in pairs],
                "texts": [text for text, _ in pairs],
                "range": [int(row["start"]), int(row["end"])],
            }

    def take(self, row: int) -> None:
        """Put an alternative, by its place in the list, in place of the chosen token, or after the text."""
        place, text = self.next.place, whole(self.box.answer)
        if text != self._showing[1] or not 0 <= row < len(place.get("texts", [])):
            return  # the text is another by now
        (start, end), new = place["range"], place["texts"][row]
        if place["chosen"] and not new[:1].isalnum():  # a new word takes the place of the rest of the old one, too
            end += len(re.match(r"\w*", text[end:])[0])  # type: ignore[index]
        if place["rows"][row][3]:
            self.type(answer=(text[:start] + new + text[end:]) if start else new.lstrip() + text[end:])

    def greedy(self) -> None:
        """Let the model answer the question, or continue the text where there is none; it streams below the boxes."""
        question, text = whole(self.box.question).strip(), whole(self.box.answer)
        if not question and not text.strip():
            raise UserError("type a question, or the beginning of a text")
        sample = Sample("typed", question, "") if question else Sample("typed", text.rstrip(), "", continues=True)
        self._answering.submit(lambda stopped: self._stream(sample, stopped))

    def _stream(self, sample: Sample, stopped: Callable[[], bool]) -> None:
        shown, last = 0.0, ("", "")
        to = ("continues" if sample.continues else "answers", parts(shortened(sample.question)))
        for reply in streamed(self.lm, sample, self.max_new_tokens):
            last = reply.text, reply.ended
            if stopped():
                break
            if reply.ended or time.monotonic() - shown > EVERY:
                shown = time.monotonic()
                self.box.reply = {"to": to, "text": parts(reply.text), "raw": reply.text, "ended": reply.ended}
        if not self._answering.closed and stopped():
            self.box.reply = {"to": to, "text": parts(last[0]), "raw": last[0], "ended": "stopped"}

    def use(self) -> None:
        """Put the greedy answer into the answer box; after the text where it continues one."""
        if reply := self.box.reply:
            continues = reply["to"][0] == "continues"
            self.type(answer=f"{whole(self.box.answer).rstrip()} {reply['raw']}" if continues else reply["raw"])

    def _calls(self, message: dict[str, Any]) -> dict[str, Callable[[], Path | None]]:
        return {
            "greedy": self.greedy,
            "stop": self._answering.stop,
            "use": self.use,
            "take": lambda: self.take(int(message.get("row", -1))),
        }

    def figure(self, **shown: Any) -> TextFigure:
        """The coloured text with its question, as the view shows it.

        Raises:
            UserError: there is no text.
        """
        if self.view.layout.display == "none":
            raise UserError("there is nothing to save yet: type an answer, or a text alone")
        drawn = self.view.figure()
        return replace(drawn, rows=[*question_row(self._showing[0]), *drawn.rows])

    def to_html(self) -> str:
        """The static twin: the texts, the coloured answer, what the model expected at the chosen place, its answer."""
        question, answer = self._showing
        view = "" if self.view.layout.display == "none" else self.view.to_html()
        head = render(
            "by_hand.typed", question=question, text="" if view else answer, about=self.box.about,
            problem=self.box.problem, reply=self.box.reply.get("raw", ""),
        )  # fmt: skip
        return style_sheet() + style_sheet("by_hand") + head + view + render("by_hand.place", place=self.next.place)

    def __repr__(self) -> str:
        return printable(f"Playground({self.lm.name}, {self.scorer}: {shortened(self.answer or self.question)!r})")
