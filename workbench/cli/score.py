"""The command that scores the answer tokens of a forget set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.console import Progress, say
from workbench.cli.options import ModelOptions, TaskOptions, command, flag, option, settings
from workbench.errors import UserError
from workbench.files import writable, write_text, writing
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.models import LanguageModel
    from workbench.scorers import ScoreFile
    from workbench.tasks import Task


@command
def score(
    task: TaskOptions,
    model: ModelOptions,
    scorer: Annotated[str, option("A,B,C", "names, 'all', or a saved FILE.safetensors")],
    out: Annotated[Path, option("FILE.parquet", "the score table")],
    reference: Annotated[str | None, option("MODEL", "for scorers that compare with a second model")] = None,
    seed: Annotated[int, option("N", "random seed")] = 0,
    html: Annotated[Path | None, option("FILE.html", "also write the scores as highlighted text")] = None,
    save: Annotated[Path | None, option("FILE.safetensors", "save the learned scorer, to score other text")] = None,
    resume: Annotated[bool, flag("--resume", "keep the scorers that are already in --out")] = False,
    pairs: Annotated[list[str], settings("options of the scorers, e.g. signal=entropy preset=published")] = [],  # noqa: B006
) -> dict[str, Any]:
    """Score the answer tokens of the forget set."""
    with uninterrupted():
        from workbench.models import load
        from workbench.runs import scorer_options
        from workbench.scorers import ScoreFile, apply_scorer, check_needs, load_scorer, save_scorer
        from workbench.unlearning import score_parts
        from workbench.view import scores_page
    loaded = task.spec().load()
    names = list(dict.fromkeys(scorer.split(",")))
    everything = names == ["all"]
    if everything:
        names = all_scorers(loaded, bool(reference))
    files = [name for name in names if name.endswith(".safetensors")]
    named = [name for name in names if name not in files]
    check_needs(named, bool(reference))
    options = scorer_options(pairs, named)
    keeper = check_save(save, named, options) if save else None
    for path in filter(None, (out, html, save)):
        writable(path)
    learners = [load_scorer(Path(name)) for name in files]
    learner_names = [learner.name for learner in learners]
    if len({*learner_names, *named}) < len(learners) + len(named):
        raise UserError("two scorers of one name cannot share a table; score them into tables of their own")
    lm = model.load()
    second = load(reference, **lm.like()) if reference else None
    file = ScoreFile(out, made_from(seed, loaded, lm, second), [*learner_names, *named], options)
    if resume:
        file.reopen()
        if keeper and keeper not in file.missing:  # what it learned is not in the table
            file.missing.append(keeper)
    for learner in learners:
        file.add(apply_scorer(learner.to(lm.device), lm, loaded.forget, task=loaded.name))
    learned: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    parts = score_parts(
        lm,
        loaded,
        file.missing,
        reference=second,
        seed=seed,
        options=options,
        learned=learned,
        notes=file.notes,
        progress=Progress(),
        failed=leaving_out(left_out) if everything else None,
    )
    try:
        for part in parts:
            file.add(part)
    except KeyboardInterrupt:
        Progress.end_line()
        done = ", ".join(name for name in file.names if name not in file.missing) or "none"
        say(f"workbench: finished scorers, kept in {out}: {done}; --resume continues from there", error=True)
        raise
    result = summary(file, out)
    if save and keeper:
        with writing(save) as aside:
            save_scorer(learned[keeper], aside)
        say(save)
    if html:
        write_text(html, scores_page(file.table, {s.id: (s.question, s.answer) for s in loaded.forget}))
        say(html)
    return result | {"left_out": left_out}


def leaving_out(reasons: dict[str, str]) -> Callable[[str, UserError], None]:
    """Called for a scorer that this model cannot have: keep and print the reason."""

    def failed(name: str, reason: UserError) -> None:
        Progress.end_line()
        reasons[name] = str(reason)
        say(f"left out: {'' if str(reason).startswith(name) else f'{name}: '}{reason}", error=True)

    return failed


def all_scorers(task: Task, reference: bool) -> list[str]:
    """Scorers that have what they need and are not slow; prints which are left out for their time."""
    from workbench.scorers import scorer

    have = {"reference": reference, "text": True, "spans": all(s.spans is not None for s in task.forget)}
    able = [n for n in scorer if all(have[need] for need in scorer[n].needs)]
    quick = [n for n in able if not scorer[n].slow]
    say(f"left out because they are slow: {', '.join(n for n in able if n not in quick)}", error=True)
    return quick


def check_save(path: Path, named: list[str], options: dict[str, dict[str, Any]]) -> str:
    """The one learned scorer that --save keeps."""
    from workbench.scorers import KINDS

    keepers = [name for name in named if name in KINDS]
    if len(keepers) != 1:
        raise UserError(f"--save keeps one learned scorer ({' or '.join(KINDS)}); --scorer names {len(keepers)}")
    if path.suffix != ".safetensors":
        raise UserError(f"--save takes FILE.safetensors, not {path}")
    if options[keepers[0]].get("text") == "forget":
        raise UserError("cross-fitted scores come from several maps, so there is none to --save; leave text=forget out")
    return keepers[0]


def made_from(seed: int, task: Task, lm: LanguageModel, reference: LanguageModel | None) -> dict[str, Any]:
    """What scores depend on, beside the scorers' options."""
    unlabelled = repr(task.sets.get("unlabelled", []))
    return {
        "task": task.name,
        "data_sha256": task.fingerprint,
        "unlabelled_sha256": hashlib.sha256(unlabelled.encode()).hexdigest(),
        "model_sha256": lm.fingerprint(),
        "reference_sha256": reference.fingerprint() if reference else None,
        **lm.style(),
        "precision": lm.precision,
        "seed": seed,
        "versions": {name: version(name) for name in ("unlearning-workbench", "captum", "torch", "transformers")},
    }


def summary(file: ScoreFile, out: Path) -> dict[str, Any]:
    """Print what the table holds, and each scorer's notes: what was attributed to what, and what is not available."""
    table = file.table
    answers = table[table["segment"] == "answer"].drop_duplicates(["sample_id", "position"])
    names, notes = list(table["scorer"].unique()), table.attrs["notes"]
    say(f"{answers['sample_id'].nunique()} answers, {len(answers)} tokens, {len(names)} scorers: {out}")
    for name, note in notes.items():
        parts = [f"{key} {note[key]}" for key in ("target", "units", "baseline") if key in note]
        if confidence := note.get("confidence"):
            parts.append(confidence["line"])
        if delta := note.get("completeness_delta"):
            parts.append(f"completeness delta {delta['median']:.2%}, at most {delta['largest']:.2%}")
        if parts:
            say(f"{name}: {', '.join(parts)}")
        samples: dict[str, list[str]] = {}
        for sample, reason in note.get("not_available", {}).items():
            samples.setdefault(reason, []).append(sample)
        for reason, ids in samples.items():
            more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
            say(f"{name}: not available for {', '.join(map(repr, ids[:3]))}{more}: {reason}")
    return {"out": str(out), "scorers": names, "tokens": len(answers), "notes": notes}
