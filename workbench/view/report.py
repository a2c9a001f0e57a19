"""One self-contained HTML page of a run, as a person would tell it.

Two answers before and after, what the run did to the rest, what comes back under attack, on which tokens it worked, and
then all else.

Every number is computed from the run's tables; what is missing says so. The page makes no request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from workbench.evals import metric, most_left, summary
from workbench.files import write_text
from workbench.runs import RunDirectory, attacks_of, maps_of, read_answers
from workbench.view.answers_first import the_rest, two_answers
from workbench.view.html import (
    NOT_AVAILABLE,
    Samples,
    answers_view,
    as_texts,
    attacks_view,
    change_view,
    changes,
    cost_table,
    definitions,
    large,
    line_chart_svg,
    metrics_view,
    number,
    render,
    summary_view,
    texts_of,
    token_view,
    value_of,
    weights_source,
    where_view,
)
from workbench.view.run_source import RunSource, run_directory
from workbench.view.sections import READING, Section, importance, sections_page

SETS = {"forget": "the answers to forget", "retain": "the answers to keep", "neighbours": "their neighbours"}
MEASURES = {
    "fact_accuracy": "the greedy answer holds every labelled fact",
    "exact_memorization": "the model's first choice is the right token",
}
MAPS = 3  # answers whose layers are shown


class RunFiles:
    """The files of a run directory; empty or None where one is not there (yet)."""

    def __init__(self, run: RunDirectory) -> None:
        self.attacked = read_answers(run.path / "attacks")
        self.path, self.config, self.events = run.path, run.config, run.events()
        self.metrics, self.cost = run.json("metrics.json") or {}, run.json("cost.json") or {}
        self.finished = run.json("run.json") is not None
        self.scores, self.probes, self.tokens = (
            run.table(f"{name}.parquet") for name in ("scores", "probes", "tokens")
        )
        self.suites = [run.json(f"suites/{file.name}") for file in sorted((run.path / "suites").glob("*.json"))]
        self.attacks, self.maps = attacks_of(run.path), maps_of(run.path, self.attacked)

    @property
    def steps(self) -> int:
        """The last step that was recorded."""
        return int(self.events[-1]["step"]) if self.events else 0

    def name(self, key: str) -> str:
        """The task, model, objective or weights of the configuration as a short name."""
        value = self.config.get(key, NOT_AVAILABLE)
        if isinstance(value, Mapping):
            value = value.get("name") or "own files"
        return Path(str(value)).name if str(value).startswith(("/", ".")) else str(value)

    @property
    def weights(self) -> str:
        """What gives the token weights, such as "scorer atwu"."""
        return weights_source(str(self.config.get("weights", NOT_AVAILABLE)))

    def before_after(self, probe_set: str, name: str) -> tuple[float, float] | None:
        """A metric of a probe set before and after the run; None where either is missing."""
        phases = [self.metrics.get(phase, {}).get(probe_set, {}) for phase in ("before", "after")]
        before, after = (value_of(metrics.get(name))[0] for metrics in phases)
        return None if before is None or after is None else (before, after)

    @property
    def changed(self) -> bool:
        """Whether the tokens were recorded before and after."""
        return self.tokens is not None and {"before", "after"} <= set(self.tokens["phase"])


def read_run(source: RunSource) -> RunFiles:
    """Read a run directory without loading a model; UserError where `source` is none."""
    return RunFiles(run_directory(source))


# The first paragraph and figures ------------------------------------------------------------------------------------


def lead(run: RunFiles) -> Markup:
    """What was done and what came of it: a paragraph and large figures, from the tables only."""
    results, last = [], ""
    for name, words in SETS.items():
        for key, kind in MEASURES.items():
            if values := run.before_after(name, key):
                results.append((words, kind if kind != last else "", [100 * v for v in values]))
                last = kind
                break
    return render("report.lead", run=run, results=results, figures=_figures(run))


def _figures(run: RunFiles) -> list[tuple[str, str | None, str]]:
    """The key numbers: what, value before where there is one, value."""
    figures: list[tuple[str, str | None, str]] = []
    for name in SETS:
        if values := run.before_after(name, "fact_accuracy"):
            before, after = (f"{100 * value:.0f} %" for value in values)
            figures.append((f"fact accuracy, {name}", before, after))
        elif values := run.before_after(name, "probability"):
            figures.append((f"probability, {name}", number(values[0]), number(values[1])))
    if run.changed:
        table = changes(run.tokens)
        forget = table[(table["probe_set"] == "forget") & (table["rank_before"] == 0)]
        if len(forget):
            figures.append(("first choices changed, forget", None, f"{100 * forget['switched'].mean():.0f} %"))
    if flops := run.cost.get("total", {}).get("flops"):
        figures.append(("operations", None, large(flops, "FLOP")))
    return figures


# Sections -----------------------------------------------------------------------------------------------------------


def _samples(run: RunFiles, probe_set: str) -> dict[Any, tuple[str, str]]:
    return {} if run.probes is None else texts_of(run.probes, probe_set)


def _worked(run: RunFiles, weights: pd.DataFrame, samples: Samples, count: int) -> Section:
    """The token weights with which the run really worked: of its last step, and of its first if those were others."""
    steps = sorted(weights["step"].unique())
    first, last = (weights[weights["step"] == step] for step in (steps[0], steps[-1]))
    title = f"The token weights of the run, by {run.weights}"
    title += f", at step {steps[-1]}" if len(steps) > 1 else ""
    note = f"The weights of the loss: the run pushed hardest on the darkest tokens. {READING}"
    body = token_view(last, samples, title=title, max_samples=count, css=False)
    if len(steps) > 1 and first["score"].nunique() <= 1:
        note += f" At step {steps[0]} all tokens weighed the same."
    elif len(steps) > 1:
        title = f"The same at step {steps[0]}"
        body += token_view(first, samples, title=title, max_samples=min(count, 4), css=False)
    return Section("Which tokens the run worked on", note, body)


def _training(run: RunFiles) -> Section:
    curves = {
        name: [(e["step"], e[key]) for e in run.events if e.get(key) is not None]
        for name, key in (("forget", "forget_nll"), ("retain", "retain_nll"))
    }
    body = line_chart_svg(curves, title="Mean negative log-likelihood per computed token", y_label="nats", css=False)
    note = (
        "Forgetting raises the forget line, the mean over the tokens that are computed: in each answer up to the last "
    )
    note += "one with a weight, or those in the loss. The retain line should stay where it was."
    return Section("What the run did", note, body)


def _change(run: RunFiles, tokens: pd.DataFrame, count: int) -> Section:
    body = Markup()
    for name in ("forget", "neighbours", "retain"):
        shown = count if name == "forget" else max(count // 3, 2)
        part = tokens[tokens["probe_set"] == name]
        if len(part):
            body += change_view(part, _samples(run, name), max_samples=shown, css=False)
    return Section("What changed in each token", "Probability of the right token, after minus before.", body)


def _answers(probes: pd.DataFrame) -> Section:
    shown = pd.concat([probes[probes["probe_set"] == name] for name in SETS])
    note = "Greedy answers. Words that are gone are struck, new words are underlined."
    return Section("What the model says", note, answers_view(shown, css=False))


def _suites(results: Sequence[Mapping[str, Any]]) -> Section:
    known = definitions(summary)
    body = Markup().join(summary_view(result, known, css=False) for result in results)
    return Section("What the suites say", "What benchmarks report of the model after the run.", body)


def _configuration(run: RunFiles) -> Section:
    settings = {k: v for k, v in run.config.get("settings", {}).items() if not isinstance(v, dict)}
    versions = ", ".join(f"{k} {v}" for k, v in run.config.get("versions", {}).items())
    file = json.dumps(run.config, indent=1, ensure_ascii=False).splitlines()
    versions = versions or f"Versions: {NOT_AVAILABLE}"
    body = render("report.configuration", settings=settings, versions=versions, file=file)
    return Section("Configuration", f"Run {run.path.name}.", body)


def run_report(
    run_dir: RunSource,
    scores: pd.DataFrame | None = None,
    alignment: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    samples: Samples = (),
    max_samples: int = 24,
) -> Path:
    """Write the page of a run.

    Args:
        run_dir: a run's directory, its path, or a `Job`.
        scores: a further score table of the forget answers, such as of several scorers, after the weights of the run.
        alignment: scorer -> metrics, as `workbench align` gives it.
        out: `report.html` in the run directory by default.
        samples: a task, its samples, or sample id -> (question, answer), where the run's probe table lacks some.
        max_samples: at most so many answers in the token views.

    Raises:
        UserError: where `run_dir` is no run directory.
    """
    run = read_run(run_dir)
    texts = _samples(run, "forget") | as_texts(samples)
    # Beside the weights, a run records the probabilities of its tokens.
    weights = None if run.scores is None else run.scores[run.scores["scorer"] != "probability"]
    suites = [suite for suite in run.suites if any(suite.get(k) for k in ("summary", "curve", "general"))]
    sections: list[Section] = []
    if run.probes is not None:
        sections += [*two_answers(run.probes), *the_rest(run.probes, SETS)]
    if run.metrics:
        body: Markup = metrics_view(run.metrics, definitions(metric), css=False)
        sections.append(Section("What the model knows", "Every metric of every probe set, before → after.", body))
    if run.attacks:
        body = attacks_view(run.attacks, run.attacked, css=False)
        sections.append(Section("What comes back", "Is it forgotten, or only not said?", body))
    if run.maps:
        note = "In which layers the facts survive, in the answers of which most is left."
        sections.append(Section("Where it still is", note, where_view(most_left(run.maps, MAPS), css=False)))
    if weights is not None and len(weights):
        sections.append(_worked(run, weights, texts, max_samples if scores is None else 4))
    if run.changed and run.tokens is not None:
        sections.append(_change(run, run.tokens, max(max_samples // 2, 1)))
    if run.events:
        sections.append(_training(run))
    if scores is not None and len(scores):
        sections.append(importance(scores, texts, alignment, max_samples))
    if suites:
        sections.append(_suites(suites))
    if run.probes is not None:
        sections.append(_answers(run.probes))
    if run.cost:
        sections.append(Section("What it cost", "Counted from what ran.", cost_table(run.cost, css=False)))
    sections.append(_configuration(run))
    title = f"Forgetting {run.name('task')} with objective {run.name('objective')}"
    subtitle = f"{run.name('model')} · token weights by {run.weights} · {run.steps} steps"
    out = Path(out or run.path / "report.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, sections_page(title, sections, intro=lead(run), subtitle=subtitle))
    return out
