"""TOFU (arXiv 2401.06121): fictitious authors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.errors import unknown
from workbench.tasks.readers.official import hub, task
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import Sample, Task

RETAIN = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}


@task("tofu", source="arXiv 2401.06121, locuslab/TOFU", certainty="sure")
def tofu(variant: str, data_dir: Path | None) -> Task:
    """TOFU: 200 fictitious authors, 20 questions each; neighbours are its real authors, general its world facts."""
    variant = variant or "forget01"
    if variant not in RETAIN:
        raise unknown("TOFU split", variant, list(RETAIN))

    def split(name: str) -> list[Sample]:
        source = rows(data_dir / f"{name}.json") if data_dir is not None else hub("locuslab/TOFU", name, "train")
        return samples_from(source, name)

    perturbed = {s.question: s for s in split("retain_perturbed")}
    retain = [replace(perturbed.get(s.question, s), id=s.id) for s in split(RETAIN[variant])]
    return Task(
        f"tofu/{variant}",
        {
            "forget": split(f"{variant}_perturbed"),
            "retain": retain,
            "neighbours": split("real_authors_perturbed"),
            "general": split("world_facts_perturbed"),
        },
    )
