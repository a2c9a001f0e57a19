"""The run panel without a browser: real runs in processes of their own, started and stopped by its buttons."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from runs_of import own_files, wait_until

from workbench import jobs
from workbench.objectives import objective
from workbench.options import settings_for
from workbench.scorers import scorer
from workbench.settings import Settings
from workbench.tasks import TaskSpec
from workbench.view.widgets import RunPanel
from workbench.view.widgets.panel_form import Form, helps


@pytest.fixture
def spec(bio: Any, tmp_path: Path) -> TaskSpec:
    return TaskSpec(**own_files(bio, tmp_path, 12))


def small(root: Path, spec: TaskSpec, steps: str = "40") -> RunPanel:
    panel = RunPanel(root, spec)
    panel.form.objective.value, panel.form.weights.value = "wga", "surprisal"
    for name, text in {"steps": steps, "batch_size": "8", "probe_limit": "4", "probe_every": "5"}.items():
        panel.form.fields[name].value = text
    return panel


def test_start_watch_stop_attach_resume(spec: TaskSpec, tmp_path: Path) -> None:
    panel = small(tmp_path / "runs", spec)
    assert repr(panel) == f"RunPanel(no run yet; runs in {tmp_path / 'runs'})"
    assert panel.buttons["Attach"].disabled
    panel.buttons["Start"].click()
    assert panel.error.value == ""
    wait_until(lambda: len(panel.events) >= 6)
    assert "forget" in panel.chart.value
    assert "probed before and during the run" in panel.chart.value
    other = RunPanel(tmp_path / "runs", spec)  # as after a restart of the kernel: it finds the run by itself
    assert other.job is not None
    assert panel.job is not None
    assert other.job.path == panel.job.path
    panel.buttons["Stop"].click()
    wait_until(lambda: not panel.job.alive)
    wait_until(lambda: "stopped at step" in panel.state.value and "stopped at step" in other.state.value)
    step = len(panel.events)
    assert not panel.buttons["Resume"].disabled
    assert panel.error.value == ""  # to be stopped is no failure
    other.buttons["Resume"].click()
    wait_until(lambda: "<b>finished</b>" in other.state.value)
    assert [e["step"] for e in other.events] == list(range(1, 41))
    assert step < 40
    assert "Cost" in other.results.value
    twin = other.to_html()
    assert "<script" not in twin
    assert all(part in twin for part in (other.job.path.name, "fact accuracy", "Mean NLL"))
    wait_until(lambda: "finished, step 40 of 40" in other.runs.label)


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("lr", "fast", "lr: &#x27;fast&#x27; is not a number"),
        ("steps", "0", "steps must be at least 1"),
        ("probe_limit", "few", "probe limit: &#x27;few&#x27; is not a whole number"),
        ("retain_loss", "<b>", "unknown retain loss"),
    ],
)
def test_a_mistake_is_a_line_in_the_panel(spec: TaskSpec, tmp_path: Path, field: str, text: str, said: str) -> None:
    panel = small(tmp_path / "runs", spec)
    panel.form.fields[field].value = text
    panel.buttons["Start"].click()
    assert said in panel.error.value
    assert panel.form.fields[field].value == text  # what was typed stays
    assert not (tmp_path / "runs").exists()
    panel.buttons["Stop"].click()
    assert "no run is shown" in panel.error.value


def test_a_run_that_fails_says_why(spec: TaskSpec, tmp_path: Path) -> None:
    panel = small(tmp_path / "runs", spec)
    panel.form.fields["train"].value = "layers:90"
    panel.buttons["Start"].click()
    wait_until(lambda: panel.error.value != "")
    assert "layers:90" in panel.error.value


def test_the_form_is_what_the_command_line_reads() -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    form.objective.value, form.weights.value = "simnpo", "atwu"
    assert form.config().settings == settings_for([], ["simnpo"], ["atwu"])  # the authors' gamma too
    assert form.fields["gamma"].value == "0.125"
    form.fields["lr"].value, form.options["objective.beta"].value = "1e-3", "2.5"
    form.options["weights.budget"].value = "0.4"
    pairs = ["lr=1e-3", "objective.beta=2.5", "weights.budget=0.4"]
    assert form.config().settings == settings_for(pairs, ["simnpo"], ["atwu"])
    form.objective.value = "npo"  # what was typed stays, what was not follows the new objective
    assert form.fields["lr"].value == "1e-3"
    assert form.fields["gamma"].value == str(Settings().gamma)
    assert set(form.options) == {"objective.beta", *(f"weights.{name}" for name in scorer["atwu"].options)}
    assert form.config().task == TaskSpec("biographies")


def test_a_new_objective_needs_no_change_here() -> None:
    @objective("quiet", over="tokens", source="this test")
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
        assert form.options["objective.softness"].tooltip == "how little it does."
        assert "Nothing but a name." in form.about.value
    finally:
        del objective.entries["quiet"]


def test_every_setting_has_help() -> None:
    said = helps(Settings.__doc__)
    assert set(Settings.__dataclass_fields__) <= set(said)
    assert said["micro_batch"].startswith("samples computed at once in a process")


def test_one_thread_a_panel_and_none_after_the_end(spec: TaskSpec, tmp_path: Path) -> None:
    import threading

    begun = threading.active_count()
    panel = small(tmp_path / "runs", spec, steps="2")
    panel.buttons["Start"].click()
    job = panel.job
    assert isinstance(job, jobs.Job)
    for _ in range(3):
        panel.attach(job.path)
    wait_until(lambda: "<b>finished</b>" in panel.state.value)
    deadline = time.monotonic() + 5
    while threading.active_count() > begun and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= begun
