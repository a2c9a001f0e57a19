"""The turns of a chat as HTML, for the widget, its static twin and its page; the templates escape every text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from workbench.errors import UserError
from workbench.view.figures import TextFigure, chat_figure
from workbench.view.html import Scale, changed_answer, number, render, visible, word_diff
from workbench.view.widgets.chat_history import Record
from workbench.view.widgets.chat_turn import Turn

DIFFERENCES, CHANGE = "words that differ", "change in probability"
MODES = (DIFFERENCES, CHANGE)
ENDS = {"end": "", "length": "cut off at the token limit", "stopped": "stopped"}
LEGEND = {
    DIFFERENCES: "Struck through: words only in the first answer. Underlined: words that are not in it.",
    CHANGE: "Colour: the change of each token's probability from the first model to the other, blue where it fell. "
    "Underlined: it was the first choice and no longer is.",
}


def turns_figure(turns: Sequence[Turn], labels: list[str], mode: str) -> TextFigure:
    """A chat's turns as a figure; raises UserError where there are none."""
    if not turns:
        raise UserError("there is nothing to save yet: ask something first")
    drawn = []
    for turn in turns:
        texts = {label: reply.text for label, reply in zip(labels, turn.replies, strict=True)}
        known = zip(labels, turn.compared, strict=True)
        tables = {name: c.tokens for name, c in known if c is not None and c.both and mode == CHANGE}
        drawn.append((turn.question, texts, tables))
    return chat_figure(drawn)


def chat_html(about: list[str], turns: Markup, earlier: Markup, mode: str, problem: str) -> Markup:
    """A chat without its controls: what is loaded, the turns, and what colours and lines in them mean."""
    scale = Scale(-1.0, 1.0).legend(None, "lost ", " gained") if mode == CHANGE else Markup()
    legend = Markup("{} {}").format(scale, LEGEND[mode]) if turns else "Nothing has been asked yet."
    return render("by_hand.chat", about=about, turns=turns, earlier=earlier, legend=legend, problem=problem)


def contains(text: str, needle: str) -> bool:
    """Whether a text has these words, in any letter case and with any white space."""
    return " ".join(needle.casefold().split()) in " ".join(text.casefold().split())


def turn_html(turn: Turn, labels: list[str], mode: str, needle: str, index: int, *, live: bool) -> Markup:
    """A turn: the answers side by side; with `live`, buttons that open their heatmaps."""
    texts = [reply.text for reply in turn.replies]
    columns = []
    for place, (body, compared) in enumerate(zip(marked(texts), turn.compared, strict=True)):
        if mode == CHANGE and compared is not None and compared.both:
            body = changed_answer(compared.tokens, texts[place])
        notes = [ENDS[turn.replies[place].ended]]
        if compared is not None:
            own, theirs = (number(each) for each in compared.chances)
            notes.append(f"typical probability of its tokens: {own} here, {theirs} under {labels[compared.other]}")
            notes += [] if compared.both else ["no change for each token: the two models have different tokenizers"]
        drawn = turn.drawn[place]
        columns.append(
            {
                "label": labels[place], "body": body, "notes": [note for note in notes if note], "place": place,
                "has": contains(texts[place], needle) if needle.strip() else None,
                "drawn": [(text, bool(needle.strip()) and contains(text, needle)) for text in drawn],
            }
        )  # fmt: skip
    return render(
        "by_hand.turn", question=turn.question, columns=columns, needle=needle.strip(), index=index, live=live
    )


def marked(texts: list[str]) -> list[Markup]:
    """Texts with the words that are not in the first one, and in the first those that are not in the last."""
    if len(texts) < 2:
        return [visible(text) for text in texts]
    return [word_diff(texts[0], texts[-1])[0], *(word_diff(texts[0], text)[1] for text in texts[1:])]


def records_html(records: list[Record], most: int) -> Markup:
    """The last turns of a history, with what was drawn counted only."""
    turns = [record for record in records if record["kind"] == "turn"]
    drawn: dict[Any, int] = {}
    for record in records:
        if record["kind"] == "samples":
            key = (record["chat"], record["turn"], record["model"])
            drawn[key] = drawn.get(key, 0) + len(record["texts"])
    rows = []
    for turn in turns[-most:]:
        names = [answer["model"] for answer in turn["answers"]]
        bodies = marked([answer["text"] for answer in turn["answers"]])
        counts = [drawn.get((turn["chat"], turn["turn"], name), 0) for name in names]
        rows.append((turn["question"], turn["turn"], list(zip(names, bodies, counts, strict=True))))
    return render("by_hand.records", rows=rows, total=len(turns))
