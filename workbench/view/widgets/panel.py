"""A panel to start, watch, stop and resume runs; each run is a process of its own, and the panel reads its files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench import jobs
from workbench.registry import UserError
from workbench.runs import Config, RunDirectory, list_runs, new_path
from workbench.tasks import TaskSpec
from workbench.view.definitions import definitions
from workbench.view.svg import line_chart_svg
from workbench.view.tables import cost_table, large, metrics_view
from workbench.view.text import number, plain, style_sheet
from workbench.view.widgets.keys import Keys
from workbench.view.widgets.panel_form import Form

EVERY = 0.25  # seconds between two looks at a run's files


class RunPanel(widgets.VBox):
    """Pick what to forget and how; start, watch, stop and resume the run, or attach to one that goes on.

    A run outlives this panel and its kernel. A panel that finds exactly one run going on under `root` attaches to it.

    Args:
        root: where runs are kept.
        task: the task at first, by name or as a `TaskSpec`.
        model: the model at first.

    Attributes:
        form: what the next run is to be; see `Form`.
        job: the run that is shown, a `jobs.Job`; None before there is one.
        events: its steps as far as they are shown.
    """

    def __init__(
        self, root: Path | str = "runs", task: str | TaskSpec = "biographies", model: str = "bio-full"
    ) -> None:
        self.root = Path(root)
        self.form = Form(task if isinstance(task, TaskSpec) else TaskSpec(task), model)
        self.job: jobs.Job | None = None
        self.events: list[dict[str, Any]] = []
        self._watch: threading.Event | None = None
        self._stood = ""  # the status when the list of runs was read
        self.runs = widgets.Dropdown(description="run", style={"description_width": "30px"}).add_class("wb-runs")
        self.buttons = {
            name: widgets.Button(description=name, tooltip=said)
            for name, said in (
                ("Start", "start a run as the form says, in a process of its own"),
                ("Stop", "let the run end its step, write a checkpoint and go"),
                ("Resume", "go on with the run from its newest checkpoint"),
                ("Attach", "show the run chosen on the left"),
            )
        }
        for name, call in (
            ("Start", self.start),
            ("Stop", self.stop),
            ("Resume", self.resume),
            ("Attach", self.attach),
        ):
            self.buttons[name].on_click(lambda _, call=call: self._guarded(call))
        self.error = widgets.HTML()
        self.state = widgets.HTML()
        self.chart = widgets.HTML()
        self.results = widgets.HTML()
        b = self.buttons
        first = widgets.HBox([b["Start"], b["Stop"], b["Resume"]]).add_class("wb-buttons")
        second = widgets.HBox([self.runs, b["Attach"]]).add_class("wb-buttons")
        super().__init__([Keys(), self.form, first, second, self.error, self.state, self.chart, self.results])
        self.add_class("wb-run-panel").add_class("wb-keys")
        self.refresh()
        going = [run.path for run in list_runs(self.root) if jobs.Job(run.path).alive]
        if len(going) == 1:
            self._guarded(lambda: self.attach(going[0]))

    # What the buttons do ------------------------------------------------------------------------------------------

    def config(self) -> Config:
        """The configuration as the form stands; raises UserError where a field cannot be read."""
        return self.form.config()

    def start(self) -> None:
        """Start a run in a process of its own, and watch it."""
        config = self.config()
        self.attach(jobs.start(config, new_path(config, self.root)).path)

    def stop(self) -> None:
        """Ask the run to stop after its step; its state says when it has."""
        job = self._job()
        if not job.alive:
            raise UserError(f"{job.path.name} is not running: {job.status()['status']}")
        threading.Thread(target=self._guarded, args=(job.stop,), daemon=True).start()

    def resume(self) -> None:
        """Go on with the run in a new process."""
        self.attach(self._job().resume().path)

    def attach(self, path: Path | None = None) -> None:
        """Show a run (by default the one chosen in the list), and follow it while it goes on."""
        path = path or self.runs.value
        if path is None:
            raise UserError(f"there is no run under {self.root} yet; start one")
        if self._watch:
            self._watch.set()
        self.job, self._watch = jobs.Job(path), threading.Event()
        self._stood = ""
        self._show()
        threading.Thread(target=self._follow, args=(self.job, self._watch), daemon=True).start()

    def refresh(self) -> None:
        """Read the list of runs again, newest first."""
        found = []
        for run in reversed(list_runs(self.root)):
            status = jobs.Job(run.path).status()
            found.append((f"{run.name}: {status['status']}, step {status['step']} of {status['steps']}", run.path))
        self.runs.options = found
        chosen = self.job.path if self.job else None
        self.runs.value = next((path for _, path in found if path.absolute() == chosen), found[0][1] if found else None)
        self.buttons["Attach"].disabled = not found

    def _job(self) -> jobs.Job:
        if self.job is None:
            raise UserError("no run is shown; start one, or attach to one")
        return self.job

    def _guarded(self, call: Callable[[], Any], keep: bool = False) -> None:
        """Call, and show what goes wrong in the panel; an earlier error goes, unless it is to be kept."""
        try:
            self.error.value = self.error.value if keep else ""
            call()
        except UserError as error:
            self.error.value = f'<div class="wb-error" role="alert">{plain(str(error))}</div>'
        except Exception as error:  # a callback's error would be lost
            said = f"{type(error).__name__}: {error}"
            self.error.value = f'<div class="wb-error" role="alert">{plain(said)}</div>'

    # What the run shows -------------------------------------------------------------------------------------------

    def _follow(self, job: jobs.Job, ended: threading.Event) -> None:
        """Show the run until its process has ended, or another run is shown."""
        going = True
        while going and not ended.is_set():
            began = time.monotonic()
            going = job.alive  # asked first: what it wrote before it ended is shown after that
            if job is self.job:
                self._guarded(self._show, keep=True)
            ended.wait(max(EVERY, 3 * (time.monotonic() - began)))

    def _show(self) -> None:
        job = self._job()
        status, self.events = job.status(), job.directory.events()
        self.state.value = state_html(job.directory, status)
        if status["status"] != self._stood:
            self._stood = status["status"]
            self.refresh()
        going = status["status"] in ("running", "queued")
        self.buttons["Stop"].disabled = not going
        self.buttons["Resume"].disabled = going or status["status"] == "finished"
        if self.events:
            self.chart.value = chart_html(job.directory, self.events)
        self.results.value = results_html(job.directory)
        failed = status["status"] == "unfinished" and "stopped" not in (status["reason"] or "")
        if failed and not going:
            log = f"<pre>{plain(job.log(8))}</pre>" if job.log(8) else ""
            said = f"{job.path.name} ended before its last step: {status['reason'] or 'nobody works on it'}"
            self.error.value = f'<div class="wb-error" role="alert">{plain(said)}{log}</div>'

    def to_html(self) -> str:
        """The static twin: the run that is shown, as it stands; without one, the form's values."""
        sheets = f'{style_sheet()}{style_sheet("panel")}<div class="wb-run-panel">'
        if self.job is None:
            shown = {"task": self.form.task.value, "model": self.form.model.value}
            shown |= {"objective": self.form.objective.value, "weights": self.form.weights.value}
            rows = "".join(f"<li>{name}: {plain(str(value))}</li>" for name, value in shown.items())
            return f"{sheets}<p>no run yet</p><ul>{rows}</ul></div>"
        return f"{sheets}{self.state.value}{self.chart.value}{self.results.value}{self.error.value}</div>"

    def __repr__(self) -> str:
        return f"RunPanel({self.job!r})" if self.job else f"RunPanel(no run yet; runs in {self.root})"


