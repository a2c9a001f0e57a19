"""TOFU (arXiv 2401.06121): fictitious authors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.errors import UserError, check_known, note
from workbench.tasks.parts import numbered
from workbench.tasks.readers.official import task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample, Task
from workbench.tasks.sources import hub, rows

RETAIN = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
HUB = "locuslab/TOFU"
QUESTIONS = 20  # about each author, one after the other


@task("tofu", source="arXiv 2401.06121, locuslab/TOFU", certainty="sure")
def tofu(variant: str, data_dir: Path | None) -> Task:
    """TOFU: 200 fictitious authors, 20 questions each; neighbours are its real authors, general its world facts.

    Its holdout set of the forget set's size, where there is one, is the task's `nonmembers`. `tofu/forget01/author:0`
    forgets one of its authors alone, `author:0,1` two; the others are then in no set.
    """
    variant, _, part = (variant or "forget01").partition("/")
    check_known("TOFU split", variant, RETAIN)

    def split(name: str) -> list[Sample]:
        return samples_from(rows(data_dir / f"{name}.json") if data_dir is not None else hub(HUB, name, "train"), name)

    # By question and answer: the question for an author's full name is the same for two authors.
    perturbed = {(s.question, s.answer): s for s in split("retain_perturbed")}
    retain = [replace(perturbed.get((s.question, s.answer), s), id=s.id) for s in split(RETAIN[variant])]
    forget = _by_author(split(f"{variant}_perturbed"), len(retain))
    if part:
        chosen = numbered(f"tofu/{variant}", "author", part, len(forget) // QUESTIONS)
        forget = [sample for n in chosen for sample in forget[n * QUESTIONS : (n + 1) * QUESTIONS]]
    sets = {
        "forget": forget,
        "retain": _by_author(retain, 0),
        "neighbours": split("real_authors_perturbed"),
        "general": split("world_facts_perturbed"),
    }
    holdout = variant.replace("forget", "holdout")
    if data_dir is None or (data_dir / f"{holdout}.json").exists():
        try:
            sets["nonmembers"] = split(holdout)
        except UserError as error:
            if data_dir is not None:
                raise
            note(f"tofu: no {holdout} ({error}); attacks compare with --unlabelled text")
    return Task(f"tofu/{variant}/{part}" if part else f"tofu/{variant}", sets)


def _by_author(samples: list[Sample], before: int) -> list[Sample]:
    """The samples with their author, by number: the data set has `QUESTIONS` an author, one after the other."""
    return [replace(s, about=(*s.about, ("author", str((before + n) // QUESTIONS + 1)))) for n, s in enumerate(samples)]
