"""Commands that make score tables and read them: score, align, agree, faithfulness."""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import evals, models
from workbench.cli.console import Progress, number, table_line
from workbench.cli.options import load_model, spec
from workbench.errors import UserError, missing
from workbench.files import writable, write_text, writing
from workbench.objectives import objective
from workbench.runs import scorer_options, settings_from
from workbench.scorers import KINDS, ScoreFile, apply_scorer, check_needs, load_scorer, read_scores, save_scorer, scorer
from workbench.tasks import Task
from workbench.unlearning import score_parts
from workbench.view import comparison_page, scores_page


def score(given: Namespace) -> dict[str, Any]:
    """Score a task's forget answers."""
    task = spec(given).load()
    wanted = list(dict.fromkeys(given.scorer.split(",")))
    everything = wanted == ["all"]
    if everything:
        wanted = all_scorers(task, bool(given.reference))
    saved = [name for name in wanted if name.endswith(".safetensors")]
    named = [name for name in wanted if name not in saved]
    check_needs(named, bool(given.reference))
    options = scorer_options(given.set, named)
    keeper = check_save(given.save, named, options) if given.save else None
    out = writable(Path(given.out))
    for path in (given.html, given.save):
        if path:
            writable(Path(path))
    learners = [load_scorer(Path(name)) for name in saved]
    twice = {learner.name for learner in learners} & set(named)
    if twice or len({learner.name for learner in learners}) < len(learners):
        raise UserError("two scorers of one name cannot share a table; score them into tables of their own")
    lm = load_model(given)
    reference = models.load(given.reference, **lm.like()) if given.reference else None
    file = ScoreFile(out, made_from(given, task, lm, reference), [*(x.name for x in learners), *named], options)
    if given.resume:
        file.reopen()
        if keeper and keeper not in file.missing:  # what it learned is not in the table
            file.missing.append(keeper)
    for learner in learners:
        file.add(apply_scorer(learner.to(lm.device), lm, task.forget, task=task.name))
    learned: dict[str, Any] = {}
    left_out: dict[str, str] = {}

    def leave_out(name: str, reason: UserError) -> None:
        Progress.end_line()
        left_out[name] = str(reason)
        print(f"left out: {'' if str(reason).startswith(name) else f'{name}: '}{reason}", file=sys.stderr)

    parts = score_parts(
        lm,
        task,
        file.missing,
        reference=reference,
        seed=given.seed,
        options=options,
        learned=learned,
        notes=file.notes,
        progress=Progress().tell,
        failed=leave_out if everything else None,
    )
    try:
        for part in parts:
            file.add(part)
    except KeyboardInterrupt:
        Progress.end_line()
        done = ", ".join(name for name in file.names if name not in file.missing) or "none"
        print(f"workbench: finished scorers, kept in {out}: {done}; --resume goes on from there", file=sys.stderr)
        raise
    table = file.table
    answers = table[table["segment"] == "answer"].drop_duplicates(["sample_id", "position"])
    names, notes = list(table["scorer"].unique()), table.attrs["notes"]
    print(f"{answers['sample_id'].nunique()} answers, {len(answers)} tokens, {len(names)} scorers: {out}")
    say_notes(notes)
    if keeper:
        with writing(Path(given.save)) as aside:
            save_scorer(learned[keeper], aside)
        print(given.save)
    if given.html:
        texts = {s.id: (s.question, s.answer) for s in task.forget}
        write_text(Path(given.html), scores_page(table, texts))
        print(given.html)
    return {"out": str(out), "scorers": names, "tokens": len(answers), "notes": notes, "left_out": left_out}


def all_scorers(task: Task, reference: bool) -> list[str]:
    """Scorers that have what they need and are not slow; says which are left out for their time."""
    have = {"reference": reference, "spans": all(s.spans is not None for s in task.forget)}
    able = [n for n in scorer if all(have[need] for need in scorer[n].needs)]
    quick = [n for n in able if not scorer[n].slow]
    print(f"left out for their time: {', '.join(n for n in able if n not in quick)}", file=sys.stderr)
    return quick


def check_save(path: str, named: list[str], options: dict[str, dict[str, Any]]) -> str:
    """The one learned scorer that --save keeps."""
    keepers = [name for name in named if name in KINDS]
    if len(keepers) != 1:
        raise UserError(f"--save keeps one learned scorer ({' or '.join(KINDS)}); --scorer names {len(keepers)}")
    if not path.endswith(".safetensors"):
        raise UserError(f"--save takes FILE.safetensors, not {path}")
    if options[keepers[0]].get("text") == "forget":
        raise UserError("cross-fitted scores come from several maps, so there is none to --save; leave text=forget out")
    return keepers[0]


def made_from(given: Namespace, task: Task, lm: models.LanguageModel, reference: Any) -> dict[str, Any]:
    """What scores depend on, beside the scorers' options."""
    unlabelled = repr(task.sets.get("unlabelled", []))
    return {
        "task": task.name,
        "data_sha256": task.fingerprint,
        "unlabelled_sha256": hashlib.sha256(unlabelled.encode()).hexdigest(),
        "model_sha256": lm.fingerprint(),
        "reference_sha256": reference.fingerprint() if reference else None,
        "prompt": lm.prompt,
        "precision": lm.precision,
        "seed": given.seed,
        "versions": {name: version(name) for name in ("unlearning-workbench", "captum", "torch", "transformers")},
    }


