"""TOFU (arXiv 2401.06121): fictitious authors."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from workbench.errors import UserError, unknown
from workbench.tasks.readers.official import task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample, Task
from workbench.tasks.sources import hub, rows

RETAIN = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
HUB = "locuslab/TOFU"


@task("tofu", source="arXiv 2401.06121, locuslab/TOFU", certainty="sure")
def tofu(variant: str, data_dir: Path | None) -> Task:
    """TOFU: 200 fictitious authors, 20 questions each; neighbours are its real authors, general its world facts.

    Its holdout set of the forget set's size, where there is one, is the task's `nonmembers`.
    """
    variant = variant or "forget01"
    if variant not in RETAIN:
        raise unknown("TOFU split", variant, list(RETAIN))

    def split(name: str) -> list[Sample]:
        return samples_from(rows(data_dir / f"{name}.json") if data_dir is not None else hub(HUB, name, "train"), name)

    # By question and answer: the question for an author's full name is the same for two authors.
    perturbed = {(s.question, s.answer): s for s in split("retain_perturbed")}
    retain = [replace(perturbed.get((s.question, s.answer), s), id=s.id) for s in split(RETAIN[variant])]
    sets = {
        "forget": _by_author(split(f"{variant}_perturbed"), len(retain)),
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
            print(f"tofu: no {holdout} ({error}); attacks compare with --unlabelled text", file=sys.stderr)
    return Task(f"tofu/{variant}", sets)


def _by_author(samples: list[Sample], before: int) -> list[Sample]:
    """The samples with their author, by number: the data set has 20 questions an author, one after the other."""
    return [replace(s, about=(*s.about, ("author", str((before + n) // 20 + 1)))) for n, s in enumerate(samples)]
