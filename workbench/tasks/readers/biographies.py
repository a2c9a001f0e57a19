"""The embedded task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.errors import UserError
from workbench.tasks.readers.official import task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import DATA, Task
from workbench.tasks.sources import rows


@task("biographies", source="embedded", certainty="sure")
def biographies(variant: str, data_dir: Path | None) -> Task:
    """160 fictional people, six facts each in three phrasings; 16 of them to forget. Made by `make data`."""
    if variant:
        raise UserError(f"task 'biographies' has no variant '{variant}'; write just 'biographies'")
    folder = data_dir or DATA / "biographies"
    names = ["forget", "retain", "neighbours", "general", "train_extra"]
    names += [name for name in ("nonmembers", "aliases", "two_hop") if (folder / f"{name}.jsonl").exists()]
    sets = {name: samples_from(rows(folder / f"{name}.jsonl"), name) for name in names}
    for name in ("forget", "retain", "neighbours"):  # the last part of an id: in which of three wordings
        sets[name] = [replace(s, about=(*s.about, ("phrasing", s.id.rpartition("-")[2]))) for s in sets[name]]
    if (file := folder / "phrasings.jsonl").exists():  # a row a fact, of which the forget set has three
        of_fact = {s.id.removesuffix("-phrasings"): s.phrasings for s in samples_from(rows(file), "phrasings")}
        sets["forget"] = [replace(s, phrasings=of_fact.get(s.id.rpartition("-")[0], ())) for s in sets["forget"]]
    return Task("biographies", sets)
