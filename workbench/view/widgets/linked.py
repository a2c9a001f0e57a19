"""Static views made interactive: scorers side by side, and a model before and after a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import pandas as pd
import traitlets
from markupsafe import Markup

from workbench import evals
from workbench.errors import UserError
from workbench.view.html import (
    STATIC,
    Samples,
    agreement_view,
    answers_view,
    as_scores,
    change_view,
    compare_view,
    definitions,
    metrics_view,
    render,
    style_sheet,
    texts_of,
)
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.static_twin import Twin, styles


class Linked(Twin, anywidget.AnyWidget):
    """A static view whose tokens are linked and whose parts can be chosen; it needs no kernel once it is shown."""

    _esm = STATIC / "linked.js"
    _css = styles("view", "linked")
    html = traitlets.Unicode().tag(sync=True)

    def __init__(self, html: str, name: str) -> None:
        super().__init__(html=html)
        self.add_class(name)

    def to_html(self) -> str:
        """The static twin: the same content without scripts."""
        html = Markup(self.html)  # put together from views, which escape
        return style_sheet() + style_sheet("linked") + render("linked.twin", html=html)


class CompareView(Linked):
    """The same text under several scorers with linked hover, and beside it how far the scorers agree.

    Args:
        scores: a score table, or its file.
        samples: a task, its samples, or sample id -> (question, answer).
        scorers: which, and in which order; by default all.
        order: sample ids in the order to show; by default those on which the scorers disagree most come first.
        max_samples: at most so many samples.
        measure: of agreement: "spearman", "kendall" or "top_k_overlap".

    Raises:
        UserError: a table without answers, or an unknown scorer, sample or measure.
    """

    def __init__(
        self,
        scores: pd.DataFrame,
        samples: Samples,
        *,
        scorers: Sequence[str] | None = None,
        order: Sequence[Any] | None = None,
        max_samples: int = 6,
        measure: str = "spearman",
    ) -> None:
        scores = as_scores(scores)
        chosen = scores if scorers is None else scores[scores["scorer"].isin(list(scorers))]
        self.names = list(scorers or dict.fromkeys(scores["scorer"]))
        several = chosen["scorer"].nunique() > 1
        if order is None and several:
            order = evals.disagreement(chosen)["sample_id"].tolist()
        body = compare_view(scores, samples, scorers=scorers, order=order, max_samples=max_samples, css=False)
        if several:
            agreement = evals.agreement(chosen)
            body += agreement_view(agreement, measure=measure, level="per_sample", title="Do they agree?", css=False)
        super().__init__(render("linked.beside", body=body), "wb-compare")

    def __repr__(self) -> str:
        return f"CompareView(scorers: {', '.join(self.names)})"


class BeforeAfter(Linked):
    """What a run did: answers with a word diff, each token's change in probability as colour, metrics with arrows.

    Args:
        run: a run's directory, its path, a `Job` on it, or its probe table (phases "before" and "after").
        tokens: its token table, where `run` is a table.
        metrics: phase -> probe set -> metric -> value, where `run` is a table.
        max_samples: at most so many answers of each probe set.

    Raises:
        UserError: a run that has not been probed after its last step yet.
    """

    def __init__(
        self,
        run: RunSource | pd.DataFrame,
        tokens: pd.DataFrame | None = None,
        metrics: Mapping[str, Any] | None = None,
        *,
        max_samples: int = 24,
    ) -> None:
        probes = run if isinstance(run, pd.DataFrame) else None
        if not isinstance(run, pd.DataFrame):
            directory = run_directory(run)
            probes, tokens = directory.table("probes.parquet"), directory.table("tokens.parquet")
            metrics = directory.json("metrics.json")
        if probes is None or "after" not in set(probes["phase"]):
            name = "this run" if isinstance(run, pd.DataFrame) else run_directory(run).path
            raise UserError(f"{name} has not been probed after its end yet")
        self.count = probes.groupby(["probe_set", "sample_id"]).ngroups
        long = {"answers": answers_view(probes, max_samples=max_samples, css=False)}
        if tokens is not None:
            long["tokens"] = _changes(probes, tokens, max_samples)
        short = {"metrics": metrics_view(metrics, definitions(), css=False)} if metrics else {}
        super().__init__(render("linked.sections", long=long, short=short), "wb-before-after")

    def __repr__(self) -> str:
        return f"BeforeAfter({self.count} probed answers)"


def _changes(probes: pd.DataFrame, tokens: pd.DataFrame, count: int) -> Markup:
    """The token changes of each probe set; sample ids are unique within a set only."""
    sets = {name: tokens[tokens["probe_set"] == name] for name in probes["probe_set"].unique()}
    return Markup().join(
        change_view(part, texts_of(probes, name), max_samples=count, css=False)
        for name, part in sets.items()
        if len(part)
    )
