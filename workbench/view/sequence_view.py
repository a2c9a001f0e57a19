"""A sequence of requests to look at: what a cell of its matrix stands for, and the page that tells all of it."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from workbench.runs import SequenceDirectory, read_answers
from workbench.view.html import answers_view, attacks_view, change_view, cost_table, render, retention_view, texts_of
from workbench.view.sections import Section, sections_page

SequenceSource = SequenceDirectory | Path | str
SHOWN = 4  # answers of each request on the page


def sequence_directory(source: SequenceSource) -> SequenceDirectory:
    """The directory of a sequence, given itself or its path; UserError where it is none."""
    return source if isinstance(source, SequenceDirectory) else SequenceDirectory(source)


def cell_detail(
    sequence: SequenceDirectory, after: int, column: int, *, seed: int | None = None, max_samples: int = 8
) -> Markup:
    """The answers that a cell of the matrix stands for, before any request and then, and what changed in their tokens.

    The cell is that of a column of the matrix `after` so many requests; the seed is the first one by default.

    Raises:
        UserError: there is no such cell.
    """
    kept, count = list(sequence.kept()), len(sequence.requests)
    key = kept[column - count] if column >= count else f"request-{column + 1}"
    rows, tokens = sequence.answers(key, after, seed)
    when = f"after request {after}" if after else "before any request"
    seeds = f", seed {sequence.seeds[0] if seed is None else seed}" if len(sequence.seeds) > 1 else ""
    answers = answers_view(rows, max_samples=max_samples, css=False)
    changed = change_view(tokens, texts_of(rows, key), max_samples=max_samples, css=False) if len(tokens) else ""
    heading = f"{[*sequence.requests, *kept][column]}, {when}{seeds}"
    return render("retention.detail", heading=heading, answers=answers, tokens=changed)


def sequence_page(source: SequenceSource, *, metric: str | None = None) -> str:
    """A whole page of a sequence: the matrix and its numbers, the answers at the end, attacks, costs.

    Raises:
        UserError: it is no sequence, no seed of it is done, or it has no such metric.
    """
    sequence = sequence_directory(source)
    plan, retention = sequence.plan, sequence.retention(metric)
    last, seed = len(retention.requests), retention.seeds[0]
    note = "Rows are states of the model, columns the sets of the requests; below, the sets to keep."
    sections = [Section("What is left after each request", note, retention_view(retention, css=False))]
    cells = [cell_detail(sequence, last, j, seed=seed, max_samples=SHOWN) for j in range(last + len(retention.kept))]
    note = "Each request's set, at first and now."
    sections.append(Section("The answers after the last request", note, Markup().join(cells[:last])))
    sections.append(Section("What was to be kept", "The same for the sets to keep.", Markup().join(cells[last:])))
    if attacks := sequence.attacks(seed):
        body = attacks_view(attacks, read_answers(sequence.seed_folder(seed) / "attacks"), css=False)
        sections.append(Section("What comes back under attack", "The sets of all requests, after the last one.", body))
    spent = sequence.cost()
    parts = {"phases": {name: part for name, part in spent.items() if name != "total"}, "total": spent["total"]}
    note = "All runs, and the probes between them"
    if attacks:
        recorded = "attacks" in spent
        note += ", and the attacks, whose FLOPs are estimated from shapes" if recorded else "; not the attacks"
    sections.append(Section("What it cost", f"{note}.", cost_table(parts, css=False)))
    config = plan["config"]
    title = f"{last} requests with objective {config['objective']}"
    subtitle = f"{Path(config['model']).name} · token weights by {Path(config['weights']).name} · {sequence.path.name}"
    return sections_page(title, sections, subtitle=subtitle)
