"""The run panel without a browser: real runs in processes of their own, started and stopped by its buttons."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from runs_of import config_of, own_files, wait_until

from workbench.errors import UserError
from workbench.objectives import objective
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory
from workbench.runs.lock import job_of
from workbench.runs.options import settings_for, settings_from
from workbench.scorers.base import scorer
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.settings import Settings
from workbench.view.html.line_chart import line_chart_svg
from workbench.view.widgets import RunPanel
from workbench.view.widgets.run_form import PROBES, Form
from workbench.view.widgets.run_status import POINTS, duration, thinned


@pytest.fixture
def spec(bio: Any, tmp_path: Path) -> TaskSpec:
    return TaskSpec(**own_files(bio, tmp_path, 12))


def small(root: Path, spec: TaskSpec, **fields: str) -> RunPanel:
    panel = RunPanel(root, spec)
    panel.form.objective.value, panel.form.weights.value = "wga", "surprisal"
    defaults = {"steps": "30", "batch_size": "4", "probe_limit": "2", "probe_every": "8"}
    for name, text in (defaults | fields).items():
        panel.form.fields[name].value = text
    return panel


def watchers() -> int:
    return sum(thread.name == "RunPanel" for thread in threading.enumerate())


def ended(panel: RunPanel, status: str) -> None:
    """The run has ended, and the panel knows."""
    wait_until(lambda: panel.status.startswith(status) and panel.job is not None and not panel.job.alive)
    wait_until(lambda: watchers() == 0)


@pytest.mark.usefixtures("forked_jobs")
def test_start_watch_stop_attach_resume(spec: TaskSpec, tmp_path: Path) -> None:
    panel = small(tmp_path / "runs", spec, steps="60")
    assert repr(panel) == f"RunPanel(no run yet in {tmp_path / 'runs'})"
    assert [name for name, button in panel.buttons.items() if button.disabled] == ["Stop", "Resume", "Attach"]
    panel.buttons["Start"].click()
    panel.buttons["Start"].click()  # a double click starts one run
    assert panel.error.value == ""
    assert len(panel.runs.options) == 1
    assert Config.from_dict(RunDirectory(panel.runs.value).config) == panel.config()
    drawn: list[str] = []
    panel.chart.observe(lambda change: drawn.append(change["new"]), "value")
    wait_until(lambda: len(panel.events) >= 6 and len(set(drawn)) >= 2)  # it grew before our eyes
    assert all(part in drawn[-1] for part in ("forget", "retain", "Mean NLL"))
    wait_until(lambda: "Fact accuracy of the probes" in panel.chart.value)
    assert all(part in panel.state.value for part in ("<b>running</b>", "steps per second", "FLOP", "NLL: forget"))

    other = RunPanel(tmp_path / "runs", spec)  # as after a restart of the kernel: it finds the run by itself
    assert other.job is not None
    assert panel.job is not None
    assert other.job.path == panel.job.path
    for _ in range(3):
        other.attach()
    panel.buttons["Stop"].click()
    ended(panel, "unfinished, step")
    wait_until(lambda: "stopped at step" in other.status)
    step = len(panel.events)
    assert step < 60
    assert f"stopped at step {step}" in panel.state.value
    assert panel.failure.value == panel.results.value == ""  # to be stopped is no failure
    assert [b.disabled for b in panel.buttons.values()] == [False, True, False, False, False]
    other.buttons["Resume"].click()
    ended(other, "finished")
    assert [e["step"] for e in other.events] == list(range(1, 61))
    assert other.runs.label.startswith("finished, step 60 of 60")
    assert all(part in other.results.value for part in ("Metrics, before → after", "fact accuracy", "Cost"))
    assert [buttons.ready for buttons in other.figures.values()] == [True, True]
    losses = other.figure().data[0]
    assert list(losses.y) == [e["forget_nll"] for e in other.events]
    assert other.figure("metrics").to_bytes(".tex").startswith(b"% A figure")
    assert other.figure("metrics").rows[0].pieces[0].text.startswith("fact accuracy")
    twin = other.to_html()
    assert "<script" not in twin
    assert all(part in twin for part in (other.job.path.name, "fact accuracy", "Mean NLL", "objective <b>wga</b>"))
    other.buttons["Resume"].click()
    assert "is finished; there is nothing to resume" in other.error.value
    assert repr(other) == f"RunPanel({other.job.path.name}: finished, step 60 of 60)"


@pytest.mark.usefixtures("forked_jobs")
def test_a_run_that_fails_says_why(spec: TaskSpec, tmp_path: Path) -> None:
    panel = small(tmp_path / "runs", spec, train="layers:90")
    panel.buttons["Start"].click()
    assert "train=layers:90: the model has layers 0 to 3" in panel.error.value
    assert panel.job is None
    assert not (tmp_path / "runs").exists()
    panel = small(tmp_path / "runs", spec, lr="1e30", clip="1e30")
    panel.buttons["Start"].click()
    assert panel.job is not None
    ended(panel, "unfinished")
    assert "a smaller lr or clip may help" in panel.failure.value
    assert panel.failure.value.count("a smaller lr") == 1  # though its log says it too
    assert panel.form.fields["lr"].value == "1e30"
    shutil.rmtree(panel.job.path)
    panel.buttons["Resume"].click()
    assert panel.error.value != ""
    panel.buttons["Refresh"].click()
    assert panel.runs.label == "none yet"
    assert panel.error.value == ""


@pytest.mark.slow
def test_a_killed_run_and_one_that_waits(spec: TaskSpec, tmp_path: Path) -> None:
    panel, second = (small(tmp_path / "runs", spec, steps="400") for _ in range(2))
    panel.buttons["Start"].click()
    wait_until(lambda: len(panel.events) >= 2)
    second.buttons["Start"].click()
    assert panel.job is not None
    if (os.cpu_count() or 1) < 4:
        wait_until(lambda: "waiting for its turn" in second.status)
    third = RunPanel(tmp_path / "runs", spec)  # two go on: it leaves the choice to the user
    assert third.job is None
    assert all(label.startswith(("running", "queued")) for label, _ in third.runs.options)
    os.kill(job_of(panel.job.path)["pid"], signal.SIGKILL)
    wait_until(lambda: "its process is gone" in panel.failure.value)
    second.buttons["Stop"].click()
    ended(second, "unfinished")
    panel.buttons["Refresh"].click()
    assert "stopped" in second.status


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("compile", "maybe", "compile: &#39;maybe&#39; is not true or false"),
        ("lr", "fast", "lr: &#39;fast&#39; is not a number"),
        ("lr", "", "lr: &#39;&#39; is not a number"),
        ("steps", "0", "steps must be at least 1"),
        ("probe_limit", "few", "probe limit: &#39;few&#39; is not a whole number"),
        ("train", "<b>", "train is all, lora, or layers such as layers:4-6,9; not &#39;&lt;b&gt;&#39;"),
    ],
)
def test_a_mistake_is_a_line_in_the_panel(spec: TaskSpec, tmp_path: Path, field: str, text: str, message: str) -> None:
    panel = small(tmp_path / "runs", spec)
    panel.form.fields[field].value = text
    panel.buttons["Start"].click()
    assert message in panel.error.value
    assert panel.form.fields[field].value == text  # what was typed stays
    assert not (tmp_path / "runs").exists()
    assert message in panel.to_html()
    panel.buttons["Stop"].click()
    assert "no run is shown" in panel.error.value


def test_a_task_that_is_not_there(tmp_path: Path) -> None:
    panel = RunPanel(tmp_path, "biografies")
    panel.buttons["Start"].click()
    assert "did you mean biographies?" in panel.error.value


def test_the_form_is_what_the_command_line_reads() -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    form.objective.value, form.weights.value = "simnpo", "atwu"
    parts = {"objective": objective["simnpo"].options, "weights": scorer["atwu"].options}
    assert form.config().settings == settings_from([], parts, gamma=0.125)  # what the authors set
    assert form.fields["gamma"].value == "0.125"
    form.fields["lr"].value, form.options["objective.beta"].value = "1e-3", "2.5"
    form.options["weights.budget"].value = "0.4"
    pairs = ["lr=1e-3", "objective.beta=2.5", "weights.budget=0.4"]
    assert form.config().settings == settings_from(pairs, parts, gamma=0.125)
    assert form.config() == Config(
        task=TaskSpec("biographies"),
        model="bio-full",
        objective="simnpo",
        settings=form.config().settings,
        probe_every=10,
        probe_limit=24,
    )
    form.fields["stop_at"].value = " forget.fact_accuracy<=0.2 "
    assert form.config().stop_at == "forget.fact_accuracy<=0.2"
    form.fields["probe_every"].value = "0"
    with pytest.raises(UserError, match="set probe_every"):
        form.config()
    form.objective.value = "npo"  # what was typed stays, what was not follows the new objective
    assert form.fields["lr"].value == "1e-3"
    assert form.fields["gamma"].value == str(Settings().gamma)
    assert form.options["objective.beta"].value == "0.1"
    assert set(form.options) == {"objective.beta", *(f"weights.{name}" for name in scorer["atwu"].options)}
    form.objective.value = "simnpo"
    assert form.options["objective.beta"].value == "2.5"


def test_attaching_fills_the_form(spec: TaskSpec, tmp_path: Path) -> None:
    settings = settings_for(["lr=3e-4", "steps=7", "objective.beta=2.5", "weights.budget=0.4"], ["simnpo"], ["atwu"])
    more = {"probe_every": 3, "stop_at": "forget.fact_accuracy<=0.2", "precision": "float32", "track": ("tensorboard",)}
    config = Config(task=spec, model="bio-retain", objective="simnpo", settings=settings, **more)
    RunDirectory.create(tmp_path / "runs" / "a", config)
    plain = Config(
        task=TaskSpec("biographies"), model="bio-full", objective="npo", weights="gap", reference="bio-retain"
    )
    RunDirectory.create(tmp_path / "runs" / "b", plain)
    panel = RunPanel(tmp_path / "runs")
    panel.form.fields["lr"].value = "9"
    for name, made in (("a", config), ("b", plain), ("a", config)):
        panel.runs.value = next(path for _, path in panel.runs.options if path.name == name)
        panel.buttons["Attach"].click()
        assert panel.error.value == ""
        assert panel.config() == made
        assert ("precision <b>float32</b>" in panel.form.about.value) == (name == "a")
    assert panel.form.fields["lr"].value == "0.0003"
    panel.close()


def test_a_run_that_the_form_cannot_hold_is_shown_and_said(spec: TaskSpec, tmp_path: Path) -> None:
    table = tmp_path / "scores.parquet"
    table.write_bytes(b"")
    RunDirectory.create(
        tmp_path / "runs" / "a", Config(task=spec, model="bio-full", weights=str(table), objective="wga")
    )
    panel = RunPanel(tmp_path / "runs")
    panel.attach(tmp_path / "runs" / "a")
    assert "its weights come from" in panel.error.value
    assert panel.job is not None
    assert panel.form.objective.value == "wga"
    panel.close()


def test_a_preset_fills_the_fields() -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    form.preset.value = "published"
    assert form.options["weights.optimizer"].value == "sgd"
    form.options["weights.lr"].value = "0.02"
    wanted = settings_for(["preset=published", "weights.lr=0.02"], ["npo"], ["atwu"])
    assert form.config().settings == wanted
    form.weights.value = "uniform"
    assert form.folds[0].layout.display == "none"
    assert form.config().settings == settings_for([], ["npo"], ["uniform"])


def test_choices_that_do_not_go_together_say_why() -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    form.weights.value = "gap"
    assert "needs a reference model" in form.about.value
    assert form.reference.layout.display is None
    with pytest.raises(UserError, match="name one as reference"):
        form.config()
    form.reference.value = "bio-retain"
    assert "wb-clash" not in form.about.value
    assert form.config().reference == "bio-retain"


def test_a_new_objective_needs_no_change_here() -> None:
    @objective("quiet", over="tokens", source="this test", certainty="ours")
    def quiet(tokens: Any, *, softness: float = 0.5) -> Any:
        """Nothing but a name.

        Args:
            tokens: of the forget answers.
            softness: how little it does.
        """

    try:
        form = Form(TaskSpec("biographies"), "bio-full")
        form.objective.value = "quiet"
        assert form.options["objective.softness"].value == "0.5"
        assert form.options["objective.softness"].tooltip == "of objective quiet: how little it does."
        assert "Nothing but a name." in form.about.value
        assert "how little it does." in form.meaning.value
    finally:
        del objective.entries["quiet"]


def test_every_setting_has_help_and_every_control_a_label() -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    assert set(form.fields) == {*Settings.model_fields, *PROBES} - {"options"}
    controls = [form.task, form.model, form.objective, form.weights, form.reference, form.preset, *form.folds]
    assert all(each.description for each in (*controls, *form.fields.values(), *form.options.values()))
    assert all(each.tooltip for each in (*form.fields.values(), *form.options.values()))
    for fold in form.folds:
        fold.value = True
    assert form.meaning.layout.display is None


def test_runs_are_listed_and_one_that_vanished_is_named(bio: Any, tmp_path: Path) -> None:
    own = own_files(bio, tmp_path, 4)
    for name in ("a", "b"):
        RunDirectory.create(tmp_path / "runs" / name, config_of(own))
    (tmp_path / "runs" / "a" / "log.txt").write_text("Traceback:\n  <script>\x1b[31m\n")
    panel = RunPanel(tmp_path / "runs")
    assert panel.job is None
    assert not any(buttons.ready for buttons in panel.figures.values())
    with pytest.raises(UserError, match="no run is shown"):
        panel.figure()
    assert [label for label, _ in panel.runs.options] == [f"unfinished, step 0 of 12 · {name}" for name in "ba"]
    panel.runs.value = panel.runs.options[1][1]
    panel.buttons["Attach"].click()
    assert panel.job is not None
    assert panel.job.path.name == "a"
    assert "no process is working on it" in panel.failure.value
    with pytest.raises(UserError, match="the run has no steps yet"):
        panel.figure()
    with pytest.raises(UserError, match="there is no metrics to save"):
        panel.figure("metrics")
    assert "Traceback:\n  &lt;script&gt;^[[31m</pre>" in panel.failure.value
    shutil.rmtree(panel.job.path)
    panel._show(panel.job)
    assert "is gone; attach to another run, or start one" in panel.status
    panel.close()


def test_long_curves_are_thinned_to_what_can_be_seen() -> None:
    points = [(step, 1 / step) for step in range(1, 10_001)]
    few = thinned(points)
    assert POINTS <= len(few) <= POINTS + 1
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == points[:5]
    assert thinned([]) == []
    assert len(line_chart_svg({"forget": few}, css=False)) < 12_000


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (61, "1 min 1 s"), (3900, "1 h 5 min")])
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words
