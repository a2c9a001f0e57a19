"""What a notebook would hand to a view or to `start` works, or gives one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from pages import SAMPLES, scores_of
from runs_of import config_of, own_files

import workbench as wb
from workbench import evals
from workbench.errors import UserError
from workbench.runs import Job, jobs
from workbench.tasks.samples import Sample, Task
from workbench.unlearning import Run, unlearn
from workbench.unlearning.settings import Settings
from workbench.view import charts, comparison_page, html, run_report, scores_page
from workbench.view.charts.scores import disagreement_chart
from workbench.view.html import compare_view, disagreement_view, token_matrix, token_view
from workbench.view.widgets import BeforeAfter, CompareView, ErrorBrowser, RunPanel, TokenView

ROWS = [Sample(name, question, answer) for name, (question, answer) in SAMPLES.items()]
TASK = Task("t", {"forget": ROWS, "retain": [Sample("kept", "Who?", "Somebody else.")]})


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> wb.RunDirectory:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=2, batch_size=2, record_every=1)
    return wb.start(config_of(own_files(bio, folder, 4), settings), str(folder / "run"))  # a path as text


def panel(run: Any) -> str:
    shown = RunPanel("none yet")
    shown.attach(run)
    shown.close()
    return repr(shown)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "BeforeAfter": BeforeAfter,
    "TokenView.of_run": TokenView.of_run,
    "ErrorBrowser": ErrorBrowser,
    "RunPanel.attach": panel,
    "run_report": lambda run: run_report(run).read_text(encoding="utf-8"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_run_in_any_form(run: wb.RunDirectory, name: str) -> None:
    forms = [run.path, str(run.path), run, Job(run.path)]
    shown = [VIEWS[name](form) for form in forms]
    assert len({each if isinstance(each, str) else repr(each) for each in shown}) == 1


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("form", [{}, 3, wb.Settings()])
def test_what_is_no_run_is_one_line(name: str, form: Any) -> None:
    with pytest.raises(UserError, match=r"a run is given by its directory, its path or a Job, not by a \w+; wb.start"):
        VIEWS[name](form or [form])


@pytest.mark.parametrize("name", VIEWS)
def test_what_unlearn_returns_has_no_files(name: str) -> None:
    made: Any = Run(None, [], None, None, 0, True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"`unlearn` returned: it keeps no files"):
        VIEWS[name](made)


def test_scores_of_a_run_in_any_form(run: wb.RunDirectory, bio: Task, full: Any) -> None:
    """A run is a score table and its samples; so is what `unlearn` returns, and a table has samples too."""
    for form in (run, run.path, str(run.path), Job(run.path)):
        shown = TokenView(form, form)
        assert shown.head == TokenView(run.table("scores.parquet"), bio.forget[:4]).head
        assert CompareView(form, form, scorers=[shown.scorer]).names == [shown.scorer]
    made = unlearn(
        full,
        replace(bio, sets={n: bio.sets[n][:4] for n in ("forget", "retain")}),
        settings=Settings(steps=2, batch_size=2, record_every=1),
    )
    shown = TokenView.of_run(made)
    assert shown.head["layers"][0]["steps"] == TokenView(made).head["layers"][0]["steps"]
    rows = pd.DataFrame([{"sample_id": s.id, "question": s.question, "answer": s.answer} for s in ROWS])
    for samples in (rows, rows.to_dict("records"), rows.rename(columns={"sample_id": "id", "question": "prompt"})):
        assert TokenView(table(), samples).head["samples"] == TokenView(table(), SAMPLES).head["samples"]


def test_what_probe_returned(full: Any, bio: Task) -> None:
    few = replace(bio, sets={n: bio.sets[n][:2] for n in ("forget", "retain")})
    before, after = (wb.probe(full, few, phase=phase) for phase in ("before", "after"))
    both = [before, after]
    rows, tokens = (pd.concat([getattr(each, name) for each in both]) for name in ("rows", "tokens"))
    assert html.answers_view(both) == html.answers_view(rows)
    assert html.change_view(both, few) == html.change_view(tokens, few)
    assert html.metrics_view(both) == html.metrics_view({"before": before.metrics, "after": after.metrics})
    shown = BeforeAfter(both)
    assert len(shown.to_frame()) == len(rows)
    shown.search = bio.forget[0].answer
    assert set(shown.to_frame()["sample_id"]) == {bio.forget[0].id}


def test_tables_of_a_run(run: wb.RunDirectory) -> None:
    for form in (run, run.path, str(run.path), Job(run.path)):
        assert html.cost_table(form) == html.cost_table(run.json("cost.json"))
        assert html.metrics_view(form) == html.metrics_view(run.json("metrics.json"))
        assert html.answers_view(form) == html.answers_view(run.table("probes.parquet"))
        assert html.change_view(form) == html.change_view(run.table("tokens.parquet"), {})
    for view in (html.answers_view, html.cost_table, html.metrics_view, html.change_view):
        with pytest.raises(UserError, match="a run is given by its directory"):
            view(3)


CHARTS: dict[str, Callable[[Any], Any]] = {
    "metrics_chart": charts.metrics_chart,
    "slope_chart": charts.slope_chart,
    "tradeoff_chart": lambda run: charts.tradeoff_chart(run, "probability"),
    "cost_chart": charts.cost_chart,
    "reach_chart": lambda run: charts.reach_chart(run, "probability"),
    "matrix_chart": lambda run: charts.matrix_chart(
        run, wb.RunDirectory(path_of(run)).table("scores.parquet")["sample_id"][0]
    ),
    "distribution_chart": charts.distribution_chart,
    "agreement_chart": charts.agreement_chart,
}


def path_of(run: Any) -> Path:
    return Path(run) if isinstance(run, str) else getattr(run, "path", run)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_of_a_run_in_any_form(run: wb.RunDirectory, name: str) -> None:
    drawn = {CHARTS[name](form).to_json() for form in (run, run.path, str(run.path), Job(run.path))}
    assert len(drawn) == 1
    with pytest.raises(UserError, match=r"a run is given by its directory|must be a score table"):
        CHARTS[name](3) if name != "matrix_chart" else charts.matrix_chart(3, "a")  # type: ignore[arg-type]


def test_charts_of_what_is_in_memory(run: wb.RunDirectory, full: Any, bio: Task, tmp_path: Path) -> None:
    few = replace(bio, sets={n: bio.sets[n][:2] for n in ("forget", "retain")})
    both = [wb.probe(full, few, phase=phase) for phase in ("before", "after")]
    rows = pd.concat([each.rows for each in both])
    assert charts.slope_chart(both).to_json() == charts.slope_chart(rows).to_json()
    metrics = {"before": both[0].metrics, "after": both[1].metrics}
    known = charts.tradeoff_chart({"run": metrics}).to_json()
    assert charts.tradeoff_chart(both).to_json() == known == charts.tradeoff_chart(metrics).to_json()
    seeds = charts.tradeoff_chart({"run": [run, run.path]}, "probability")
    assert seeds.to_json() == charts.tradeoff_chart({"run": [run.json("metrics.json")] * 2}, "probability").to_json()
    made: Any = SimpleNamespace(ledger=SimpleNamespace(as_dict=lambda: run.json("cost.json")))
    assert charts.cost_chart(run).to_json() == charts.cost_chart({run.name: made}).to_json()
    scores = run.table("scores.parquet")
    scores.to_parquet(tmp_path / "scores.parquet")
    for form in (scores, tmp_path / "scores.parquet", str(tmp_path / "scores.parquet")):
        assert charts.distribution_chart(form).to_json() == charts.distribution_chart(run).to_json()
        assert charts.agreement_chart(form).to_json() == charts.agreement_chart(evals.agreement(scores)).to_json()
        assert disagreement_chart(form).to_json() == disagreement_chart(evals.disagreement(scores)).to_json()


def test_several_runs_have_their_names(run: wb.RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    (same := tmp_path / "b" / run.name).parent.mkdir()
    shutil.copytree(run.path, same)
    assert {bar.y for bar in charts.cost_chart([run, other]).data} == {("run", "other")}
    assert {bar.y for bar in charts.cost_chart([run, same]).data} == {(str(run.path), str(same))}
    assert "other" in {line.name for line in charts.reach_chart([run, str(other)], "probability").data}


def test_attacks_in_any_form(run: wb.RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has not been attacked yet"):
        charts.attacks_chart(run)
    attacks = {"nf4": {"retain_only": 0.1, "run": 0.3, "before": 0.9, "comes_back": 0.2}}
    monkeypatch.setattr("workbench.view.charts.sources.attacks_of", lambda path: attacks)
    for form in (run, run.path, str(run.path), {"attacks": attacks, "made_from": {}}):
        assert charts.attacks_chart(form).to_json() == charts.attacks_chart(attacks).to_json()


def test_a_view_as_a_table_is_what_it_shows() -> None:
    view = TokenView(table(), TASK, scorer="b")
    assert view.to_frame()["score"].tolist() == table().query("scorer == 'b'")["score"].tolist()
    view.search = "kuwait"
    shown = view.to_frame()
    assert set(shown["sample_id"]) == {"a"}
    assert shown["selected"].tolist() == (shown["score"] >= view.threshold).tolist()
    view.unit = "word"
    assert [word.strip() for word in view.to_frame()["token"]][:3] == ["Basil", "was", "born"]
    view.search = "nowhere"
    assert view.to_frame().empty
    drawn = CompareView(table(), TASK, order=["b"]).to_frame()
    assert set(drawn["sample_id"]) == {"b"}
    assert set(drawn["scorer"]) == {"atwu", "b"}


def table() -> Any:
    one, other = scores_of(SAMPLES), scores_of(SAMPLES, scorer="b")
    return pd.concat([one, other.assign(score=-(other["score"] ** 2))], ignore_index=True)


SCORED: dict[str, Callable[[Any, Any], Any]] = {
    "TokenView": lambda scores, samples: TokenView(scores, samples).to_html(),
    "TokenView sends": lambda scores, samples: TokenView(scores, samples).head["samples"],
    "CompareView": lambda scores, samples: CompareView(scores, samples).to_html(),
    "token_view": token_view,
    "compare_view": compare_view,
    "scores_page": scores_page,
    "comparison_page": lambda scores, samples: comparison_page(scores, samples),
}


@pytest.mark.parametrize("name", SCORED)
def test_samples_and_scores_in_any_form(name: str, tmp_path: Path) -> None:
    scores = table()
    scores.to_parquet(tmp_path / "scores.parquet")
    expected = SCORED[name](scores, SAMPLES)
    for samples in (TASK, TASK.forget, tuple(ROWS), {s.id: s for s in ROWS}, {k: list(v) for k, v in SAMPLES.items()}):
        assert SCORED[name](scores, samples) == expected
    for file in (tmp_path / "scores.parquet", str(tmp_path / "scores.parquet")):
        assert SCORED[name](file, TASK) == expected
    with pytest.raises(UserError, match=r"no score table: it has no column position, token, start, end"):
        SCORED[name](scores.drop(columns=["position", "token", "start", "end"]), SAMPLES)
    with pytest.raises(UserError, match=r"scores must be a score table or its file, not RunDirectory|not dict"):
        SCORED[name]({}, SAMPLES)
    with pytest.raises(UserError, match=r"none\.parquet: "):
        SCORED[name](tmp_path / "none.parquet", SAMPLES)


@pytest.mark.parametrize(
    "samples",
    ["biographies", 3, [1], ["text"], [{"answer": "no id"}], {"a": "b"}, {"a": ("b",)}, pd.DataFrame({"a": [1]})],
)
def test_what_are_no_samples_is_one_line(samples: Any) -> None:
    for view in (token_view, compare_view, TokenView, CompareView, scores_page):
        with pytest.raises(UserError, match="samples must be a task, its samples, or a mapping"):
            view(table(), samples)


def test_one_answer_and_disagreements_too() -> None:
    disputed = evals.disagreement(table())
    assert disagreement_view(disputed, TASK) == disagreement_view(disputed, SAMPLES)
    with pytest.raises(UserError, match="scores must be a score table"):
        token_matrix({}, next(iter(SAMPLES)))  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [wb.start, jobs.start])
def test_start_says_what_it_takes(start: Any, bio: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a run needs a Config, not a dict: wb.Config\("):
        start({"task": "biographies"}, tmp_path / "run")
    with pytest.raises(UserError, match="a run's directory is a path, not a list"):
        start(config_of(own_files(bio, tmp_path, 4)), [tmp_path])
    assert not (tmp_path / "run").exists()
