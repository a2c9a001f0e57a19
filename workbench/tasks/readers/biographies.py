"""The embedded task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.tasks.parts import numbered
from workbench.tasks.readers.official import task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import DATA, Task
from workbench.tasks.sources import rows

PERSONAL = ("forget", "aliases", "two_hop")  # sets about the people to forget


@task("biographies", source="embedded", certainty="sure")
def biographies(variant: str, data_dir: Path | None) -> Task:
    """160 fictional people, six facts each in three phrasings; 16 of them to forget. Made by `make data`.

    `biographies/person:0`, `person:0,1` or `person:4-7` forgets some of the 16 alone; the others are then in no set, so
    that no training touches them.
    """
    folder = data_dir or DATA / "biographies"
    names = ["forget", "retain", "neighbours", "general", "train_extra"]
    names += [name for name in ("nonmembers", "aliases", "two_hop") if (folder / f"{name}.jsonl").exists()]
    read = {name: list(rows(folder / f"{name}.jsonl")) for name in names}
    if variant:
        people = list(dict.fromkeys(str(row.get("person", "")) for _, row in read["forget"]))
        chosen = {people[n] for n in numbered("biographies", "person", variant, len(people))}
        read |= {n: [row for row in read[n] if row[1].get("person", "") in chosen] for n in PERSONAL if n in read}
    sets = {name: samples_from(of_set, name) for name, of_set in read.items()}
    for name in ("forget", "retain", "neighbours"):  # the last part of an id: in which of three wordings
        sets[name] = [replace(s, about=(*s.about, ("phrasing", s.id.rpartition("-")[2]))) for s in sets[name]]
    if (file := folder / "phrasings.jsonl").exists():  # a row a fact, of which the forget set has three
        of_fact = {s.id.removesuffix("-phrasings"): s.phrasings for s in samples_from(rows(file), "phrasings")}
        sets["forget"] = [replace(s, phrasings=of_fact.get(s.id.rpartition("-")[0], ())) for s in sets["forget"]]
    return Task(f"biographies/{variant}" if variant else "biographies", sets)
