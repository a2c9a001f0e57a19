"""Static views made interactive: scorers side by side, and a model before and after a run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import anywidget
import pandas as pd
import traitlets
from markupsafe import Markup

from workbench import evals
from workbench.errors import UserError, printable
from workbench.runs import attacks_of, read_answers
from workbench.tasks import spread
from workbench.view.figures import TextFigure, answers_figure, change_figure, compare_figure
from workbench.view.html import (
    By,
    Samples,
    Scores,
    agreement_view,
    answers_view,
    as_metrics,
    as_probes,
    as_scores,
    attacks_view,
    change_view,
    compare_view,
    definitions,
    drawn_changes,
    metrics_view,
    render,
    style_sheet,
    texts_of,
)
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.saving import SHOWN, SavesFigure
from workbench.view.widgets.static_twin import Twin, script, styles


class Linked(SavesFigure, Twin, anywidget.AnyWidget):
    """A static view whose tokens are linked and whose parts can be chosen; it needs no kernel once it is shown."""

    twin_shows = ("html",)
    _esm = script("keys", "save", "token_view/elements", "linked")
    _css = styles("view", "linked")
    html = traitlets.Unicode().tag(sync=True)

    def __init__(self, html: str, name: str) -> None:
        super().__init__(html=str(html))  # marimo would make an object of Markup
        self._named(name)
        self._answer_saves()

    def to_html(self) -> str:
        """The static twin: the same content without scripts."""
        html = Markup(self.html)  # put together from views, which escape
        return style_sheet() + style_sheet("linked") + render("linked.twin", html=html)


class CompareView(Linked):
    """The same text under several scorers with linked hover, and beside it how far the scorers agree.

    Args:
        scores: a score table or its file, or a run.
        samples: a task, its samples, a table of them, a run, or sample id -> (question, answer).
        scorers: which, and in which order; by default all.
        order: sample ids in the order to show; by default those on which the scorers disagree most come first.
        max_samples: at most so many samples.
        measure: of agreement: "spearman", "kendall" or "top_k_overlap".
        by: what colour goes by at first, for all scorers: "value", "rank" or "logarithm".

    Raises:
        UserError: a table without answers, or an unknown scorer, sample or measure.
    """

    def __init__(
        self,
        scores: Scores,
        samples: Samples = None,
        *,
        scorers: Sequence[str] | None = None,
        order: Sequence[Any] | None = None,
        max_samples: int = 6,
        measure: str = "spearman",
        by: By = "value",
    ) -> None:
        scores = as_scores(scores)
        chosen = scores if scorers is None else scores[scores["scorer"].isin(list(scorers))]
        self.names = list(scorers or dict.fromkeys(scores["scorer"]))
        several = chosen["scorer"].nunique() > 1
        if order is None and several:
            order = evals.disagreement(chosen)["sample_id"].tolist()
        self._shown: dict[str, Any] = {"order": order, "max_samples": max_samples, "by": by}
        self._scores, self._samples = chosen, samples
        body: Markup = compare_view(scores, samples, scorers=scorers, **self._shown, css=False)
        if several:
            agreement = evals.agreement(chosen)
            body += agreement_view(agreement, measure=measure, level="per_sample", title="Do they agree?", css=False)
        super().__init__(render("linked.beside", body=body), "wb-compare")

    def to_frame(self) -> pd.DataFrame:
        """What is shown, as a table: the score table's rows of the samples that are drawn, in their order."""
        order, count = self._shown["order"], self._shown["max_samples"]
        ids = list(dict.fromkeys(self._scores["sample_id"]))
        ids = spread(ids, count) if order is None else list(order)[:count]
        return pd.concat([self._scores[self._scores["sample_id"] == sample] for sample in ids], ignore_index=True)

    def figure(self, scorers: Sequence[str] | None = None, by: By | None = None, **shown: Any) -> TextFigure:
        """The answers under each scorer, or under those of `scorers`; `by` is what colour goes by."""
        names = [name for name in self.names if name in (scorers or self.names)]
        return compare_figure(self._scores, self._samples, scorers=names, **self._shown | ({"by": by} if by else {}))

    def __repr__(self) -> str:
        return printable(f"CompareView(scorers: {', '.join(self.names)})")


