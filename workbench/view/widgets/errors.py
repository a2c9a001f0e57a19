"""The error browser: every probed answer of a run, filtered by what became of it, with tags and notes of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.files import write_json, write_table, write_text
from workbench.registry import UserError, unknown
from workbench.runs import RunDirectory
from workbench.view.outcomes import RULES, outcomes
from workbench.view.page import page, word_diff
from workbench.view.page import table as html_table
from workbench.view.text import frame, number, plain, shortened, style_sheet, visible
from workbench.view.widgets.keys import Keys
from workbench.view.widgets.payload import CHANGE
from workbench.view.widgets.tokens import TokenView

NOTES = "notes.json"
SORTS = {"as probed": None, "probability lost": "change", "probability after": "p_after"}
NARROW = {"description_width": "64px"}


class ErrorBrowser(widgets.VBox):
    """Every probed answer of a run: filter by outcome, open one, tag it, note what you found, export.

    Outcomes follow the rules that stand below the list (`workbench.view.outcomes.RULES`). Tags and notes are kept with
    the run, in `notes.json`.

    Args:
        run: a run's directory.

    Attributes:
        rows: all answers, as `outcomes` gives them, with `tags` and `note`.
        shown: those that the filters leave, in the chosen order.
        selected: the row that is open, as a dict; empty where none is.

    Raises:
        UserError: no run, or one that has not been probed after its end.
    """

    def __init__(self, run: Path | str) -> None:
        self.run = RunDirectory(Path(run))
        probes = self.run.table("probes.parquet")
        if probes is None:
            raise UserError(f"{run} has no probes yet; a run probes before its first and after its last step")
        self.rows = outcomes(probes)
        self.tokens = self.run.table("tokens.parquet")
        self._read_notes()
        counts = [(f"all ({len(self.rows)})", "")] + [(f"{r} ({int(self.rows[r].sum())})", r) for r in RULES]
        sets = [("all sets", ""), *((name, name) for name in dict.fromkeys(self.rows["probe_set"]))]
        self.outcome = widgets.Dropdown(options=counts, description="outcome", style=NARROW)
        self.probe_set = widgets.Dropdown(options=sets, description="set", style=NARROW)
        self.sort = widgets.Dropdown(options=list(SORTS), description="sort by", style=NARROW)
        self.search = widgets.Text(description="search", placeholder="find a text", style=NARROW)
        self.list = widgets.Select(rows=10, description="answers", style=NARROW).add_class("wb-list")
        self.answer = widgets.HTML()
        self.last = int(self.run.config["settings"]["steps"])
        self.view = TokenView(_scores(_nothing(), 0), {})  # filled when an answer is opened
        self.tags = widgets.Text(description="tags", placeholder="separated by commas", style=NARROW)
        self.note = widgets.Textarea(description="note", rows=2, style=NARROW)
        self.save = widgets.Button(description="Save tags and note")
        kinds = {"CSV": self.export_csv, "Parquet": self.export_parquet, "HTML": self.export_html}
        self.exports = {name: widgets.Button(description=f"Export {name}") for name in kinds}
        self.said = widgets.HTML()
        for name, button in self.exports.items():
            button.on_click(lambda _, call=kinds[name]: self._guarded(lambda: f"written: {call()}"))
        self.save.on_click(lambda _: self._guarded(self._save))
        for chooser in (self.outcome, self.probe_set, self.sort, self.search):
            chooser.observe(lambda _: self._filter(), "value")
        self._filling = False  # while the list is changed, none of its answers is opened
        self.list.observe(lambda _: None if self._filling else self._open(), "value")
        rules = "".join(f"<dt>{name}</dt><dd>{plain(said)}</dd>" for name, said in RULES.items())
        about = widgets.HTML(f"<details class=wb-rules><summary>The rules</summary><dl>{rules}</dl></details>")
        filters = widgets.GridBox([self.outcome, self.probe_set, self.sort, self.search]).add_class("wb-filters")
        mark = widgets.VBox(
            [self.tags, self.note, widgets.HBox([self.save, *self.exports.values()]).add_class("wb-save")]
        )
        super().__init__(
            [Keys(), filters, self.list, about, self.answer, self.view, mark.add_class("wb-marks"), self.said]
        )
        self.add_class("wb-errors").add_class("wb-keys")
        self._filter()

    # Choosing -----------------------------------------------------------------------------------------------------

    def _filter(self) -> None:
        found = self.rows
        if self.outcome.value:
            found = found[found[self.outcome.value]]
        if self.probe_set.value:
            found = found[found["probe_set"] == self.probe_set.value]
        asked = self.search.value.strip().lower()
        if asked:
            texts = found[["prompt", "answer", "before", "after", "tags", "note"]].agg("\n".join, axis=1)
            found = found[texts.str.lower().str.contains(asked, regex=False)]
        if SORTS[self.sort.value]:
            found = found.sort_values(SORTS[self.sort.value], kind="stable")
        self.shown = found
        lines = [
            (f"{r.probe_set} · {r.outcome} · {number(r.p_before)} → {number(r.p_after)} · "
             f"{shortened(r.prompt or r.answer, 80)}", i)
            for i, r in found.iterrows()
        ]  # fmt: skip
        kept = self.list.value
        self._filling = True
        self.list.options = lines
        self.list.value = kept if kept in found.index else (found.index[0] if len(found) else None)
        self._filling = False
        self._open()

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
        found = self.rows[(self.rows["sample_id"] == sample_id) & (self.rows["probe_set"] == probe_set)]
        if found.empty:
            known = [f"{r.probe_set}/{r.sample_id}" for r in self.rows.itertuples()]
            raise unknown("probed answer", f"{probe_set}/{sample_id}", known)
        return found.index[0]

    def _open(self) -> None:
        row = self.selected
        self.tags.value, self.note.value = row.get("tags", ""), row.get("note", "")
        if not row:
            self.answer.value = '<div class="wb-told">no answer is left by these filters</div>'
        else:
            self.answer.value = answer_html(row)
        part = self._tokens_of(row) if row else None
        self.view.layout.display = "none" if part is None else ""
        if part is not None:
            texts = {row["sample_id"]: (row["prompt"], row["answer"])}
            self.view.show(_scores(part, self.last), texts, tokens=part, scorer=CHANGE)

    def _tokens_of(self, row: dict[str, Any]) -> pd.DataFrame | None:
        """The token rows of an answer before and after; None where they are not known."""
        if self.tokens is None:
            return None
        same = (self.tokens["probe_set"] == row["probe_set"]) & (self.tokens["sample_id"] == row["sample_id"])
        part = self.tokens[same]
        return part if part["phase"].nunique() == 2 else None

    # Tags and notes -----------------------------------------------------------------------------------------------

    def _read_notes(self) -> None:
        path = self.run.path / NOTES
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError:
            raise UserError(f"{path} is no JSON; mend it or move it away") from None
        for column in ("tags", "note"):
            self.rows[column] = [
                known.get(f"{r.probe_set}/{r.sample_id}", {}).get(column, "") for r in self.rows.itertuples()
            ]

    def tag(self, sample_id: Any, probe_set: str, tags: str = "", note: str = "") -> None:
        """Give an answer tags (separated by commas) and a note, and keep them with the run.

        Raises:
            UserError: there is no such answer, or the file cannot be written; the tags stay in `rows`.
        """
        index = self._index(sample_id, probe_set)
        self.rows.loc[index, ["tags", "note"]] = [tags.strip(), note.strip()]
        marked = self.rows[(self.rows["tags"] != "") | (self.rows["note"] != "")]
        content = {f"{r.probe_set}/{r.sample_id}": {"tags": r.tags, "note": r.note} for r in marked.itertuples()}
        write_json(self.run.path / NOTES, content)

    def _save(self) -> str:
        row = self.selected
        if not row:
            raise UserError("no answer is open; choose one in the list")
        self.tag(row["sample_id"], row["probe_set"], self.tags.value, self.note.value)
        self.shown = self.rows.loc[self.shown.index]
        return f"saved in {self.run.path / NOTES}"

    def _guarded(self, call: Any) -> None:
        try:
            self.said.value = f'<div class="wb-told" role="status">{plain(call())}</div>'
        except UserError as error:
            self.said.value = f'<div class="wb-alert" role="alert">{plain(str(error))}</div>'

    # Export -------------------------------------------------------------------------------------------------------

    def export_csv(self, path: Path | None = None) -> Path:
        """The shown rows as CSV, into the run's directory by default."""
        path = path or self.run.path / "errors.csv"
        write_text(path, self.shown.to_csv(index=False))
        return path

    def export_parquet(self, path: Path | None = None) -> Path:
        """The shown rows as parquet."""
        path = path or self.run.path / "errors.parquet"
        write_table(path, self.shown)
        return path

    def export_html(self, path: Path | None = None) -> Path:
        """The shown rows as a page of its own."""
        path = path or self.run.path / "errors.html"
        write_text(path, page("Errors", self._body(), subtitle=f"{self.run.name}: {len(self.shown)} answers"))
        return path

    def to_html(self) -> str:
        """The static twin: the shown answers with their outcomes, diffs, tags and notes."""
        return style_sheet() + self._body()

    def _body(self) -> str:
        counts = [[plain(name), str(int(self.rows[name].sum())), plain(said)] for name, said in RULES.items()]
        head = frame(html_table(["outcome", "answers", "rule"], counts), css=False)
        return head + "".join(answer_html(row) for row in self.shown.to_dict("records"))

    def __repr__(self) -> str:
        counts = ", ".join(f"{int(self.rows[name].sum())} {name}" for name in RULES)
        return f"ErrorBrowser({self.run.name}: {counts})"


