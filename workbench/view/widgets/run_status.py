"""What the panel shows of a run, as HTML: its state, its curves, and its results when it has finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from workbench.errors import UserError
from workbench.runs import STOP, Config, Job, RunDirectory, attacks_of, most_in_words, notes_of, read_answers
from workbench.view.html import (
    attacks_view,
    cost_table,
    definitions,
    label,
    large,
    line_chart_svg,
    metrics_view,
    number,
    render,
    weights_source,
)

POINTS = 400  # of a line, at most
NATS = "nats per token"
LINES = {"forget": "forget_nll", "retain": "retain_nll"}
Points = Sequence[tuple[float, float]]


def duration(seconds: float) -> str:
    """Seconds for people: 12 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def state_of(run: RunDirectory, status: Mapping[str, Any]) -> str:
    """The state of a run in a few words, and why."""
    state, steps = status["status"], f"step {status['step']} of {status['steps']}"
    if state == "queued":
        return f"queued, {steps}: waiting for its turn"
    if state == "running" and (run.path / STOP).exists():
        return f"running, {steps}: stopping after this step"
    if state == "running" and status["step"] in (0, status["steps"]):
        doing = "loading, scoring and probing before the first step" if status["step"] == 0 else "probing at the end"
        return f"running, {steps}: {doing}"
    reason = f": {status['reason']}" if status["reason"] and state in ("unfinished", "finished") else ""
    return f"{state}, {steps}{reason}"


def back_of(run: RunDirectory) -> str:
    """After which attack most of what the run forgot comes back, and how much; empty where it was not attacked."""
    try:
        words = most_in_words(attacks_of(run.path))
    except UserError:  # damaged, as the run's own view says
        return ""
    return f"most comes back: {words}" if words else ""


def failed(status: Mapping[str, Any]) -> bool:
    """Whether a run ended before its last step, and nobody stopped it."""
    return status["status"] == "unfinished" and not str(status["reason"]).startswith("stopped")


def failure_html(job: Job, status: Mapping[str, Any]) -> Markup:
    """Why a run failed, and the end of its log; empty where it did not fail."""
    if not failed(status):
        return Markup()
    reason = str(status["reason"] or "no process is working on it")
    log = [line for line in job.log(8).splitlines() if not line.endswith(reason)]
    return error_html(f"The run ended before its last step: {reason}", log)


def error_html(text: str, log: Sequence[str] = ()) -> Markup:
    """An error in a line, and below it the last lines of a log."""
    return render("run.error", text=text, log=log)


def state_html(run: RunDirectory, status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Markup:
    """A run's name, state, rate, time left, last losses and cost so far."""
    state = state_of(run, {**status, "reason": None} if failed(status) else status)  # a failure is shown below
    word, _, rest = state.partition(",")
    parts: list[str] = [render("run.standing", word=word, rest=rest)]
    if status["steps_per_second"]:
        parts.append(f"{number(status['steps_per_second'])} steps per second")
        parts.append(f"{duration(status['seconds_left'])} left")
    if status["flops"]:
        parts.append(f"so far {large(status['flops'], 'FLOP')} in {duration(status['seconds'])}")
    if events:
        losses = [f"{name} {number(events[-1][key])}" for name, key in LINES.items() if events[-1].get(key) is not None]
        parts.append(f"NLL: {', '.join(losses)}")
    parts += notes_of(events)
    percent = 100 * (status["status"] == "finished" or status["step"] / max(1, status["steps"]))
    config = {key: run.config[key] for key in ("objective", "model")}
    config["task"] = run.config["task"].get("name") or "own files"
    config["weights"] = weights_source(run.config["weights"])
    return render("run.state", config=config, name=run.name, parts=parts, percent=percent)


def thinned(points: Points) -> Points:
    """About `POINTS` of the points at most, the last one included."""
    every = -(-len(points) // POINTS)
    return [*points[: -1 : every or 1], *points[-1:]]


def chart_html(run: RunDirectory, events: Sequence[Mapping[str, Any]]) -> Markup:
    """Forget and retain NLL over the steps, and the probes before, during and after the run."""
    if not events:
        return Markup()
    (loss, curves), *probed = curves_of(run, events).items()
    charts = [line_chart_svg(curves, title=loss, y_label=NATS, height=190, css=False)]
    charts += [line_chart_svg(lines, title=title, height=160, css=False) for title, lines in probed]
    return render("run.charts", charts=charts)


def curves_of(run: RunDirectory, events: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Points]]:
    """Title -> line -> points by step: the losses of the batches, and the probes where there are several."""
    losses = {n: thinned([(e["step"], e[k]) for e in events if e.get(k) is not None]) for n, k in LINES.items()}
    curves: dict[str, dict[str, Points]] = {"Mean NLL of the batch": losses}
    probed = run.curve()
    if len(probed) and probed["step"].nunique() > 1:
        shown = "fact_accuracy" if "fact_accuracy" in probed else "probability"
        sets = {name: probed[(probed["probe_set"] == name) & probed[shown].notna()] for name in probed["probe_set"]}
        points = {name: zip(part["step"], part[shown], strict=True) for name, part in sets.items() if len(part)}
        lines: dict[str, Points] = {str(name): list(each) for name, each in points.items()}
        curves[f"{label(shown).capitalize()} of the probes"] = lines
    return curves


def results_html(run: RunDirectory) -> Markup:
    """Metrics before and after and the cost by phase, when the run has finished; and what attacks brought back."""
    metrics, cost = run.json("metrics.json"), run.json("cost.json")
    out = Markup()
    if run.json("run.json") and metrics:
        out += metrics_view(metrics, definitions(), title="Metrics, before → after", css=False)
    if run.json("run.json") and cost and cost.get("phases"):
        out += cost_table(cost, title="Cost", css=False)
    if attacks := attacks_of(run.path):
        out += attacks_view(attacks, read_answers(run.path / "attacks"), title="What comes back", css=False)
    return out


def config_html(config: Config) -> Markup:
    """A configuration, every value of it."""
    record = config.as_dict()
    values = {name: record[name] for name in ("model", "objective", "weights", "reference")}
    values["weights"] = f"{weights_source(config.weights).split()[0]} {config.weights}"
    values |= {f"task {name}".removesuffix(" name"): value for name, value in record["task"].items()}
    values |= {name: record[name] for name in ("probe_every", "probe_limit", "stop_at")}
    values |= {name: value for name, value in record["settings"].items() if name != "options"}
    for part, options in config.settings.options.items():
        values |= {f"{part} {name}": value for name, value in options.items()}
    return render("run.configuration", values={k: value for k, value in values.items() if value not in (None, "", [])})
