"""Labelling spans by hand: click the words that carry the fact; the file is what a task reads as its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UserError, printable
from workbench.evals import label_words, labels_of
from workbench.files import write_text
from workbench.tasks import Sample, TaskSpec, read_rows
from workbench.view.html import parts, render, style_sheet
from workbench.view.widgets.static_twin import FEW, Twin, script, styles

Spans = tuple[tuple[int, int], ...]


class LabelSpans(Twin, anywidget.AnyWidget):
    """Answers one after the other, and the words of each that carry the fact: clicked, dragged over, or by keyboard.

    Every change is written to the file at once, in the form that tasks read as labels (`--spans FILE`): a line an
    answer with `question`, `answer` and `spans`. Answers that nobody has labelled are not in it; one without a fact has
    `"spans": []`. With a file that exists, it goes on where that ends. Labels that the rows themselves have are not
    shown, so that a second labeller does not see those of the first.

    Args:
        source: a task, or rows in any form, as `wb.read_rows` takes them.
        path: the file; None keeps the labels in memory.

    Attributes:
        answer: the number of the one that is shown, from 0.
        marks: the numbers of its labelled words.
        problem: why the file could not be written; empty where it was.
        samples: all answers, with the spans that were labelled here; None where nobody has.

    Raises:
        UserError: no rows, or a file that does not hold labels.
    """

    twin_of: Mapping[str, Any] = FEW
    twin_shows = ("shown", "marks")
    _esm = script("keys", "token_view/elements", "label_spans")
    _css = styles("view", "token_view", "labels")
    shown = traitlets.Dict().tag(sync=True)
    answer = traitlets.Int(0).tag(sync=True)
    marks: Any = traitlets.List(traitlets.Int()).tag(sync=True)
    done: Any = traitlets.List(traitlets.Bool()).tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, source: Any, path: str | Path | None = "spans.jsonl") -> None:
        rows = source.load() if isinstance(source, TaskSpec) else source
        self.path = None if path is None else Path(path)
        written = self.path is not None and self.path.exists() and self.path.stat().st_size > 0
        self._labels = labels_of(self.path) if written else {}  # of other rows too, which stay in the file
        self.samples = [replace(s, spans=self._labels.get((s.question, s.answer))) for s in read_rows(rows)]
        self._before: list[tuple[int, Spans | None]] = []
        self._showing = False
        super().__init__()
        self._named("wb-label-spans")
        self.on_msg(self._heard)
        self.answer = next((n for n, s in enumerate(self.samples) if s.spans is None), 0)
        self._show()

    @traitlets.validate("answer")
    def _known(self, proposal: Any) -> int:
        return self._number(proposal.value)

    @traitlets.observe("answer")
    def _show(self, _: Any = None) -> None:
        sample, self._showing = self.samples[self.answer], True
        words = label_words(sample.answer)
        bounds = [0, *(place for word in words for place in word), len(sample.answer)]
        texts = [parts(sample.answer[a:b]) for a, b in pairwise(bounds)]  # gap, word, gap, ..., word, gap
        with self.hold_sync():
            self.shown = {"question": parts(sample.question), "texts": texts, "count": len(self.samples)}
            self.marks = [n for n, (a, b) in enumerate(words) if any(a < e and s < b for s, e in sample.spans or ())]
            self.done = [each.spans is not None for each in self.samples]
            kept = "in memory only" if self.path is None else f"in {self.path}"
            self.note = f"{sum(self.done)} of {len(self.done)} labelled, kept {printable(kept)}"
        self._showing = False

    @traitlets.observe("marks")
    def _marked(self, change: Any) -> None:
        if self._showing:
            return
        answer = self.samples[self.answer].answer
        words = label_words(answer)
        chosen = sorted({n for n in change["new"] if 0 <= n < len(words)})
        spans = []
        for _, run in groupby(enumerate(chosen), lambda each: each[1] - each[0]):
            places = [place for _, place in run]
            spans.append((words[places[0]][0], words[places[-1]][1]))
        self.label(self.answer, spans)

    def label(self, answer: int, spans: Sequence[tuple[int, int]] | None) -> None:
        """Label an answer, and write the file.

        Args:
            answer: its number, from 0.
            spans: character ranges of the answer, the end exclusive; none for an answer without a fact, None to take
                its labels back.

        Raises:
            UserError: there is no such answer, or a span is not in it.
        """
        answer = self._number(answer)
        text = self.samples[answer].answer
        for start, end in spans or ():
            if not 0 <= start < end <= len(text):
                raise UserError(f"the span {start} to {end} is not in the answer, which has {len(text)} characters")
        self._before.append((answer, self.samples[answer].spans))
        self._set(answer, None if spans is None else tuple((int(a), int(b)) for a, b in spans))

    def undo(self) -> None:
        """Take the last change back, of whichever answer, and show that answer."""
        if self._before:
            answer, spans = self._before.pop()
            self.answer = answer
            self._set(answer, spans)

    def _number(self, answer: int) -> int:
        if not 0 <= answer < len(self.samples):
            raise UserError(f"there is no answer {answer}: they are numbered 0 to {len(self.samples) - 1}")
        return int(answer)

    def _set(self, answer: int, spans: Spans | None) -> None:
        key = (self.samples[answer].question, self.samples[answer].answer)
        self.samples = [replace(s, spans=spans) if (s.question, s.answer) == key else s for s in self.samples]
        self._labels = {k: v for k, v in self._labels.items() if k != key} | ({} if spans is None else {key: spans})
        try:
            self._write()
            self.problem = ""
        except UserError as error:
            self.problem = f"{error}. The labels are kept here until they can be written"
        self._show()

    def _write(self) -> None:
        if self.path is None:
            return
        lines = []
        for (question, answer), spans in self._labels.items():
            texts = {"question": question, "answer": answer} if question else {"text": answer}
            lines.append(json.dumps(texts | {"spans": sorted(map(list, spans))}, ensure_ascii=False))
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def _heard(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if content.get("do") == "undo":
            self.undo()
        elif content.get("do") in ("none", "clear"):
            self.label(self.answer, [] if content["do"] == "none" else None)

    def to_frame(self) -> pd.DataFrame:
        """A row an answer: sample_id, question, answer, spans (None where nobody labelled it), and the texts inside."""
        rows = [(s.id, s.question, s.answer, s.spans, list(s.values)) for s in self.samples]
        return pd.DataFrame(rows, columns=["sample_id", "question", "answer", "spans", "texts"])

    def to_html(self, *, max_samples: int | None = None) -> str:
        """The static twin: the labelled answers, without scripts."""
        labelled = [s for s in self.samples if s.spans is not None]
        rows = [(s.question, _cut(s)) for s in labelled[:max_samples]]
        return style_sheet() + render("labels.labelled", rows=rows, note=self.note, more=len(labelled) - len(rows))

    def __repr__(self) -> str:
        return f"LabelSpans({self.note})"


def _cut(sample: Sample) -> list[tuple[bool, str]]:
    """The answer in stretches: whether it is labelled, and its text."""
    inside = [any(a <= n < b for a, b in sample.spans or ()) for n in range(len(sample.answer))]
    runs = groupby(range(len(inside)), inside.__getitem__)
    return [(labelled, "".join(sample.answer[n] for n in places)) for labelled, places in runs]