def _scores(tokens: pd.DataFrame, last: int) -> pd.DataFrame:
    """Token rows as a score table: the probability before the run as step 0, and after it as its last."""
    step = np.where(tokens["phase"] == "after", last, 0)
    return tokens.assign(scorer="probability", step=step, score=np.exp(tokens["logp"].astype(float)))


def _nothing() -> pd.DataFrame:
    """Token rows of an answer of no words."""
    row = {"sample_id": "", "position": 0, "token": "", "start": 0, "end": 0, "segment": "answer", "span": None}
    return pd.DataFrame([row | {"phase": "before", "logp": 0.0}])


def answer_html(row: dict[str, Any]) -> str:
    """One answer: outcome, question, reference, what was said before and after with the words that changed."""
    old, new = word_diff(row["before"], row["after"])
    ranks = f"probability {number(row['p_before'])} → {number(row['p_after'])}"
    bar = f"<span><b>{plain(row['outcome'])}</b></span><span>{plain(row['probe_set'])}</span><span>{ranks}</span>"
    lines = [("reference", visible(row["answer"])), ("before", old or "∅"), ("after", new or "∅")]
    lines += [(name, visible(row[name])) for name in ("tags", "note") if row.get(name)]
    ask = f'<div class="wb-q" dir="auto">{visible(" ".join(row["prompt"].split()))}</div>' if row["prompt"] else ""
    body = "".join(f'<div class="wb-pair"><span>{n}</span><div dir="auto">{text}</div></div>' for n, text in lines)
    return frame(f'<div class="wb-bar">{bar}</div><div class="wb-row">{ask}{body}</div>', css=False)
