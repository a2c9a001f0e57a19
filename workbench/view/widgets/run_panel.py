"""A panel to start, watch, stop and resume runs; each run is a process of its own, and the panel reads its files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import UserError, printable
from workbench.runs import STOP, Config, jobs, list_runs, new_path
from workbench.tasks import TaskSpec
from workbench.view.charts import progress_chart
from workbench.view.figures import DRAWN, Savable, metrics_figure
from workbench.view.html import definitions, render
from workbench.view.run_source import RunSource, run_directory
from workbench.view.widgets.run_form import Form
from workbench.view.widgets.run_status import (
    back_of,
    chart_html,
    config_html,
    curves_of,
    error_html,
    failure_html,
    results_html,
    state_html,
    state_of,
)
from workbench.view.widgets.saving import FigureButtons, SavesFigure
from workbench.view.widgets.shortcut_guard import ShortcutGuard
from workbench.view.widgets.static_twin import Twin

EVERY = 0.2  # seconds between two reads of a run's files
DOUBLE = 0.8  # seconds in which a second click on Start belongs to the first
ACTIVE = ("running", "queued")
BUTTONS = {
    "Start": "start a run with these settings, in its own process",
    "Stop": "let the run finish its step, write a checkpoint and end",
    "Resume": "continue the run from its newest checkpoint",
    "Attach": "show the run chosen on the left, and follow it",
    "Refresh": "read the list of runs again",
}


class RunPanel(SavesFigure, Twin, widgets.VBox):
    """Choose what to forget and how; start, watch, stop and resume the run, or attach to a running one.

    A run outlives this panel and its kernel. A panel attaches by itself where exactly one run is active under `root`.

    Args:
        root: where runs are kept.
        task: the task at first, by name or as a `TaskSpec`.
        model: the model at first.

    Attributes:
        form: the configuration of the next run; see `Form`.
        job: the run that is shown, a `jobs.Job`; None before there is one.
        status: its state, in words.
        events: its steps, as far as they are shown.
    """

    def __init__(
        self, root: Path | str = "runs", task: str | TaskSpec = "biographies", model: str = "bio-full"
    ) -> None:
        self.root = Path(root)
        self.form = Form(task if isinstance(task, TaskSpec) else TaskSpec(task), model)
        self.job: jobs.Job | None = None
        self.status = "no run yet"
        self.events: list[dict[str, Any]] = []
        self._ended = threading.Event()  # of the thread that watches; each has its own
        self._lock = threading.RLock()  # the thread and a click may both want to show something
        self._last_status, self._started = "", 0.0
        self.runs = widgets.Dropdown(description="run").add_class("wb-runs")
        self.buttons = {name: widgets.Button(description=name, tooltip=text) for name, text in BUTTONS.items()}
        calls = (self._start_clicked, self._stop_clicked, self.resume, self.attach, self.refresh)
        for button, call in zip(self.buttons.values(), calls, strict=True):
            button.on_click(lambda _, call=call: self._guarded(call))
        self.error, self.failure, self.state, self.chart, self.results = (widgets.HTML() for _ in range(5))
        start, stop, resume, attach, again = self.buttons.values()
        row = widgets.HBox([start, stop, resume, self.runs, attach, again]).add_class("wb-buttons")
        drawn = [suffix.lstrip(".") for suffix in DRAWN]
        self.figures = {
            "curves": FigureButtons(name="curves", part="curves", formats=drawn),
            "metrics": FigureButtons(name="metrics", part="metrics", what="save the metrics as a figure"),
        }
        curves, metrics = self.figures.values()
        shown = [self.error, self.state, self.failure, self.chart, curves, self.results, metrics]
        super().__init__([ShortcutGuard(), self.form, row, *shown])
        self._named("wb", "wb-run-panel", "wb-guarded")
        self._answer_saves(curves, metrics)
        start.add_class("wb-first")
        stop.disabled = resume.disabled = True
        going = self.refresh()
        if len(going) == 1:
            self._guarded(lambda: self.attach(going[0]))

    # What the buttons do ------------------------------------------------------------------------------------------

    def config(self) -> Config:
        """The configuration in the form; raises UserError where a field cannot be read."""
        return self.form.config()

    def start(self) -> None:
        """Start a run in a process of its own, and watch it."""
        config = self.config()
        self._watch(jobs.start(config, new_path(config, self.root)))

    def stop(self) -> None:
        """Ask the run to stop after its step; its state shows when it has."""
        job = self._shown()
        if not job.alive:
            raise UserError(f"{job.path.name} is not running: {job.status()['status']}")
        threading.Thread(target=self._guarded, args=(job.stop,), daemon=True).start()

    def resume(self) -> None:
        """Continue the run in a new process."""
        self._watch(self._shown().resume())

    def attach(self, run: RunSource | None = None) -> None:
        """Show a run (by default the one chosen in the list) and its configuration; follow it while it is active."""
        run = run or self.runs.value
        if run is None:
            raise UserError(f"there is no run under {self.root} yet; start one")
        job = jobs.Job(run_directory(run).path)
        self._watch(job)
        self._guarded(lambda: self.form.show(job.directory.read_config()))

    def _watch(self, job: jobs.Job) -> None:
        with self._lock:
            self._ended.set()
            self.job, self._ended, self._last_status = job, threading.Event(), ""
            self._show(job)
            self.refresh(job.path)
        threading.Thread(target=self._follow, args=(job, self._ended), name="RunPanel", daemon=True).start()

    def refresh(self, chosen: Path | None = None) -> list[Path]:
        """Read the list of runs again: active ones, then the others, newest first. Returns the active ones."""
        runs = []
        for run in reversed(list_runs(self.root)):
            status = jobs.Job(run.path).status()
            steps = "" if status["status"] in ACTIVE else f", step {status['step']} of {status['steps']}"
            label = " · ".join(filter(None, (f"{status['status']}{steps}", run.name, back_of(run))))
            runs.append((status["status"] not in ACTIVE, label, run.path.absolute()))
        runs.sort(key=lambda each: each[0])
        with self._lock:
            chosen = chosen or self.runs.value
            paths = [path for *_, path in runs]
            self.runs.options = [(label, path) for _, label, path in runs] or [("none yet", None)]
            self.runs.index = paths.index(chosen) if chosen in paths else 0
            self.buttons["Attach"].disabled = self.runs.disabled = not runs
        return [path for ended, _, path in runs if not ended]

    def close(self) -> None:
        """Stop watching; the run continues."""
        self._ended.set()
        super().close()

    def _start_clicked(self) -> None:
        if time.monotonic() - self._started > DOUBLE:
            self.start()
            self._started = time.monotonic()

    def _stop_clicked(self) -> None:
        self.buttons["Stop"].disabled = self.job is not None
        self.stop()

    def _shown(self) -> jobs.Job:
        if self.job is None:
            raise UserError("no run is shown; start one, or attach to one")
        return self.job

    def _guarded(self, call: Callable[[], Any]) -> None:
        """Call, and show errors in the panel: raised in a callback or a thread they would not be seen."""
        self.error.value = ""
        try:
            call()
        except UserError as error:
            self.error.value = error_html(str(error))
        except Exception as error:
            self.error.value = error_html(f"{type(error).__name__}: {error}")

    # Watching ---------------------------------------------------------------------------------------------------

    def _follow(self, job: jobs.Job, ended: threading.Event) -> None:
        """Show the run until its process has ended, another run is shown, or the panel is closed."""
        going = True
        while going and not ended.is_set():
            began = time.monotonic()
            going = job.alive  # read first: what the process wrote before it ended is then shown below
            with self._lock:
                if not ended.is_set():
                    self._show(job)
            ended.wait(max(EVERY, 3 * (time.monotonic() - began)))

    def _show(self, job: jobs.Job) -> None:
        """Show the run as its files describe it; an error is shown where a failure would be."""
        try:
            self._read(job)
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.status = reason if job.path.exists() else f"{job.path} is gone; attach to another run, or start one"
            self.failure.value = error_html(self.status)

    def _read(self, job: jobs.Job) -> None:
        run, status = job.directory, job.status()
        self.events, self.status = run.events(), state_of(run, status)
        self.state.value = state_html(run, status, self.events)
        self.chart.value = chart_html(run, self.events)
        going = status["status"] in ACTIVE
        self.failure.value = "" if going else failure_html(job, status)
        self.results.value = "" if going else results_html(run)
        self.figures["curves"].ready = bool(self.events)
        self.figures["metrics"].ready = bool(self.results.value and run.json("metrics.json"))
        self.buttons["Stop"].disabled = not going or (job.path / STOP).exists()
        self.buttons["Resume"].disabled = going or status["status"] == "finished"
        before, self._last_status = self._last_status, status["status"]
        if before not in ("", status["status"]):
            self.refresh()
        if before != status["status"]:
            self.redraw_twin()

    def figure(self, part: str = "curves", **shown: Any) -> Savable:
        """The curves of the run that is shown, as a chart, or (`part` "metrics") its metrics before and after, as text.

        Raises:
            UserError: another part, no run, or one that has none of it yet.
        """
        run = self._shown().directory
        if part == "curves":
            return progress_chart(curves_of(run, run.events()), run.name)
        metrics = run.json("metrics.json")
        if part != "metrics" or not metrics:
            raise UserError(f"there is no {printable(part)} to save; there may be curves and, at its end, metrics")
        return metrics_figure(metrics, definitions(), title=run.name)

    def to_html(self) -> str:
        """The static twin: the run that is shown and its configuration; without a run, the form's configuration."""
        parts = [Markup(part.value) for part in (self.state, self.error, self.failure, self.chart, self.results)]
        if not self.job:
            parts.insert(0, Markup('<div class="wb-state">no run yet</div>'))
        try:
            parts.append(config_html(self.job.directory.read_config() if self.job else self.config()))
        except UserError as error:
            parts.append(error_html(str(error)))
        return render("run.twin", parts=parts)

    def __repr__(self) -> str:
        return printable(
            f"RunPanel({self.job.path.name}: {self.status})" if self.job else f"RunPanel(no run yet in {self.root})"
        )
