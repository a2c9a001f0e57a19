"""Every string that data can bring into a page is hostile here, and none of it becomes an element or an attribute."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile import EVIL, Typeset, check
from interferences import made as interference_made
from jinja2 import DictLoader, TemplateSyntaxError, UndefinedError
from pages import scores_of
from sequences import written

from workbench.evals.interference import Interference
from workbench.evals.where import Lens, Where
from workbench.objectives import objective
from workbench.view import comparison_page, run_report, scores_page, sequence_page
from workbench.view.compared_html import compared_page
from workbench.view.compared_runs import read_runs
from workbench.view.html import (
    agreement_view,
    alignment_table,
    answers_view,
    change_view,
    compare_view,
    cost_table,
    disagreement_view,
    interference_view,
    line_chart_svg,
    metrics_view,
    notes_view,
    page,
    summary_view,
    token_matrix,
    token_view,
    where_view,
)
from workbench.view.widgets import (
    BeforeAfter,
    CompareRuns,
    CompareView,
    ErrorBrowser,
    InterferenceView,
    LabelSpans,
    RetentionView,
    RunPanel,
    TokenView,
    WhereView,
)
from workbench.view.widgets.error_html import answer_html, numbers_html
from workbench.view.widgets.run_status import error_html

ID = f"a{EVIL}"
DEFINITION = dict.fromkeys(("range", "unit", "split", "description", "formula", "aggregate", "source", "differs"), EVIL)
KNOWN = {EVIL: DEFINITION | {"direction": "higher"}}
NOTHING = {"value": None, "reason": EVIL}
METRICS = {phase: {EVIL: {EVIL: NOTHING, f"{EVIL}2": 0.5}} for phase in ("before", "after")}
SUITE = {
    "suite": EVIL, "summary": {EVIL: NOTHING, f"{EVIL}2": 0.5}, "reference": EVIL, "convention": EVIL,
    "parts": {EVIL: {EVIL: EVIL, f"{EVIL}2": NOTHING}}, "general": {EVIL: {EVIL: 1.0}},
    "curve": [{"step": step, "rows": EVIL, EVIL: 0.5} for step in (0, 1)],
}  # fmt: skip
COST = {"phases": {EVIL: {"tokens": 1, "flops": 1, "seconds": 1.0, "calls": 1}}}
SAMPLES = {ID: (f"Who is {EVIL}?", f"It is {EVIL} again."), f"b{EVIL}": (EVIL, EVIL)}


def score_table() -> pd.DataFrame:
    """Two hostile scorers over questions and answers of hostile samples."""
    spans = {sample: [(0, 9)] for sample in SAMPLES}
    tables = []
    for scorer, sign in ((EVIL, 1.0), (f"{EVIL}2", -1.0)):
        answers = scores_of(SAMPLES, spans, scorer)
        prompts = scores_of({i: (q, q) for i, (q, _) in SAMPLES.items()}, spans, scorer).assign(segment="prompt")
        for table in (answers, prompts):
            tables.append(table.assign(task=EVIL, score=sign * table["position"] / 9))
    return pd.concat(tables, ignore_index=True)


def token_rows() -> pd.DataFrame:
    """A run's token table: the hostile answers before and after."""
    base = scores_of(SAMPLES, {ID: [(0, 9)]}).drop(columns=["scorer", "score", "segment", "step", "task"])
    base = base.assign(run=EVIL, entropy=1.0, logp=-0.1, rank=0, alternatives=json.dumps([[EVIL, 0.5]]))
    sets = [base.assign(probe_set=name) for name in ("forget", EVIL)]
    return pd.concat([s.assign(phase=phase) for phase in ("before", "after") for s in sets], ignore_index=True)


def maps() -> Where:
    """Maps of a hostile answer, two layers of three models, one of which cannot be had."""
    tokens, shape = [EVIL, f" {EVIL}", "\u202e", ""], (2, 4)
    top = np.arange(2 * 4 * 5).reshape(2, 4, 5) % 4
    lens = Lens(np.full(shape, -1.0), np.zeros(shape, int), top, np.full(top.shape, 0.1), tokens)
    drops = {model: np.full(shape, 0.5) for model in ("before", "run", "retain_only")}
    facts, reasons = [True, False, False, False], {"retain_only": EVIL}
    return Where(ID, EVIL, EVIL, [0, 1, 2, 3], tokens, facts, {"before": lens, "run": lens}, drops, reasons)


