"""One self-contained HTML page of a run: which tokens mattered, what the run did, what the model knows now.

Every number is computed from the run's tables; what is missing says so. The page makes no request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from workbench import evals
from workbench.evals import metric, summary
from workbench.files import write_text
from workbench.runs import RunDirectory
from workbench.view.html import (
    NOT_AVAILABLE,
    Samples,
    agreement_view,
    alignment_table,
    answers_view,
    change_view,
    changes,
    compare_view,
    cost_table,
    definitions,
    disagreement_view,
    frame,
    label,
    large,
    line_chart_svg,
    metrics_view,
    notes_view,
    number,
    page,
    plain,
    summary_view,
    texts_of,
    token_view,
    value_of,
)


class Section(NamedTuple):
    """A heading, a line that says what to look at, and the HTML below."""

    heading: str
    note: str
    body: str


@dataclass(frozen=True)
class RunFiles:
    """The files of a run directory; empty or None where one is not there (yet)."""

    path: Path
    config: dict[str, Any]
    events: list[dict[str, Any]]
    metrics: dict[str, Any]
    cost: dict[str, Any]
    finished: bool
    scores: pd.DataFrame | None
    probes: pd.DataFrame | None
    tokens: pd.DataFrame | None
    suites: dict[str, dict[str, Any]]


def read_run(path: str | Path) -> RunFiles:
    """Read a run directory without loading a model.

    Raises:
        UserError: where `path` is no run directory.
    """
    run = RunDirectory(Path(path))
    return RunFiles(
        path=run.path,
        config=run.config,
        events=run.events(),
        metrics=run.json("metrics.json") or {},
        cost=run.json("cost.json") or {},
        finished=run.json("run.json") is not None,
        scores=run.table("scores.parquet"),
        probes=run.table("probes.parquet"),
        tokens=run.table("tokens.parquet"),
        suites={f.stem: run.json(f"suites/{f.name}") for f in sorted((run.path / "suites").glob("*.json"))},
    )


# Words --------------------------------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    """A task, model or weights entry of a configuration as a short name."""
    if isinstance(value, Mapping):
        value = value.get("name", "task")
    return Path(str(value)).name if str(value).startswith(("/", ".")) else str(value)


def _pair(run: RunFiles, probe_set: str, name: str) -> tuple[float | None, float | None]:
    found = [run.metrics.get(phase, {}).get(probe_set, {}).get(name) for phase in ("before", "after")]
    return value_of(found[0])[0], value_of(found[1])[0]


def _steps(run: RunFiles) -> int:
    return int(run.events[-1]["step"]) if run.events else 0


def facts(run: RunFiles) -> str:
    """The key numbers as large figures."""
    cells = []
    for probe_set in ("forget", "retain", "neighbours"):
        before, after = _pair(run, probe_set, "probability")
        if before is not None and after is not None:
            pair = f"<small>{number(before)} →</small> {number(after)}"
            cells.append((f"probability, {probe_set}", pair))
    if run.tokens is not None and {"before", "after"} <= set(run.tokens["phase"]):
        table = changes(run.tokens)
        forget = table[(table["probe_set"] == "forget") & (table["rank_before"] == 0)]
        if len(forget):
            share = f"{100 * forget['switched'].mean():.0f} %"
            cells.append(("first choices changed, forget", share))
    total = run.cost.get("total", {})
    if total.get("flops"):
        cells.append(("operations", large(total["flops"], "FLOP")))
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)
    return f'<dl class="wb-facts">{shown}</dl>' if cells else ""


def lede(run: RunFiles) -> str:
    """What was done and what came of it, in a paragraph, from the tables only."""
    c = run.config
    objective, weights = plain(_name(c.get("objective", NOT_AVAILABLE))), plain(_name(c.get("weights", NOT_AVAILABLE)))
    status = "" if run.finished else " The run is not finished."
    task, model = plain(_name(c.get("task", NOT_AVAILABLE))), plain(_name(c.get("model", NOT_AVAILABLE)))
    text = [
        f"<b>{model}</b> was made to forget <b>{task}</b>: {_steps(run)} steps of "
        f"<b>{objective}</b> with token weights from <b>{weights}</b>.{status}"
    ]
    said = {"forget": "the answers to forget", "retain": "the answers to keep", "neighbours": "their neighbours"}
    told = ""
    for name, words in said.items():
        before, after = _pair(run, name, "fact_accuracy")
        kind = "the greedy answer holds every labelled fact"
        if before is None or after is None:
            before, after = _pair(run, name, "exact_memorization")
            kind = "the model's first choice is the right token"
        if before is not None and after is not None:
            end = f", where {kind}" if kind != told else ""
            told = kind
            text.append(f"On {words}{end}: {100 * before:.0f} % before, <b>{100 * after:.0f} %</b> after.")
    return f'<p class="wb-lede">{" ".join(text)}</p>'


# Sections -----------------------------------------------------------------------------------------------------------


def _samples(run: RunFiles, probe_set: str) -> Samples:
    return {} if run.probes is None else texts_of(run.probes, probe_set)


def _importance(scores: pd.DataFrame, samples: Samples, alignment: Mapping[str, Any] | None, count: int) -> Section:
    several = scores["scorer"].nunique() > 1
    body = token_view(scores, samples, alignment=alignment, max_samples=count, css=False)
    if alignment:
        body += alignment_table(alignment, title="Do the scores find the labelled facts?", css=False)
    note = "The answers to forget, coloured by how much each token matters for forgetting."
    return Section("Which tokens matter", note + (" Choose a scorer above the text." if several else ""), body)


def _training(run: RunFiles, weights: pd.DataFrame | None, samples: Samples) -> Section:
    curves = {
        name: [(e["step"], e[key]) for e in run.events if e.get(key) is not None]
        for name, key in (("forget", "forget_nll"), ("retain", "retain_nll"))
    }
    body = line_chart_svg(curves, title="Mean negative log-likelihood per token", y_label="nats", css=False)
    if weights is not None and len(weights):
        title = "The token weights of the run" + (", first and last step" if weights["step"].nunique() > 1 else "")
        body += token_view(weights, samples, title=title, max_samples=4, css=False)
    return Section(
        "What the run did", "Forgetting raises the forget line; the retain line should stay where it was.", body
    )


def _change(run: RunFiles, count: int) -> Section:
    assert run.tokens is not None
    order = [s for s in ("forget", "neighbours", "retain") if s in set(run.tokens["probe_set"])]
    body = ""
    for name in order:
        shown = count if name == "forget" else max(count // 3, 2)
        part = run.tokens[run.tokens["probe_set"] == name]
        body += change_view(part, _samples(run, name), max_samples=shown, css=False)
    return Section("What changed in each token", "Probability of the right token, after minus before.", body)


def _answers(run: RunFiles) -> Section:
    assert run.probes is not None
    sets = [s for s in ("forget", "retain", "neighbours") if s in set(run.probes["probe_set"])]
    probes = pd.concat([run.probes[run.probes["probe_set"] == s] for s in sets])
    note = "Greedy answers. Struck words went, underlined words came."
    return Section("What the model says", note, answers_view(probes, css=False))


def _suites(results: Sequence[Mapping[str, Any]]) -> Section:
    known = definitions(summary)
    body = "".join(summary_view(result, known, css=False) for result in results)
    return Section("What the suites say", "What benchmarks report of the model after the run.", body)


def _configuration(run: RunFiles) -> Section:
    versions = ", ".join(f"{k} {v}" for k, v in run.config.get("versions", {}).items())
    text = plain_block(json.dumps(run.config, indent=1, ensure_ascii=False))
    said = plain(versions) or f"Versions: {NOT_AVAILABLE}"
    numbers = {k: v for k, v in run.config.get("settings", {}).items() if not isinstance(v, dict)}
    used = ", ".join(f"{label(k)} {plain(str(v))}" for k, v in numbers.items())
    box = frame(f'<div class="wb-foot">{used}</div>' * bool(used) + f'<div class="wb-foot">{said}</div>', css=False)
    body = f"{box}<details><summary>config.json</summary>{text}</details>"
    return Section("Configuration", f"Run {run.path.name}.", body)


def plain_block(text: str) -> str:
    """Preformatted text, line by line."""
    return f"<pre>{chr(10).join(plain(line) for line in text.splitlines())}</pre>"


# Pages --------------------------------------------------------------------------------------------------------------


def sections_html(sections: Sequence[Section]) -> str:
    """Headings, notes and bodies one after the other."""
    return "".join(f"<h2>{plain(s.heading)}</h2><p>{plain(s.note)}</p>\n{s.body}\n" for s in sections)


def write_report(out: str | Path, title: str, lead: str, sections: Sequence[Section], *, subtitle: str = "") -> Path:
    """Write a page of sections; `lead` is ready HTML. Returns the path."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(title, f"{lead}\n{sections_html(sections)}", subtitle=subtitle))
    return out