def say_notes(notes: dict[str, dict[str, Any]]) -> None:
    """Print what is to be said of scores: what was attributed to what, and which samples have none and why."""
    for name, note in notes.items():
        said = [f"{key} {note[key]}" for key in ("target", "units", "baseline") if key in note]
        if delta := note.get("completeness_delta"):
            said.append(f"completeness delta {delta['median']:.2%}, at most {delta['largest']:.2%}")
        if said:
            print(f"{name}: {', '.join(said)}")
        for sample, reason in note.get("not_available", {}).items():
            print(f"{name}: not available for '{sample}': {reason}")


def align(given: Namespace) -> dict[str, Any]:
    """Alignment of a score table with span labels."""
    table = read_scores(Path(given.file))
    found = evals.alignment(evals.label(table, Path(given.spans)) if given.spans else table)
    rows = [["scorer", "auroc", "per sample", "ap", "precision"]]
    for name, value in found.items():
        keys = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")
        rows.append([name, *(number(value[key]) for key in keys)])
    table_line(rows)
    for name, value in found.items():
        if isinstance(value["auroc"], dict):
            print(f"{name}: not available: {value['auroc']['reason']}")
        if "left_out" in value:
            print(f"{name}: {value['left_out']} tokens without a score left out")
    return found


def agree(given: Namespace) -> dict[str, Any]:
    """Agreement of the scorers of a score table, and the samples where they disagree."""
    table = read_scores(Path(given.file))
    if given.html:
        writable(Path(given.html))
    level = "per_sample" if given.per_sample else "pooled"
    found = evals.agreement(table, top=given.top)
    disputed = evals.disagreement(table)
    matrix = found[given.measure][level]
    rows = [[given.measure, *matrix]]
    for name, values in matrix.items():
        rows.append([name, *("-" if isinstance(value, dict) else f"{value:.3f}" for value in values.values())])
    table_line(rows)
    print(f"{level.replace('_', ' ')}: {found['samples']} answers, {found['tokens']} tokens")
    undefined = [value["reason"] for values in matrix.values() for value in values.values() if isinstance(value, dict)]
    for reason in dict.fromkeys(undefined):
        print(f"-: not available: {reason}")
    if disputed["pairs"].any():
        first = disputed.iloc[0]
        print(f"most disputed answer: {first['sample_id']}, most apart: {first['most_apart']}")
    if given.html:
        page = comparison_page(table, samples={}, agreement=found, measure=given.measure, level=level)
        write_text(Path(given.html), page)
        print(given.html)
    none = missing("no two scorers can be compared in this answer")
    columns = (disputed[key].tolist() for key in ("sample_id", "disagreement", "most_apart"))
    return found | {
        "disagreement": [
            {"sample_id": sample, "disagreement": value if pair else none, "most_apart": pair}
            for sample, value, pair in zip(*columns, strict=True)
        ]
    }


def faithfulness(given: Namespace) -> dict[str, Any]:
    """What the answers owe to each scorer's highest tokens; with --unlearn also what runs with them as weights do."""
    table, task = read_scores(Path(given.file)), spec(given).load()
    known = {"objective": objective[given.objective].options}
    settings = settings_from(given.set, known, **{k: v for k, v in evals.RUN if k != "options"})
    seeds = seeds_of(given.seeds)
    lm = load_model(given)
    bar = Progress()
    found = evals.faithfulness(lm, task, table, top=given.top, baseline=given.baseline, progress=bar.tell)
    rows = [["scorer", "comprehensiveness", "sufficiency", "answers"]]
    for name, value in found.items():
        rows.append([name, number(value["comprehensiveness"]), number(value["sufficiency"]), str(value["samples"])])
    table_line(rows)
    print(f"nats a token; highest {given.top:.0%} of an answer's tokens, replaced by: {given.baseline}")
    if not given.unlearn:
        return {"masking": found}
    runs = evals.faithfulness_by_unlearning(
        lm, task, table, objective=given.objective, settings=settings, seeds=seeds, progress=bar.tell
    )
    table_line(runs_table(runs))
    for name, reason in dict(zip(runs["weights"], runs["reason"], strict=True)).items():
        if reason:
            print(f"{name}: not available: {reason}")
    return {"masking": found, "runs": json.loads(runs.to_json(orient="records"))}


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds written as 0,1,2."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds takes whole numbers as 0,1,2, not {text}") from None


def runs_table(runs: pd.DataFrame) -> list[list[str]]:
    """Mean and range over the seeds of what runs reached, a line per weights."""
    names = [name for name in runs.columns if name not in {"weights", "seed", "reason"}]
    rows = [["weights", *(name.replace("_", " ") for name in names)]]
    for weights, part in runs[runs["reason"] == ""].groupby("weights", sort=False):
        means, least, most = (getattr(part[names], how)() for how in ("mean", "min", "max"))
        rows.append([str(weights), *(f"{means[n]:.2f} ({least[n]:.2f}-{most[n]:.2f})" for n in names)])
    return rows
