"""What a run shows while it goes on and when it has ended, as HTML: how it stands, its curves, its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.runs import STOP, Config, Job, RunDirectory
from workbench.view.html import cost_table, definitions, frame, large, line_chart_svg, metrics_view, number, plain

POINTS = 400  # of a line, at most
LINES = {"forget": "forget_nll", "retain": "retain_nll"}
Points = Sequence[tuple[float, float]]


def duration(seconds: float) -> str:
    """Seconds for people: 12 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def standing(run: RunDirectory, status: Mapping[str, Any]) -> str:
    """How a run stands, in a few words, and why."""
    state, steps = status["status"], f"step {status['step']} of {status['steps']}"
    if state == "queued":
        return f"queued, {steps}: it waits for its turn"
    if state == "running" and (run.path / STOP).exists():
        return f"running, {steps}: it stops after this step"
    if state == "running" and status["step"] in (0, status["steps"]):
        doing = "it loads, scores and probes before the first step" if status["step"] == 0 else "it probes at the end"
        return f"running, {steps}: {doing}"
    reason = f": {status['reason']}" if status["reason"] and state in ("unfinished", "finished") else ""
    return f"{state}, {steps}{reason}"


def failed(status: Mapping[str, Any]) -> bool:
    """Whether a run ended before its last step without being asked to."""
    return status["status"] == "unfinished" and not str(status["reason"]).startswith("stopped")


def failure_html(job: Job, status: Mapping[str, Any]) -> str:
    """Why a run failed, and its last words; empty where it did not."""
    if not failed(status):
        return ""
    reason = str(status["reason"] or "nobody works on it")
    last = [line for line in job.log(8).splitlines() if not line.endswith(reason)]
    return error_html(f"The run ended before its last step: {reason}", "\n".join(last))


def error_html(said: str, log: str = "") -> str:
    """An error in a line, and below it the end of a log."""
    below = f'<pre tabindex="0">{plain_lines(log)}</pre>' if log else ""
    edge = "border-left:3px solid rgba(230,126,0,.9);padding-left:10px"
    return f'<div class="wb-error" role="alert" style="{edge}">{plain(said)}{below}</div>'


def plain_lines(text: str) -> str:
    """`plain`, line by line."""
    return "\n".join(plain(line) for line in text.splitlines())


def state_html(run: RunDirectory, status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """A run's name, how it stands, its rate, the time left, its last losses and what it has cost so far."""
    said = standing(run, status if not failed(status) else {**status, "reason": None})  # the reason has its own place
    word, _, rest = said.partition(",")
    parts = [f"<b>{plain(word)}</b>,{plain(rest)}"]
    if status["steps_per_second"]:
        parts.append(f"{number(status['steps_per_second'])} steps a second")
        parts.append(f"{duration(status['seconds_left'])} left")
    if status["flops"]:
        parts.append(f"so far {large(status['flops'], 'FLOP')} in {duration(status['seconds'])}")
    if events:
        losses = [f"{name} {number(events[-1][key])}" for name, key in LINES.items() if events[-1].get(key) is not None]
        parts.append(f"NLL: {', '.join(losses)}")
    done = 100 * (status["status"] == "finished" or status["step"] / max(1, status["steps"]))
    bar = (
        f'<div class="wb-done" role="progressbar" aria-label="steps done" aria-valuenow="{done:.0f}" '
        f'style="height:3px;background-color:rgba(128,128,128,.22)">'
        f'<i style="display:block;height:3px;width:{done:.1f}%;background-color:rgba(230,126,0,.9)"></i></div>'
    )
    shown = " · ".join(f"<span>{part}</span>" for part in parts)
    return f'<div class="wb-state"><div>{what(run)}</div><div>{shown}</div>{bar}</div>'


def what(run: RunDirectory) -> str:
    """What a run is, in a line."""
    config = run.config
    task = config["task"].get("name") or "own files"
    said = f"{config['objective']} with weights {Path(config['weights']).name}, {config['model']} on {task}"
    return f"{plain(said)} <small>{plain(run.name)}</small>"


def thinned(points: Points) -> Points:
    """At most about `POINTS` of the points, the last among them."""
    every = -(-len(points) // POINTS)
    return [*points[: -1 : every or 1], *points[-1:]]


def chart_html(run: RunDirectory, events: Sequence[Mapping[str, Any]]) -> str:
    """Forget and retain NLL over the steps, and what was probed before, on the way, and after."""
    curves = {n: thinned([(e["step"], e[k]) for e in events if e.get(k) is not None]) for n, k in LINES.items()}
    if not events:
        return ""
    out = line_chart_svg(curves, title="Mean NLL of the batch", y_label="nats a token", height=190, css=False)
    probed = run.curve()
    if len(probed) and probed["step"].nunique() > 1:
        shown = "fact_accuracy" if "fact_accuracy" in probed else "probability"
        sets = {name: probed[(probed["probe_set"] == name) & probed[shown].notna()] for name in probed["probe_set"]}
        lines = {name: list(zip(part["step"], part[shown], strict=True)) for name, part in sets.items() if len(part)}
        title = f"{shown.replace('_', ' ').capitalize()} of the probes"
        out += line_chart_svg(lines, title=title, height=160, css=False)
    return f'<div class="wb-charts">{out}</div>'


def results_html(run: RunDirectory) -> str:
    """Metrics before and after, and the cost by phase; empty while the run has not finished."""
    metrics, cost = run.json("metrics.json"), run.json("cost.json")
    if not run.json("run.json"):
        return ""
    out = metrics_view(metrics, definitions(), title="Metrics, before → after", css=False) if metrics else ""
    return out + (cost_table(cost, title="Cost", css=False) if cost and cost.get("phases") else "")


def config_html(config: Config) -> str:
    """A configuration, every value of it."""
    named = {name: getattr(config, name) for name in ("model", "objective", "weights", "reference")}
    named |= {f"task {f.name}".removesuffix(" name"): getattr(config.task, f.name) for f in fields(config.task)}
    named |= {name: getattr(config, name) for name in ("probe_every", "probe_limit", "stop_at")}
    settings = {name: value for name, value in config.settings if name != "options"}
    for part, options in config.settings.options.items():
        settings |= {f"{part} {name}": value for name, value in options.items()}
    told = {name: value for name, value in (named | settings).items() if value not in (None, "")}
    said = ", ".join(f"{plain(name.replace('_', ' '))} <b>{plain(str(value))}</b>" for name, value in told.items())
    return frame(f'<div class="wb-foot">{said}</div>', title="Configuration", css=False)