def run_report(
    run_dir: str | Path,
    scores: pd.DataFrame | None = None,
    alignment: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    samples: Samples | None = None,
    max_samples: int = 24,
) -> Path:
    """Write the page of a run.

    Args:
        run_dir: the run directory.
        scores: a score table of the forget answers to begin with; the run's own weights by default.
        alignment: scorer -> metrics, as `workbench align` gives it.
        out: `report.html` in the run directory by default.
        samples: sample id -> (question, answer), where the run's probe table does not hold them all.
        max_samples: at most so many answers in the token views.

    Raises:
        UserError: where `run_dir` is no run directory.
    """
    run = read_run(run_dir)
    texts = {**_samples(run, "forget"), **(samples or {})}
    sections = []
    weights = _weights(run)
    table = scores if scores is not None else weights
    if table is not None and len(table):
        sections.append(_importance(table, texts, alignment, max_samples))
    if run.events:
        sections.append(_training(run, weights if scores is not None else None, texts))
    if run.metrics:
        body = metrics_view(run.metrics, definitions(metric), css=False)
        sections.append(Section("What the model knows", "Every metric of every probe set, before → after.", body))
    if told := [found for found in run.suites.values() if any(found.get(k) for k in ("summary", "curve", "general"))]:
        sections.append(_suites(told))
    if run.tokens is not None and {"before", "after"} <= set(run.tokens["phase"]):
        sections.append(_change(run, max(max_samples // 2, 1)))
    if run.probes is not None:
        sections.append(_answers(run))
    if run.cost:
        sections.append(Section("What it cost", "Counted from what ran.", cost_table(run.cost, css=False)))
    sections.append(_configuration(run))
    c = run.config
    title = f"Forgetting {_name(c.get('task', 'a task'))} with {_name(c.get('objective', 'an objective'))}"
    subtitle = (
        f"{_name(c.get('model', ''))} · token weights: {_name(c.get('weights', NOT_AVAILABLE))} · {_steps(run)} steps"
    )
    return write_report(out or run.path / "report.html", title, lede(run) + facts(run), sections, subtitle=subtitle)


def _weights(run: RunFiles) -> pd.DataFrame | None:
    """The recorded token weights, without the probabilities that are recorded beside them."""
    return None if run.scores is None else run.scores[run.scores["scorer"] != "probability"]


def scores_page(
    scores: pd.DataFrame, samples: Samples, alignment: Mapping[str, Any] | None = None, *, max_samples: int = 48
) -> str:
    """A whole page for a score table alone."""
    sections = [_importance(scores, samples, alignment, max_samples)]
    names = ", ".join(str(n).replace("_", " ") for n in dict.fromkeys(scores["scorer"]))
    if notes := notes_view(scores.attrs.get("notes", {}), css=False):
        sections.append(Section("What was attributed", "For the scorers that explain a prediction.", notes))
    return page("Token importance", sections_html(sections), subtitle=names)


def comparison_page(
    scores: pd.DataFrame,
    samples: Samples,
    *,
    agreement: Mapping[str, Any] | None = None,
    measure: str = "spearman",
    level: str = "pooled",
) -> str:
    """A whole page of how alike the scorers of a table are, and the answers where they disagree most.

    Args:
        scores: a score table of two scorers or more.
        samples: sample id -> (question, answer); a missing one is put together from its tokens.
        agreement: of the table, where it is known already; see `evals.agreement`.
        measure: "spearman", "kendall" or "top_k_overlap".
        level: "pooled" or "per_sample".
    """
    texts = {**_texts(scores), **samples}
    disputed = evals.disagreement(scores)
    ids = disputed["sample_id"].tolist()
    found = evals.agreement(scores) if agreement is None else agreement
    agree = agreement_view(found, measure=measure, level=level, css=False)
    sections = [
        Section("Do the scorers agree?", "1: two scorers rank the tokens alike.", agree),
        Section(
            "Where they disagree most",
            "The answers that the scorers rank least alike, then the first of them under every scorer.",
            disagreement_view(disputed, texts, css=False) + compare_view(scores, texts, order=ids, css=False),
        ),
    ]
    if scores["span"].notna().any():
        labels = alignment_table(evals.alignment(scores), css=False)
        sections.append(Section("Do the scores find the labelled facts?", "Each scorer against the labels.", labels))
    names = ", ".join(name.replace("_", " ") for name in found["scorers"])
    return page("Scorers compared", sections_html(sections), subtitle=names)


def _texts(scores: pd.DataFrame) -> dict[Any, tuple[str, str]]:
    """Question and answer by sample id, out of the tokens that tile them; the question is empty without its tokens."""
    tokens = scores.drop_duplicates(["segment", "sample_id", "position"]).sort_values("position", kind="stable")
    joined = {part: rows.groupby("sample_id")["token"].agg("".join) for part, rows in tokens.groupby("segment")}
    asked = joined.get("prompt", {})
    return {sample: (asked.get(sample, ""), answer) for sample, answer in joined["answer"].items()}
