"""The chat: one question to two or three models, their answers side by side while they come."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup

from workbench.errors import UserError, printable
from workbench.evals import Stopped, interruptible, offered, sampled
from workbench.files import write_text
from workbench.tasks import Sample
from workbench.view.figures import TextFigure
from workbench.view.html import page, parts, style_sheet
from workbench.view.model_source import ModelSource, described, several
from workbench.view.run_source import run_of
from workbench.view.widgets.chat_box import ChatBox
from workbench.view.widgets.chat_history import FILE, ChatHistory
from workbench.view.widgets.chat_html import DIFFERENCES, LEGEND, chat_html, records_html, turn_html, turns_figure
from workbench.view.widgets.chat_turn import Compared, Turn, answer_scores, answered, compare, record_of, side_by_side
from workbench.view.widgets.shortcut_guard import ShortcutGuard
from workbench.view.widgets.static_twin import FEW
from workbench.view.widgets.token_payload import CHANGE
from workbench.view.widgets.token_view import TokenView
from workbench.view.widgets.typing_box import EMPTY, ByHand, whole
from workbench.view.widgets.worker import Worker

Names: TypeAlias = Sequence[str]
MORE = 10  # samples that a click draws
EARLIER = 20  # turns of the history that are shown


class Chat(ByHand):
    """Ask two or three models the same by hand: answers side by side as they come, what differs, samples, heatmaps.

    Answers are greedy; `more` draws samples. The kernel stays free meanwhile. What was asked is kept with the run, in
    `chat.jsonl`.

    Args:
        models: a run alone, for its model before and after; or two or three of runs (for the models that they left),
            names, directories and loaded models, the one before first.
        history: the file that keeps what was asked; by default `chat.jsonl` of the last run that is given.
        max_new_tokens: of an answer, at most.
        scorers: further scorers of an answer's heatmap; they need nothing but a text and a model.

    Attributes:
        models: the loaded models.
        labels: their names.
        turns: those of this chat.
        view: the heatmap of the answer that is open.
        history: what is kept; `history.earlier` and `history.own` are its records.

    Raises:
        UserError: one model, or more than three; one that cannot be loaded; an unknown scorer.
    """

    twin_of = FEW

    def __init__(
        self, *models: ModelSource, history: Path | str | None = None, max_new_tokens: int = 64, scorers: Names = ()
    ) -> None:
        # First, as `close` needs them. A heatmap is opened while answers go on.
        self._worker, self._heatmaps = (Worker(lambda line: setattr(self.box, "problem", line)) for _ in range(2))
        self._workers = self._worker, self._heatmaps
        runs = [run for run in map(run_of, models) if run is not None]
        if history is None and runs:
            history = runs[-1].path / FILE
        self.models, self.labels = several(models)
        alone = offered(reference=False)
        if names := [name for name in scorers if name not in alone]:
            raise UserError(f"scorer '{names[0]}' needs more than a text; choose one of {', '.join(alone)}")
        self.scorers, self.max_new_tokens = tuple(scorers), max_new_tokens
        self.turns: list[Turn] = []
        self.name = ""  # of this chat in the history
        self.history = ChatHistory(None if history is None else Path(history).absolute())
        named = zip(self.models, self.labels, strict=True)
        about = [described(lm, self.models[:i], label) for i, (lm, label) in enumerate(named)]
        self.box = ChatBox(about=about, labels=[parts(label) for label in self.labels], legend=LEGEND[DIFFERENCES])
        self.view = TokenView(EMPTY, {})
        self.view.layout.display = "none"
        super().__init__([ShortcutGuard(), self.box, self.view])
        self._named("wb-chat", "wb-by-hand", "wb-guarded")
        self.box.problem = self.history.problem
        self.box.note = f"kept in {self.history.path or 'memory only: no run and no history file'}"
        self._before()
        self.box.on_msg(self._heard)
        self._answer_saves(self.box)
        self.box.observe(lambda _: self._draw(), ["mode", "needle"])

    # What can be asked --------------------------------------------------------------------------------------------

    def ask(self, question: str, *, another_turn: bool = False) -> None:
        """Ask all models; their answers stream in the background, in the place of what still goes on there.

        With `another_turn` the turns before it stay; otherwise a new chat begins.

        Raises:
            UserError: there is no question.
        """
        if not (question := whole(question).strip()):
            raise UserError("type a question")
        self._do("answering", lambda stopped: self._ask(question, another_turn, stopped))

    def more(self, count: int = MORE, *, temperature: float | None = None, seed: int | None = None) -> None:
        """Draw more answers to the last question from each model.

        The temperature is by default the one in the box, as is the seed of the first draw; each further draw has the
        next.

        Raises:
            UserError: nothing was asked yet, `count` is no count, or the temperature is not above 0.
        """
        temperature = self.box.temperature if temperature is None else temperature
        seed = self.box.seed if seed is None else seed
        if not self.turns:
            raise UserError("ask something first")
        if not (isinstance(count, int) and count > 0):
            raise UserError(f"a count of samples is 1 or more, not {count!r:.40}")
        if not 0 < temperature <= 100:
            raise UserError(f"the temperature must be above 0 and at most 100, not {temperature}")
        turn = self.turns[-1]
        self._do("sampling", lambda stopped: self._sample(turn, count, temperature, seed, stopped))

    def heatmap(self, turn: int, model: int, which: int = -1) -> None:
        """Show the heatmap of an answer, by its places; `which` is one of the samples, or -1 for the answer itself.

        Raises:
            UserError: there is no such answer.
        """
        try:
            opened, place = self.turns[turn], range(len(self.models))[model]
            text = opened.text(place, which)
        except IndexError:
            raise UserError(f"there is no answer {which} of model {model} in turn {turn}") from None
        if not text:
            raise UserError("the answer is empty, so it has no heatmap")
        self._heatmaps.submit(lambda stopped: self._color(opened, place, which, stopped))

    def stop(self) -> None:
        """Stop what goes on; answers are kept as far as they have come."""
        self._worker.stop()

    def _do(self, what: str, job: Callable[[Callable[[], bool]], None]) -> None:
        def work(stopped: Callable[[], bool]) -> None:
            self.box.busy = what
            try:
                job(stopped)
            finally:
                self.box.busy, self.box.live = "", {}
                self.redraw_twin()

        self.box.problem, self.box.busy = "", what
        self._worker.submit(work)

    # In the thread ------------------------------------------------------------------------------------------------

    def _ask(self, question: str, another_turn: bool, stopped: Callable[[], bool]) -> None:
        turns = self.turns if another_turn else []
        histories = [tuple((t.question, t.replies[i].text) for t in turns) for i in range(len(self.models))]
        samples = [Sample("chat", question, "", history=history) for history in histories]
        replies = side_by_side(self.models, samples, self.max_new_tokens, self._flow, stopped)
        if self._worker.closed:
            return
        compared: list[Compared | None] = [None] * len(replies)
        try:
            for i, (sample, reply) in enumerate(zip(samples, replies, strict=True)):
                compared[i] = compare(self.models, i, answered(sample, reply.text), stopped)
        except Stopped:
            pass
        except UserError as error:  # an answer may fill the context, so that its end no longer fits
            self.box.problem = f"the answers are not compared: {error}"
        if not turns:
            self.name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.turns = [*turns, Turn(samples, replies, compared)]
        with self.box.hold_sync():
            self._draw()
            self._before()
            self.box.asked += 1
            self.box.turns = len(self.turns)
        limits = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "max_new_tokens": self.max_new_tokens}
        self.history.append(record_of(self.turns[-1], self.labels, self.name, len(turns), **limits))

    def _flow(self, question: str, texts: list[str]) -> None:
        self.box.live = {"question": parts(question), "texts": list(map(parts, texts))}

    def _sample(self, turn: Turn, count: int, temperature: float, seed: int, stopped: Callable[[], bool]) -> None:
        index = self.turns.index(turn)
        for i, lm in enumerate(self.models):
            self.box.busy = f"sampling {self.labels[i]}"
            used = seed + turn.draws[i]
            with interruptible(lm, stopped):
                texts = sampled(
                    lm, [turn.samples[i]], count, self.max_new_tokens, tries=count, temperature=temperature, seed=used
                )[0]
            if texts is None:
                raise UserError(f"{self.labels[i]} gave numbers that are not finite; it cannot be sampled")
            turn.drawn[i], turn.draws[i] = turn.drawn[i] + texts, turn.draws[i] + 1
            self._draw()
            what = {"temperature": temperature, "seed": used, "texts": texts}
            self.history.append({"kind": "samples", "chat": self.name, "turn": index, "model": self.labels[i]} | what)

    def _color(self, turn: Turn, model: int, which: int, stopped: Callable[[], bool]) -> None:
        text = turn.text(model, which)
        sample = answered(turn.samples[model], text)
        compared = (turn.compared[model] if which < 0 else None) or compare(self.models, model, sample, stopped)
        assert compared is not None
        scores = answer_scores(self.models, self.labels, model, sample, compared, self.scorers, stopped)
        if stopped():
            return
        more: dict[str, Any] = {}
        if compared.both:
            names = tuple(self.labels[i] for i in sorted((model, compared.other)))
            more = {"tokens": compared.tokens, "scorer": CHANGE, "phases": names}
        with self.view.hold_sync():
            self.view.title = self.labels[model] + (", answer" if which < 0 else f", sample {which + 1}")
            self.view.show(scores, {sample.id: (turn.question, text)}, **more)
            self.view.layout.display = ""
        self.redraw_twin()

    # What is shown ------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        with self.box.hold_sync():
            self.box.html, self.box.legend = str(self._turns_html(live=True)), LEGEND[self.box.mode]
        self.redraw_twin()

    def _turns_html(self, *, live: bool) -> Markup:
        looks = self.labels, self.box.mode, self.box.needle
        return Markup().join(turn_html(turn, *looks, i, live=live) for i, turn in enumerate(self.turns))

    def _before(self) -> None:
        """Draw what was asked before this chat."""
        own = [record for record in self.history.own if record["chat"] != self.name]
        self.box.earlier = str(records_html([*self.history.earlier, *own], EARLIER))

    def _calls(self, message: dict[str, Any]) -> dict[str, Callable[[], Path | None]]:
        return {
            "ask": lambda: self.ask(message["question"], another_turn=bool(message.get("another_turn"))),
            "more": self.more,
            "open": lambda: self.heatmap(*map(int, message["place"])),
            "stop": self.stop,
            "jsonl": self.export_jsonl,
            "html": self.export_html,
        }

    def _place(self, name: str) -> Path:
        folder = self.history.path.parent if self.history.path else Path()
        return (folder if folder.is_dir() else Path()) / name

    def export_jsonl(self, path: Path | str | None = None) -> Path:
        """What was asked here as JSONL, one record a line; `chat-export.jsonl` beside the history by default."""
        return self.history.export(Path(path or self._place("chat-export.jsonl")))

    def export_html(self, path: Path | str | None = None) -> Path:
        """The same as a page of its own, and what was asked before; `chat-export.html` by default."""
        path = Path(path or self._place("chat-export.html"))
        write_text(path, page("Chat", self._body(Markup(self.box.earlier)), subtitle=" · ".join(self.labels)))
        return path

    def figure(self, **shown: Any) -> TextFigure:
        """The turns of this chat (UserError where there are none); `chat.view.save` saves the heatmap that is open."""
        return turns_figure(self.turns, self.labels, self.box.mode)

    def to_html(self, *, max_samples: int = EARLIER) -> str:
        """The static twin: the turns of this chat, and the heatmap that is open."""
        view = "" if self.view.layout.display == "none" else self.view.to_html(max_samples=max_samples)
        return style_sheet() + style_sheet("by_hand") + self._body(Markup()) + view

    def _body(self, earlier: Markup) -> Markup:
        box = self.box
        return chat_html(box.about, self._turns_html(live=False), earlier, box.mode, box.problem)

    def __repr__(self) -> str:
        last = f": {self.turns[-1].question}" if self.turns else ""
        return printable(f"Chat({', '.join(self.labels)}{last})")
