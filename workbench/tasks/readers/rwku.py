"""RWKU (arXiv 2406.10890): famous people."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import UserError, unknown
from workbench.tasks.readers.official import RowList, columns, hub, listed, pieces, task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample, Task, spread

PASSAGES = "train_original_passage"
RETAIN_PIECES = 400  # pieces of passages about other subjects that are kept


@task("rwku", source="arXiv 2406.10890, jinzhuoran/RWKU", certainty="sure")
def rwku(variant: str, data_dir: Path | None) -> Task:
    """RWKU: passages about one famous person to forget, about others to keep; probes of three levels, and neighbours.

    The probes stand alone, without the instruction that RWKU's own evaluation puts before them.
    """

    def config(name: str) -> RowList:
        if data_dir is None:
            return hub("jinzhuoran/RWKU", name, "train" if name == PASSAGES else "test")
        folder = data_dir / "All" if (data_dir / "All").is_dir() else data_dir
        return listed(folder / ("passage.json" if name == PASSAGES else f"{name}.json"))

    passages = config(PASSAGES)
    subjects = [columns(row, where, "subject", "text")[0] for where, row in passages]
    subject = _subject(variant, list(dict.fromkeys(subjects)))
    forget = pieces([row for row, of in zip(passages, subjects, strict=True) if of == subject], "forget")
    others = pieces([row for row, of in zip(passages, subjects, strict=True) if of != subject], "retain")
    known = {s.answer for s in forget}

    def probes(name: str, *configs: str) -> list[Sample]:
        made = []
        for where, row in (each for one in configs for each in config(one)):
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


def _subject(name: str, known: list[str]) -> str:
    """The known subject of this name; letter case does not count, and underscores may stand for spaces."""

    def plain(text: str) -> str:
        return text.replace("_", " ").casefold()

    if not name:
        some = ", ".join(f"'rwku/{each}'" for each in known[:3])
        raise UserError(f"task 'rwku' needs one of its {len(known)} subjects, such as {some}")
    for each in known:
        if plain(each) == plain(name):
            return each
    raise unknown("RWKU subject", name, known)