def state_html(run: RunDirectory, status: Mapping[str, Any]) -> str:
    """A run's name, how it stands, its rate, the time left and what it has cost so far."""
    config = run.config
    parts = [f"<b>{plain(status['status'])}</b>", f"step <b>{status['step']}</b> of {status['steps']}"]
    if status["steps_per_second"]:
        parts.append(f"{number(status['steps_per_second'])} steps a second, {number(status['seconds_left'], 0)} s left")
    if status["flops"]:
        parts.append(f"so far {large(status['flops'], 'FLOP')}, {number(status['seconds'], 1)} s")
    if status["reason"] and status["status"] != "finished":
        parts.append(plain(str(status["reason"])))
    what = f"{plain(run.name)}: {plain(config['objective'])} with weights {plain(Path(config['weights']).name)}"
    width = 100 * status["step"] / max(1, status["steps"])
    track = f'<div class="wb-bar-track"><i style="width:{width:.1f}%"></i></div>'
    return f'<div class="wb-state" role="status">{what}<br>{" · ".join(parts)}{track}</div>'


def chart_html(run: RunDirectory, events: Sequence[Mapping[str, Any]]) -> str:
    """Forget and retain NLL over the steps, and what was probed before, on the way, and after."""
    curves = {
        name: [(e["step"], e[key]) for e in events if e.get(key) is not None]
        for name, key in (("forget", "forget_nll"), ("retain", "retain_nll"))
    }
    out = line_chart_svg(curves, title="Mean NLL of the batch", y_label="nats a token", height=210, css=False)
    probed = run.curve()
    if len(probed) and probed["step"].nunique() > 1:
        shown = "fact_accuracy" if "fact_accuracy" in probed else "probability"
        sets = {n: probed[probed["probe_set"] == n] for n in ("forget", "retain", "neighbours")}
        lines = {n: list(zip(part["step"], part[shown], strict=True)) for n, part in sets.items() if len(part)}
        title = f"{shown.replace('_', ' ').capitalize()}, probed before and during the run"
        out += line_chart_svg(lines, title=title, height=190, css=False)
    return out


def results_html(run: RunDirectory) -> str:
    """Metrics before (and after), and the cost by phase once the run has ended."""
    metrics, cost = run.json("metrics.json"), run.json("cost.json")
    out = metrics_view(metrics, definitions(), title="Metrics", css=False) if metrics else ""
    return out + (cost_table(cost, title="Cost", css=False) if cost and cost.get("phases") else "")
