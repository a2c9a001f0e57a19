"""RWKU (arXiv 2406.10890): famous people."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.errors import UserError, unknown
from workbench.tasks.json_rows import RowList
from workbench.tasks.readers.official import columns, listed, pieces, task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample, Task, spread
from workbench.tasks.sources import hub

PASSAGES = "train_original_passage"
NUMBERED = re.compile(r"\d+_.+")  # the folder of one subject
RETAIN_PIECES = 400  # pieces of passages about other subjects that are kept


@task("rwku", source="arXiv 2406.10890, jinzhuoran/RWKU", certainty="sure")
def rwku(variant: str, data_dir: Path | None) -> Task:
    """RWKU: passages about one famous person to forget, about others to keep; probes of three levels, and neighbours.

    The probes stand alone, without the instruction that RWKU's own evaluation puts before them. The directory has the
    files of all subjects, or a folder for each (`1_Stephen_King`, ...), as RWKU's own script writes them; one of these
    folders, beside the others, names its subject too.
    """
    folders = _folders(data_dir) if data_dir is not None else []

    def config(name: str, of: list[Path]) -> RowList:
        if data_dir is None:
            return hub("jinzhuoran/RWKU", name, "train" if name == PASSAGES else "test")
        file = "passage.json" if name == PASSAGES else f"{name}.json"
        return [row for folder in of for row in listed(folder / file)]

    passages = config(PASSAGES, folders)
    subjects = [columns(row, where, "subject", "text")[0] for where, row in passages]
    if not variant and data_dir is not None and NUMBERED.fullmatch(data_dir.absolute().name):
        variant = data_dir.absolute().name.partition("_")[2]
    subject = _subject(variant, list(dict.fromkeys(subjects)))
    forget = pieces([row for row, of in zip(passages, subjects, strict=True) if of == subject], "forget")
    others = pieces([row for row, of in zip(passages, subjects, strict=True) if of != subject], "retain")
    known = {s.answer for s in forget}
    own = [each for each in folders if _plain(each.name.partition("_")[2]) == _plain(subject)] or folders

    def probes(name: str, *configs: str) -> list[Sample]:
        made = []
        for where, row in (each for one in configs for each in config(one, own)):
            of, query, answer = columns(row, where, "subject", "query", "answer")
            if of == subject:
                made.append((where, {"question": query, "answer": answer}))
        return samples_from(made, name)

    return Task(
        f"rwku/{subject}",
        {
            "forget": forget,
            "retain": spread([s for s in others if s.answer not in known], RETAIN_PIECES),
            "neighbours": probes("neighbours", "neighbor_level1", "neighbor_level2"),
            "fill_blank": probes("fill_blank", "forget_level1"),
            "qa": probes("qa", "forget_level2"),
            "adversarial": probes("adversarial", "forget_level3"),
        },
    )


def _folders(folder: Path) -> list[Path]:
    """The folder with all subjects' files, or the folders of the subjects in the order of their numbers."""
    if (folder / "All").is_dir():
        return [folder / "All"]
    above = folder.absolute().parent if NUMBERED.fullmatch(folder.absolute().name) else folder
    for place in (above / "Target", above):
        numbered = [file.parent for file in place.glob("*/passage.json") if NUMBERED.fullmatch(file.parent.name)]
        if numbered:
            return sorted(numbered, key=lambda each: int(each.name.partition("_")[0]))
    return [folder]


def _plain(name: str) -> str:
    """A subject's name for comparing: letter case does not count, and underscores may stand for spaces."""
    return name.replace("_", " ").casefold()


def _subject(name: str, known: list[str]) -> str:
    """The known subject of this name."""
    if not name:
        some = ", ".join(f"'rwku/{each}'" for each in known[:3])
        raise UserError(f"task 'rwku' needs one of its {len(known)} subjects, such as {some}")
    for each in known:
        if _plain(each) == _plain(name):
            return each
    raise unknown("RWKU subject", name, known)
