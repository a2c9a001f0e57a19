"""MUSE (arXiv 2407.06460): news articles and novels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.errors import UserError, check_known
from workbench.tasks.json_rows import RowList
from workbench.tasks.parts import numbered
from workbench.tasks.readers.official import columns, listed, pieces, task
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample, Task
from workbench.tasks.sources import hub

PARTS = ("sust", "scal")  # configurations with forget_1 to forget_4


@task("muse", source="arXiv 2407.06460, muse-bench/MUSE-News, muse-bench/MUSE-Books", certainty="sure")
def muse(variant: str, data_dir: Path | None) -> Task:
    """MUSE: news articles or novels to forget, cut into pieces; see `muse_knowmem` for its few-shot questions.

    `verbmem` has the beginnings of forget texts with their continuations, `nonmembers` texts that no model was trained
    on; `privleak_forget` has the forget texts that MUSE compares those with, if they are not the forget set itself.

    `muse/news/sust:1` to `sust:4` are the requests of MUSE's test of sustainability, one after the other, and
    `muse/news/scal:1` to `scal:4` its growing forget sets. What MUSE asks about its own forget set (`verbmem`,
    `knowmem`, `privleak`) is left out there, since no file says which of these texts it is about.
    """
    variant, _, part = variant.partition("/")
    if not variant:
        raise UserError("task 'muse' needs a corpus: write muse/news or muse/books")
    check_known("MUSE corpus", variant, ("news", "books"))

    def split(config: str, name: str) -> RowList:
        if data_dir is None:
            return hub(f"muse-bench/MUSE-{variant.title()}", config, name)
        folder = data_dir / variant if (data_dir / variant).is_dir() else data_dir
        return listed(folder / config / f"{name}.json")

    if part:
        return _request(f"muse/{variant}", part, split)
    raw, attacked = split("raw", "forget"), split("privleak", "forget")
    sets = {
        "forget": pieces(raw, "forget"),
        "retain": pieces(split("raw", "retain1"), "retain"),
        "verbmem": _continued(split("verbmem", "forget"), "verbmem"),
        "knowmem": _knowmem(split, "forget_qa", "knowmem"),
        "retain_knowmem": _knowmem(split, "retain_qa", "retain_knowmem"),
        "nonmembers": pieces(split("privleak", "holdout"), "nonmembers"),  # MUSE calls them its holdout
    }
    if [row for _, row in attacked] != [row for _, row in raw]:
        sets["privleak_forget"] = pieces(attacked, "privleak_forget")
    return Task(f"muse/{variant}", sets)


def _request(name: str, part: str, split: Callable[[str, str], RowList]) -> Task:
    """A task of one of the four forget sets of MUSE's `sust` or `scal`."""
    config = part.partition(":")[0]
    if config not in PARTS:
        raise UserError(f"task '{name}' has no part '{part}'; write {name}/sust:1 to sust:4, or scal:1 to scal:4")
    chosen = numbered(name, config, part, 4, first=1)
    forget = [row for n in chosen for row in split(config, f"forget_{n}")]
    sets = {
        "forget": pieces(forget, f"{config}-{'-'.join(map(str, chosen))}"),
        "retain": pieces(split("raw", "retain1"), "retain"),
        "retain_knowmem": _knowmem(split, "retain_qa", "retain_knowmem"),
        "nonmembers": pieces(split("privleak", "holdout"), "nonmembers"),
    }
    return Task(f"{name}/{part}", sets)


def _knowmem(split: Callable[[str, str], RowList], name: str, prefix: str) -> list[Sample]:
    return muse_knowmem(split("knowmem", name), split("knowmem", f"{name}_icl"), prefix)


def muse_knowmem(questions: RowList, examples: RowList, prefix: str) -> list[Sample]:
    """Questions after examples with their answers, in one text for the model to continue, as MUSE evaluates.

    As in MUSE the text ends in `Answer:` and a space, which is a token of its own with many tokenizers.
    """

    def exchange(question: str, answer: str) -> str:
        return f"Question: {question}\nAnswer: {answer}"

    shots = "".join(exchange(*columns(row, where, "question", "answer")) + "\n\n" for where, row in examples)
    prompts = []
    for where, row in questions:
        question, answer = columns(row, where, "question", "answer")
        prompts.append((where, {"question": shots + exchange(question, ""), "answer": answer, "continues": True}))
    return samples_from(prompts, prefix)


def _continued(source: RowList, prefix: str) -> list[Sample]:
    pairs = [(where, *columns(row, where, "prompt", "gt")) for where, row in source]
    made = [(where, {"question": prompt, "answer": rest, "continues": True}) for where, prompt, rest in pairs]
    return samples_from(made, prefix)
