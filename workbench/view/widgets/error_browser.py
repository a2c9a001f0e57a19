"""The error browser: every probed answer of a run, filtered by outcome, with tags and notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import UserError, printable, unknown
from workbench.evals import RULES, chosen, outcomes
from workbench.files import write_table, write_text
from workbench.runs import read_answers
from workbench.view.figures import TextFigure, outcomes_figure
from workbench.view.html import definitions, page, render, style_sheet
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.answer_notes import AnswerNotes
from workbench.view.widgets.error_html import answer_html, answers_html, list_lines, numbers_html
from workbench.view.widgets.error_rows import MOST, probabilities, tokens_of, write_csv, written
from workbench.view.widgets.saving import SHOWN, FigureButtons, SavesFigure
from workbench.view.widgets.shortcut_guard import ShortcutGuard
from workbench.view.widgets.static_twin import FEW, Twin
from workbench.view.widgets.token_payload import CHANGE
from workbench.view.widgets.token_view import TokenView
from workbench.view.widgets.typing_box import EMPTY

SORTS = {"as probed": None, "probability lost": "change", "share of it left": "left", "probability after": "p_after"}
ROWS = 10  # of the list at most, before it scrolls
NARROW = {"description_width": "64px"}


class ErrorBrowser(SavesFigure, Twin, widgets.VBox):
    """Every probed answer of a run: filter by outcome, open one, tag it, add a note, export.

    Outcomes follow the rules shown below the list (`workbench.evals.RULES`). Tags and notes are kept with the run, in
    `notes.json`: when saved, and when another answer is opened.

    Args:
        run: a run's directory, its path, or a `Job` on it.

    Attributes:
        rows: all answers, as `outcomes` gives them, with `tags` and `note`.
        shown: the answers that the filters leave, in the chosen order.
        selected: the row that is open, as a dict; empty where none is.

    Raises:
        UserError: no run, one that has not been probed after its end, or notes that cannot be read.
    """

    twin_of = FEW

    def __init__(self, run: RunSource) -> None:
        self.run = run_directory(run)
        probes = self.run.table("probes.parquet")
        if probes is not None and "probability" not in probes:
            raise UserError(f"{self.run.path / 'probes.parquet'} has no column probability; probe the run again")
        if probes is None:
            raise UserError(f"{self.run.path} has no probes yet; they come at its beginning and its end")
        self.rows = outcomes(probes, read_answers(self.run.path / "attacks"))
        self.tokens = self.run.table("tokens.parquet")
        self._notes = AnswerNotes(self.run.path)
        self._read_marks()
        self._metrics = [name for name in probes.select_dtypes("number") if name != "step"]
        self._values = probes.set_index(["phase", "probe_set", "sample_id"])[self._metrics].to_dict("index")
        self._known = definitions()
        self._build()
        self._filling = False  # while the list is changed, none of its answers is opened
        self._opened: Any = None
        self._filter()

    def _build(self) -> None:
        counts = [(f"all ({len(self.rows)})", "")] + [(f"{r} ({int(self.rows[r].sum())})", r) for r in RULES]
        sets = [("all sets", ""), *((name, name) for name in dict.fromkeys(self.rows["probe_set"]))]
        self.outcome = widgets.Dropdown(options=counts, description="outcome", style=NARROW)
        self.probe_set = widgets.Dropdown(options=sets, description="set", style=NARROW)
        self.sort = widgets.Dropdown(options=list(SORTS), description="sort by", style=NARROW)
        self.search = widgets.Text(description="search", placeholder="find a text", style=NARROW)
        self.head = widgets.HTML().add_class("wb-head")
        self.list = widgets.Select(description="answers", style=NARROW).add_class("wb-list")
        self.answer = widgets.HTML()
        self.view = TokenView(EMPTY, {})  # filled when an answer is opened
        self.tags = widgets.Text(description="tags", placeholder="separated by commas", style=NARROW)
        self.note = widgets.Textarea(description="note", rows=2, style=NARROW)
        self.save_marks = widgets.Button(description="Save tags and note")
        kinds = {"CSV": self.export_csv, "Parquet": self.export_parquet, "HTML": self.export_html}
        self.exports = {name: widgets.Button(description=f"Export {name}") for name in kinds}
        self.figures = [
            FigureButtons(name="answer", part="answer", what="save this answer as a figure"),
            FigureButtons(name="answers", part="answers", what="save the listed answers as a figure"),
        ]
        self.status = widgets.HTML()
        for name, button in self.exports.items():
            button.on_click(lambda _, call=kinds[name]: self._guarded(lambda: self._export(call)))
        self.save_marks.on_click(lambda _: self._guarded(self._save))
        for chooser in (self.outcome, self.probe_set, self.sort, self.search):
            chooser.observe(lambda _: self._filter(), "value")
        self.list.observe(lambda _: None if self._filling else self._open(), "value")
        filters = widgets.GridBox([self.outcome, self.probe_set, self.sort, self.search]).add_class("wb-filters")
        buttons = widgets.HBox([self.save_marks, *self.exports.values()]).add_class("wb-save")
        marks = widgets.VBox([self.tags, self.note, buttons]).add_class("wb-marks")
        rules = widgets.HTML(render("errors.rules", rules=RULES))
        one, listed = self.figures
        shown = [self.head, self.list, listed, rules, self.answer, one, self.view]
        super().__init__([ShortcutGuard(), filters, *shown, marks, self.status])
        self._named("wb-errors", "wb-guarded")
        self._answer_saves(*self.figures)

    # Choosing -----------------------------------------------------------------------------------------------------

    def _filter(self) -> None:
        self._keep()
        self.shown = chosen(
            self.rows,
            outcome=self.outcome.value,
            probe_set=self.probe_set.value,
            text=self.search.value,
            sort=SORTS[self.sort.value],
        )
        self._fill()
        self._open()
        self.redraw_twin()

    def _fill(self) -> None:
        """Draw the list; the open answer stays open if the filters leave it."""
        head, lines = list_lines(self.shown)
        counts = ", ".join(f"{int(self.shown[name].sum())} {name}" for name in RULES if self.shown[name].any())
        rule = f"{self.outcome.value}: {RULES[self.outcome.value]}" if self.outcome.value else counts
        about = {"shown": len(self.shown), "total": len(self.rows), "run": self.run.name}
        self.head.value = render("errors.head", rule=rule, columns=head, **about)
        kept = self.list.value
        self._filling = True
        self.list.rows = min(max(len(lines), 3), ROWS)
        self.list.options = list(zip(lines, self.shown.index, strict=True))
        self.list.value = kept if kept in self.shown.index else next(iter(self.shown.index), None)
        self._filling = False
        for buttons in self.figures:
            buttons.ready = bool(lines)

    @property
    def selected(self) -> dict[str, Any]:
        """The row that is open."""
        return {} if self.list.value is None else self.rows.loc[self.list.value].to_dict()

    def select(self, sample_id: Any, probe_set: str) -> None:
        """Open one answer, whatever the filters are.

        Raises:
            UserError: there is no such answer.
        """
        index = self._index(sample_id, probe_set)
        self.outcome.value = self.probe_set.value = self.search.value = ""
        self.list.value = index

    def _index(self, sample_id: Any, probe_set: str) -> Any:
        rows = self.rows[(self.rows["sample_id"] == sample_id) & (self.rows["probe_set"] == probe_set)]
        if rows.empty:
            raise unknown("probed answer", f"{probe_set}/{sample_id}", list(map(_key, self.rows.to_dict("records"))))
        return rows.index[0]

    def _open(self) -> None:
        self._keep()
        row, self._opened = self.selected, self.list.value
        self.tags.value, self.note.value = row.get("tags", ""), row.get("note", "")
        self.tags.disabled = self.note.disabled = self.save_marks.disabled = not row
        part = tokens_of(self.tokens, row) if row else None
        self.view.layout.display = "none" if part is None else ""
        if not row:
            self.answer.value = render("errors.hint", text="No answer matches these filters.")
            return
        self.answer.value = answer_html(row | {"tags": "", "note": ""}, self._numbers(row))  # these are shown below
        if part is None:
            self.answer.value += render("errors.hint", text="Its tokens were not recorded before and after the run.")
        else:
            texts = {row["sample_id"]: (row["prompt"], row["answer"])}
            scores = probabilities(part, self.run.steps)
            self.view.show(scores, texts, tokens=part, scorer=CHANGE)

    def _numbers(self, row: dict[str, Any]) -> Markup:
        nothing = dict.fromkeys(self._metrics, None)
        name = (row["probe_set"], row["sample_id"])
        before, after = (self._values.get((phase, *name), nothing) for phase in ("before", "after"))
        return numbers_html(before, after, self._metrics, self._known)

    # Tags and notes -----------------------------------------------------------------------------------------------

    def _read_marks(self) -> None:
        marks = [self._notes.of(_key(row)) for row in self.rows.to_dict("records")]
        self.rows["tags"], self.rows["note"] = [m["tags"] for m in marks], [m["note"] for m in marks]

    def tag(self, sample_id: Any, probe_set: str, tags: str | None = None, note: str | None = None) -> None:
        """Give an answer tags (separated by commas) and a note, and keep them with the run.

        None leaves the tags, or the note, that it has.

        Raises:
            UserError: there is no such answer, or the file cannot be written; the tags stay in `rows`.
        """
        index = self._index(sample_id, probe_set)
        row = self.rows.loc[index]
        try:
            self._notes.set(_key(row), row["tags"] if tags is None else tags, row["note"] if note is None else note)
        finally:
            self._read_marks()
            self.shown = self.rows.loc[self.shown.index]
            self._fill()
            if index == self._opened:
                self.tags.value, self.note.value = self.rows.loc[index, ["tags", "note"]]
            self.redraw_twin()

    def _save(self) -> str:
        if self._opened is None:
            raise UserError("no answer is open; choose one in the list")
        row = self.rows.loc[self._opened]
        self.tag(row["sample_id"], row["probe_set"], self.tags.value, self.note.value)
        return f"saved in {self.run.path / self._notes.path.name}"

    def _keep(self) -> None:
        """Save what was typed for the open answer, before another takes its place."""
        if self._opened is None:
            return
        row = self.rows.loc[self._opened]
        typed = [self.tags.value.strip(), self.note.value.strip()] != [row["tags"], row["note"]]
        if typed or self._notes.unsaved:  # what could not be written is tried again
            self._guarded(self._save)
        elif self._opened != self.list.value:
            self.status.value = ""

    def _guarded(self, call: Callable[[], str]) -> None:
        try:
            self.status.value = render("errors.status", text=call())
        except UserError as error:
            self.status.value = render("errors.alert", text=str(error))

    # Export -------------------------------------------------------------------------------------------------------

    def _export(self, call: Callable[[], Path]) -> str:
        self._keep()
        return written(call(), len(self.shown), len(self.rows))

    def export_csv(self, path: Path | str | None = None) -> Path:
        """The answers that the filters leave as CSV, into the run's directory by default; no cell is a formula."""
        return write_csv(Path(path or self.run.path / "errors.csv"), self.shown)

    def export_parquet(self, path: Path | str | None = None) -> Path:
        """The same as parquet."""
        path = Path(path or self.run.path / "errors.parquet")
        write_table(path, self.shown)
        return path

    def export_html(self, path: Path | str | None = None) -> Path:
        """The same as a page of its own, at most `MOST` of them, which it says."""
        path = Path(path or self.run.path / "errors.html")
        filters = [self.outcome.value, self.probe_set.value and f"set {self.probe_set.value}"]
        filters += [f"with “{self.search.value.strip()}”"] if self.search.value.strip() else []
        shown = ", ".join([f"{len(self.shown)} of {len(self.rows)} answers", *filter(None, filters)])
        write_text(path, page("Errors", self._body(MOST), subtitle=f"{self.run.name}: {shown}"))
        return path

    def figure(self, part: str = "answer", **shown: Any) -> TextFigure:
        """The open answer, or (`part` "answers") those that the filters leave, at most `SHOWN`, in the list's order.

        Raises:
            UserError: another part, or no answer is open.
        """
        if part not in ("answer", "answers"):
            raise UserError(f"there is no {printable(part)} to save; there may be answer and answers")
        if self.shown.empty:
            raise UserError("no answer is open: none matches the filters")
        return outcomes_figure(self.rows.loc[[self.list.value]] if part == "answer" else self.shown.head(SHOWN))

    def to_html(self, *, max_samples: int | None = None) -> str:
        """The static twin: the shown answers with their outcomes, diffs, metrics, tags and notes, without scripts."""
        return style_sheet() + self._body(MOST if max_samples is None else max_samples)

    def _body(self, count: int) -> Markup:
        drawn = [answer_html(row, self._numbers(row)) for row in self.shown.head(count).to_dict("records")]
        return answers_html(self.rows, len(self.shown), drawn)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int(self.rows[name].sum())} {name}" for name in RULES if self.rows[name].any())
        return printable(f"ErrorBrowser({self.run.name}: {counts})")


def _key(row: Any) -> str:
    """The name of an answer in the notes' file."""
    return f"{row['probe_set']}/{row['sample_id']}"