def probe_rows() -> pd.DataFrame:
    """A run's probe table: hostile sets, ids, questions, answers and generations."""
    rows = [
        {"run": EVIL, "step": 0, "phase": phase, "probe_set": probe_set, "sample_id": sample, "prompt": question}
        | {"answer": answer, "generation": f"{EVIL} {phase}", "probability": 0.5 + (phase == "after") / 4, EVIL: 0.5}
        | {"fact_accuracy": float(phase == "before"), "rouge_l_recall": 0.5, "perplexity": 2.0}
        for phase in ("before", "after")
        for probe_set in ("forget", "retain", EVIL)
        for sample, (question, answer) in SAMPLES.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's directory in which every string is hostile, its own name included."""
    path = tmp_path_factory.mktemp("runs") / EVIL.replace("/", "").replace("\x00", "")
    path.mkdir()
    config = {
        "task": {"name": EVIL, "forget": EVIL}, "model": EVIL, "objective": EVIL, "weights": EVIL, "reference": EVIL,
        "stop_at": EVIL, "settings": {"steps": 2, "options": {"objective": {EVIL: EVIL}}}, "versions": {EVIL: EVIL},
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    spent = {"total_flops": 1.0, "total_seconds": 1.0, "probe": {EVIL: {"fact_accuracy": 0.5}}}
    events = [{"step": step, "forget_nll": 1.0, "retain_nll": 0.1, **spent} for step in (1, 2)]
    (path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    for name, content in (("metrics", METRICS), ("cost", COST | {"total": COST["phases"][EVIL]})):
        (path / f"{name}.json").write_text(json.dumps(content))
    (path / "suites").mkdir()
    (path / "suites" / "x.json").write_text(json.dumps(SUITE))
    marks = {f"forget/{sample}": {"tags": EVIL, "note": EVIL} for sample in SAMPLES}
    (path / "notes.json").write_text(json.dumps(marks))
    probe_rows().to_parquet(path / "probes.parquet")
    token_rows().to_parquet(path / "tokens.parquet")
    scores = score_table().query("segment == 'answer'")
    pd.concat([scores.assign(step=step) for step in (0, 2)]).to_parquet(path / "scores.parquet")
    (path / "log.txt").write_text(f"{EVIL}\n{EVIL}")
    (path / "run.json").write_text(json.dumps({"status": "finished", "steps": 2, "reason": EVIL}))
    failed = shutil.copytree(path, path.with_name(f"failed {path.name}"))
    (failed / "run.json").unlink()
    (failed / "job.json").write_text(json.dumps({"state": "unfinished", "reason": EVIL}))
    return path


def views(run: Path) -> dict[str, Callable[[], Any]]:
    """Every function and widget that makes HTML of data."""
    table, tokens, probes = score_table(), token_rows(), probe_rows()
    values = {a: {b: NOTHING if a == b else 0.5 for b in (EVIL, "b")} for a in (EVIL, "b")}
    agreement = {"scorers": [EVIL, "b"], "samples": 1, "tokens": 9, "spearman": {"pooled": values}}
    disputed = pd.DataFrame({"sample_id": [ID], "disagreement": [0.5], "pairs": [1], "most_apart": [EVIL]})
    alignment = {EVIL: {"auroc": NOTHING}, f"{EVIL}2": {"auroc": 0.5}}
    notes = {EVIL: {"target": EVIL, "baseline": EVIL, "units": EVIL, "not_available": {EVIL: EVIL}}}
    notes |= {f"{EVIL}2": {"target": f"token:{EVIL}", "completeness_delta": {"median": 0.1, "largest": 0.2}}}
    row = {"right_before": None, "p_before": 0.5, "p_after": 0.4} | dict.fromkeys(
        ("outcome", "why", "probe_set", "sample_id", "prompt", "answer", "before", "after", "tags", "note"), EVIL
    )
    two = {EVIL: 1.0, f"{EVIL}2": np.nan}
    return {
        "token_view": lambda: token_view(table, SAMPLES, alignment=alignment, title=EVIL),
        "token_view of tokens": lambda: token_view(table, {}, title=EVIL),
        "token_view of one scorer": lambda: token_view(table[table["scorer"] == EVIL], SAMPLES),
        "compare_view": lambda: compare_view(table, SAMPLES, title=EVIL),
        "token_matrix": lambda: token_matrix(table, ID, title=EVIL),
        "agreement_view": lambda: agreement_view(agreement, title=EVIL),
        "disagreement_view": lambda: disagreement_view(disputed, SAMPLES, title=EVIL),
        "disagreement_view of ids": lambda: disagreement_view(disputed, {}),
        "notes_view": lambda: notes_view(notes, title=EVIL),
        "change_view": lambda: change_view(tokens, SAMPLES, title=EVIL),
        "answers_view": lambda: answers_view(probes, title=EVIL),
        "metrics_view": lambda: metrics_view(METRICS, KNOWN, title=EVIL),
        "summary_view": lambda: summary_view(SUITE, KNOWN, title=EVIL),
        "summary_view of nothing": lambda: summary_view({"suite": EVIL}),
        "alignment_table": lambda: alignment_table(alignment, title=EVIL),
        "cost_table": lambda: cost_table(COST, title=EVIL),
        "line_chart_svg": lambda: line_chart_svg({EVIL: [(0, 1), (1, 2)]}, title=EVIL, x_label=EVIL, y_label=EVIL),
        "line_chart_svg of nothing": lambda: line_chart_svg({}, title=EVIL),
        "page": lambda: page(EVIL, token_view(table, SAMPLES), subtitle=EVIL),
        "run_report": lambda: run_report(run, table, alignment).read_text(encoding="utf-8"),
        "scores_page": lambda: scores_page(table, SAMPLES, alignment),
        "comparison_page": lambda: comparison_page(table, SAMPLES),
        "errors: answer": lambda: answer_html(row, numbers_html(two, two, list(two), KNOWN)),
        "errors: twin": lambda: ErrorBrowser(run).to_html(),
        "errors: page": lambda: ErrorBrowser(run).export_html().read_text(encoding="utf-8"),
        "errors: widget": lambda: _shown(ErrorBrowser(run)),
        "panel: error": lambda: error_html(EVIL, [EVIL, EVIL]),
        "panel: run": lambda: _attached(run),
        "panel: failed run": lambda: _attached(run.with_name(f"failed {run.name}")),
        "panel: form": lambda: _form(run.parent),
        "TokenView": lambda: TokenView.of_run(run, title=EVIL).to_html(),
        "CompareView": lambda: CompareView(table, SAMPLES).to_html(),
        "BeforeAfter": lambda: BeforeAfter(run).to_html(),
        "where_view": lambda: where_view(maps(), title=EVIL),
        "WhereView": lambda: WhereView([maps(), maps()], title=EVIL).to_html(),
        "WhereView: live": lambda: WhereView(maps(), title=EVIL).html,
        "interference_view": lambda: interference_view(domains_of(), title=EVIL),
        "InterferenceView": lambda: InterferenceView(domains_of(), title=EVIL).to_html(),
        "InterferenceView: live": lambda: _pair(InterferenceView(domains_of(), title=EVIL)),
        "LabelSpans": lambda: _labelled(run.parent).to_html(),
        "RetentionView": lambda: _opened(run).to_html(),
        "RetentionView: live": lambda: _opened(run).html + _opened(run).detail,
        "sequence_page": lambda: sequence_page(_opened(run).sequence),
        "CompareRuns": lambda: CompareRuns([run, run.with_name(f"failed {run.name}")]).to_html(),
        "compared_page": lambda: compared_page(read_runs([run, run.with_name(f"failed {run.name}")])),
    }


def domains_of() -> Interference:
    """Domains with hostile names, and tokens."""
    whole = interference_made([EVIL, f"{EVIL}2", "c"])
    tokens = whole.tokens.assign(token=EVIL, sample_id=EVIL)
    about, texts = {"level": EVIL}, {EVIL: (EVIL, EVIL * 3, whole.measured[1])}
    return replace(whole, by=EVIL, task=EVIL, sets=[EVIL] * 5, about=about, tokens=tokens, texts=texts)


def _pair(view: InterferenceView) -> str:
    view.chosen = [0, 1]
    return view.html + view.detail


def _labelled(folder: Path) -> LabelSpans:
    labels = LabelSpans([{"question": EVIL, "answer": f"{EVIL} {EVIL}"}], folder / f"{EVIL[:9]}.jsonl".replace("/", ""))
    labels.label(0, [(3, len(EVIL))])
    return labels


def _opened(run: Path) -> RetentionView:
    """A retention matrix with hostile names and answers, one cell of which is open."""
    names = [f"{EVIL}/1", f"{EVIL}/2"]
    sequence = written(run.parent / "sequence", [np.ones((3, 3)) / 2], (EVIL,), tasks=names, text=EVIL)
    view = RetentionView(sequence, title=EVIL)
    view.chosen = [1, 0]
    return view


def _shown(browser: ErrorBrowser) -> str:
    """What an error browser shows while it is used."""
    browser.probe_set.value = EVIL
    shown = [browser.head.value, browser.answer.value]
    browser.search.value = EVIL * 2
    browser._guarded(lambda: EVIL)
    shown += [browser.answer.value, browser.status.value]
    browser.tokens = None
    browser.search.value = ""
    return "".join([*shown, browser.answer.value])


def _attached(run: Path) -> str:
    """What a panel shows of the run: its state, charts and results, or why it cannot."""
    panel = RunPanel(run.parent)
    panel._guarded(lambda: panel.attach(run))
    panel.close()
    return panel.to_html() + panel.error.value + panel.failure.value


def _form(root: Path) -> str:
    """What a panel's form says of hostile entries."""

    @objective(EVIL, over="tokens", source=EVIL, certainty="ours")
    def evil(tokens: Any, *, softness: float = 0.5) -> Any: ...

    evil.__doc__ = f"{EVIL}.\n\nArgs:\n    tokens: {EVIL}\n    softness: {EVIL}\n"
    try:
        panel = RunPanel(root / "none", EVIL, EVIL)
        panel.form.objective.value, panel.form.weights.value = EVIL, "gap"
        panel.form.fields["train"].value = EVIL
        panel.buttons["Start"].click()
        return panel.to_html() + panel.form.about.value + panel.form.meaning.value
    finally:
        del objective.entries[EVIL]


@pytest.mark.parametrize("name", views(Path()))
def test_no_element_or_attribute_comes_from_data(run: Path, name: str) -> None:
    check(str(views(run)[name]()))


FRAGMENTS = {"errors: widget", "panel: error", "panel: form", "panel: run", "panel: failed run"}  # in a widget's root


@pytest.mark.parametrize("name", sorted(set(views(Path())) - FRAGMENTS))
def test_no_formula_is_looked_for(run: Path, name: str) -> None:
    """A notebook typesets "from $300 to $400" as a formula, but for elements of these classes."""
    assert "zz" not in Typeset(str(views(run)[name]())).text


def test_no_formula_is_looked_for_in_widgets(run: Path) -> None:
    both = CompareRuns([run, run.with_name(f"failed {run.name}")])
    panel, where = RunPanel(run.parent / "none"), WhereView(maps())
    for widget in (TokenView.of_run(run), BeforeAfter(run), ErrorBrowser(run), panel, where, both):
        assert {"tex2jax_ignore", "mathjax_ignore"} <= set(widget._dom_classes)
        assert Typeset(widget.to_html()).text.strip() in ("", f"showing 12 of {len(SAMPLES) * 3} answers")


def test_templates_escape_mark_and_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = importlib.import_module("workbench.view.html.render")  # the package hands out its function
    monkeypatch.setattr(
        renderer, "FileSystemLoader", lambda _: DictLoader({"t.html": TEMPLATE, "u.html": "\n<p>\n\n{% if %}"})
    )
    monkeypatch.setattr(renderer, "_environment", renderer._environment.__wrapped__)
    assert renderer.render("t.a", text="<\u200b'") == "<p>two words <b>&lt;[U+200B]&#39;</b>{{ raw }}</p>"
    with pytest.raises(UndefinedError, match="text"):
        renderer.render("t.a")
    with pytest.raises(TemplateSyntaxError) as error:
        renderer.render("u.a")
    assert error.value.lineno == 3


TEMPLATE = """
{% macro a(text) %}
  <p>two
    words <b>{{ text }}</b>
    {{ "{{ raw }}" }}
  </p>
{% endmacro %}
"""