class BeforeAfter(Linked):
    """What a run did: answers with a word diff, each token's change in probability as colour, metrics with arrows.

    Args:
        run: a run's directory, its path, a `Job` on it, what `probe` returned before and after (a list of the two), or
            a probe table (phases "before" and "after").
        tokens: its token table, where `run` is a table.
        metrics: phase -> probe set -> metric -> value, where `run` is a table.
        max_samples: at most so many answers of each probe set.

    Attributes:
        search: what is shown has this text; all answers are searched, not only the `max_samples` that are drawn.
        selected: the token of the token changes that was clicked: probe_set, sample_id, position; empty where none is.

    Raises:
        UserError: a run that has not been probed after its last step yet.
    """

    search = traitlets.Unicode("").tag(sync=True)
    searched = traitlets.Unicode("").tag(sync=True)  # the `search` that `html` shows
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)  # an answer of the token changes, and a token of it
    selected = traitlets.Dict()

    def __init__(
        self,
        run: RunSource | pd.DataFrame | Sequence[Any],
        tokens: pd.DataFrame | None = None,
        metrics: Mapping[str, Any] | None = None,
        *,
        max_samples: int = 24,
    ) -> None:
        self._attacks, name = Markup(), "this run"
        if isinstance(run, pd.DataFrame):
            probes: pd.DataFrame | None = as_probes(run)
            tokens = None if tokens is None else as_probes(tokens, "tokens.parquet")
        elif isinstance(run, list | tuple):
            probes, tokens, metrics = as_probes(run), as_probes(run, "tokens.parquet"), as_metrics(run)
        else:
            directory = run_directory(cast(RunSource, run))
            name = str(directory.path)
            probes, tokens = directory.table("probes.parquet"), directory.table("tokens.parquet")
            metrics = directory.json("metrics.json")
            if attacks := attacks_of(directory.path):
                self._attacks = attacks_view(attacks, read_answers(directory.path / "attacks"), css=False)
        if probes is None or "after" not in set(probes["phase"]):
            raise UserError(f"{name} has not been probed at its end yet")
        self.count = _count(probes)
        self._probes, self._tokens, self._metrics, self._most = probes, tokens, metrics, max_samples
        self._places: list[tuple[str, Any, list[int]]] = []
        super().__init__(self._drawn(""), "wb-before-after")

    def _drawn(self, words: str) -> Markup:
        """The sections, of the answers that have these words in question, answer or a generation."""
        (probes, tokens), note = self._having(words), Markup()
        if words.strip():
            note = render("linked.searched", count=_count(probes), total=self.count, words=words.strip())
        long: dict[str, Markup] = {"answers": note + answers_view(probes, max_samples=self._most, css=False)}
        if tokens is not None:
            # A set after the other: sample ids are unique within a set only.
            parts = {name: tokens[tokens["probe_set"] == name] for name in probes["probe_set"].unique()}
            sets, most = [(p, texts_of(probes, name)) for name, p in parts.items() if len(p)], self._most
            self._places = [row for each in sets for row in drawn_changes(*each, max_samples=most)]
            long["tokens"] = note + Markup().join(change_view(*each, max_samples=most, css=False) for each in sets)
        short: dict[str, Markup] = {}
        short |= {"metrics": metrics_view(self._metrics, definitions(), css=False)} if self._metrics else {}
        short |= {"attacks": self._attacks} if self._attacks else {}
        return render("linked.sections", long=long, short=short)

    def _having(self, words: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """The rows of answers that have these words, in any letter case and with any white space, and their tokens."""
        if not (wanted := " ".join(words.lower().split())):
            return self._probes, self._tokens
        texts = self._probes[["prompt", "answer", "generation"]].itertuples(index=False)
        has = [any(isinstance(t, str) and wanted in " ".join(t.lower().split()) for t in each) for each in texts]
        kept = set(_named(self._probes)[has])
        tables = (self._probes, self._tokens)
        probes, tokens = (None if each is None else each[_named(each).isin(kept)] for each in tables)
        return probes, tokens

    def to_frame(self) -> pd.DataFrame:
        """What is shown, as a table: the rows of the probe table, before and after, that the search leaves."""
        rows, _ = self._having(self.search)
        return rows.reset_index(drop=True) if self.search else rows.copy()

    @traitlets.observe("search")
    def _search(self, _: Any) -> None:
        html = str(self._drawn(self.search))
        with self.hold_sync():
            self.chosen, self.searched, self.html = [], self.search, html

    @traitlets.observe("chosen")
    def _select(self, _: Any) -> None:
        with contextlib.suppress(ValueError, IndexError):
            row, token = self.chosen
            name, sample, positions = self._places[row]
            self.selected = {"probe_set": name, "sample_id": sample, "position": positions[token]}
            return
        self.selected = {}

    def select(self, sample_id: Any, position: int, probe_set: str = "forget") -> None:
        """Select a token of the token changes, as a click does.

        Raises:
            UserError: it is not drawn.
        """
        for row, (name, sample, positions) in enumerate(self._places):
            if (name, sample) == (probe_set, sample_id) and position in positions:
                self.chosen = [row, positions.index(position)]
                return
        raise UserError(f"no token at position {position} of sample '{printable(str(sample_id))}' is drawn")

    def figure(self, part: str = "answers", **shown: Any) -> TextFigure:
        """The answers of a search, or (`part` "tokens") what changed in their tokens.

        Raises:
            UserError: another part, which is no text, or tokens where none are known.
        """
        probes, tokens = self._having(self.search)
        tokens = None if tokens is None else tokens[_named(tokens).isin(set(_named(probes)))]  # of probed answers alone
        if part == "answers":
            return answers_figure(probes, max_samples=min(self._most, SHOWN))
        if part != "tokens" or tokens is None or not len(tokens):
            raise UserError(f"{printable(part)} cannot be saved as a figure here; answers and tokens can")
        return change_figure(tokens, probes, max_samples=min(self._most, SHOWN))

    def __repr__(self) -> str:
        return f"BeforeAfter({self.count} probed answers)"


def _named(rows: pd.DataFrame) -> pd.Series:
    """The set and id of each row's answer."""
    return pd.Series(list(zip(rows["probe_set"], rows["sample_id"], strict=True)), rows.index, dtype=object)


def _count(probes: pd.DataFrame) -> int:
    """How many answers a probe table is of."""
    return int(probes.groupby(["probe_set", "sample_id"]).ngroups)
