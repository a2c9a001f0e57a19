"""Readers of the benchmarks' official data, from the hub or from a directory with their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.errors import UserError, unknown
from workbench.tasks.samples import DATA, Sample, Task, rows, samples_from, spread, task, text_in, text_of

PIECE_WORDS = 200  # a longer text is cut into pieces of at most so many words
RWKU_RETAIN = 400  # passages, or their pieces, about other subjects that are kept

Rows = Sequence[tuple[str, dict[str, Any]]]


@task("biographies", source="embedded", certainty="sure")
def biographies(variant: str, data_dir: Path | None) -> Task:
    """160 fictional people, six facts each in three phrasings; 16 of them to forget. Made by `make data`."""
    if variant:
        raise UserError(f"task 'biographies' has no variant '{variant}'; write just 'biographies'")
    folder = data_dir or DATA / "biographies"
    names = ["forget", "retain", "neighbours", "general", "train_extra"]
    if (folder / "nonmembers.jsonl").exists():
        names.append("nonmembers")
    return Task("biographies", {name: samples_from(rows(folder / f"{name}.jsonl"), name) for name in names})


@task("tofu", source="arXiv 2401.06121, locuslab/TOFU", certainty="sure")
def tofu(variant: str, data_dir: Path | None) -> Task:
    """TOFU: 200 fictitious authors, 20 questions each; neighbours are its real authors, held-out its world facts."""
    variant = variant or "forget01"
    splits = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
    if variant not in splits:
        raise unknown("TOFU split", variant, list(splits))
    perturbed = {s.question: s for s in _tofu_split("retain_perturbed", data_dir)}
    retain = [
        replace(perturbed[s.question], id=s.id) if s.question in perturbed else s
        for s in _tofu_split(splits[variant], data_dir)
    ]
    return Task(
        f"tofu/{variant}",
        {
            "forget": _tofu_split(f"{variant}_perturbed", data_dir),
            "retain": retain,
            "neighbours": _tofu_split("real_authors_perturbed", data_dir),
            "general": _tofu_split("world_facts_perturbed", data_dir),
        },
    )


def _tofu_split(split: str, data_dir: Path | None) -> list[Sample]:
    found = rows(data_dir / f"{split}.json") if data_dir is not None else _hub("locuslab/TOFU", split, "train")
    return samples_from(found, split)


@task("muse", source="arXiv 2407.06460, muse-bench/MUSE-News, muse-bench/MUSE-Books", certainty="sure")
def muse(variant: str, data_dir: Path | None) -> Task:
    """MUSE: news articles or novels to forget, cut into pieces; see `muse_knowmem` for its few-shot questions.

    `verbmem` has beginnings of forget texts and how they go on, `nonmembers` texts that no model was trained on;
    `privleak_forget` has the forget texts that MUSE compares those with, where they are not the forget set itself.
    """
    if not variant:
        raise UserError("task 'muse' needs a corpus: write muse/news or muse/books")
    if variant not in ("news", "books"):
        raise unknown("MUSE corpus", variant, ["news", "books"])

    def split(config: str, name: str) -> Rows:
        if data_dir is None:
            return _hub(f"muse-bench/MUSE-{variant.title()}", config, name)
        folder = data_dir / variant if (data_dir / variant).is_dir() else data_dir
        return _listed(folder / config / f"{name}.json")

    raw, attacked = split("raw", "forget"), split("privleak", "forget")
    sets = {
        "forget": pieces(raw, "forget"),
        "retain": pieces(split("raw", "retain1"), "retain"),
        "verbmem": _continued(split("verbmem", "forget"), "verbmem"),
        "knowmem": muse_knowmem(split("knowmem", "forget_qa"), split("knowmem", "forget_qa_icl"), "knowmem"),
        "retain_knowmem": muse_knowmem(
            split("knowmem", "retain_qa"), split("knowmem", "retain_qa_icl"), "retain_knowmem"
        ),
        "nonmembers": pieces(split("privleak", "holdout"), "nonmembers"),
    }
    if [row for _, row in attacked] != [row for _, row in raw]:
        sets["privleak_forget"] = pieces(attacked, "privleak_forget")
    return Task(f"muse/{variant}", sets)


def muse_knowmem(asked: Rows, examples: Rows, prefix: str) -> list[Sample]:
    """Questions after examples with their answers, in one text for the model to continue, as MUSE evaluates.

    The text ends in `Answer:` and a space, which with many tokenizers is a token of its own; so it is there.
    """

    def exchange(question: str, answer: str) -> str:
        return f"Question: {question}\nAnswer: {answer}"

    before = "".join(exchange(*_columns(row, where, "question", "answer")) + "\n\n" for where, row in examples)
    made = []
    for where, row in asked:
        question, answer = _columns(row, where, "question", "answer")
        made.append((where, {"question": before + exchange(question, ""), "answer": answer, "continues": True}))
    return samples_from(made, prefix)


def _continued(found: Rows, prefix: str) -> list[Sample]:
    made = []
    for where, row in found:
        beginning, rest = _columns(row, where, "prompt", "gt")
        made.append((where, {"question": beginning, "answer": rest, "continues": True}))
    return samples_from(made, prefix)


@task("rwku", source="arXiv 2406.10890, jinzhuoran/RWKU", certainty="sure")
def rwku(variant: str, data_dir: Path | None) -> Task:
    """RWKU: passages about one famous person to forget, about others to keep; probes of three levels, and neighbours.

    The probes are asked as they are, without the instruction that RWKU's own evaluation puts before them.
    """
    passages = "train_original_passage"

    def config(name: str) -> Rows:
        if data_dir is None:
            return _hub("jinzhuoran/RWKU", name, "train" if name == passages else "test")
        folder = data_dir / "All" if (data_dir / "All").is_dir() else data_dir
        return _listed(folder / ("passage.json" if name == passages else f"{name}.json"))

    found = config(passages)
    of_whom = [_columns(row, where, "subject", "text")[0] for where, row in found]
    subject = _subject(variant, list(dict.fromkeys(of_whom)))
    forget = pieces([row for row, whose in zip(found, of_whom, strict=True) if whose == subject], "forget")
    others = pieces([row for row, whose in zip(found, of_whom, strict=True) if whose != subject], "retain")
    known = {s.answer for s in forget}

    def probes(name: str, *configs: str) -> list[Sample]:
        made = []
        for where, row in (each for one in configs for each in config(one)):
            whose, query, answer = _columns(row, where, "subject", "query", "answer")
            if whose == subject:
                made.append((where, {"question": query, "answer": answer}))
        return samples_from(made, name)

    return Task(
        f"rwku/{subject}",
        {
            "forget": forget,
            "retain": spread([s for s in others if s.answer not in known], RWKU_RETAIN),
            "neighbours": probes("neighbours", "neighbor_level1", "neighbor_level2"),
            "fill_blank": probes("fill_blank", "forget_level1"),
            "qa": probes("qa", "forget_level2"),
            "adversarial": probes("adversarial", "forget_level3"),
        },
    )


def _subject(asked: str, known: list[str]) -> str:
    """The subject that is meant, upper and lower case and underscores for spaces aside."""

    def plain(name: str) -> str:
        return name.replace("_", " ").casefold()

    if not asked:
        some = ", ".join(f"'rwku/{name}'" for name in known[:3])
        raise UserError(f"task 'rwku' needs one of its {len(known)} subjects, such as {some}")
    for name in known:
        if plain(name) == plain(asked):
            return name
    raise unknown("RWKU subject", asked, known)


LUME_TASKS = {"Task1": "task1", "Task2": "task2", "Task3": "task3"}


@task("lume", source="arXiv 2502.15097, amazon-science/lume-llm-unlearning", certainty="sure")
def lume(variant: str, data_dir: Path | None) -> Task:
    """LUME: invented stories (task1), invented personal data (task2), real biographies (task3), or all three.

    The hub has the part that was given out for SemEval 2025, task 4, and only to those who have asked for access.
    """
    if variant and variant not in LUME_TASKS.values():
        raise unknown("LUME task", variant, list(LUME_TASKS.values()))
    sets = {}
    for name in ("forget", "retain"):
        if data_dir is not None:
            found: Rows = list(rows(data_dir / f"{name}.jsonl"))
        else:
            hub = "llmunlearningsemeval2025organization/semeval25-unlearning-dataset-public"
            found = [row for part in ("train", "validation") for row in _hub(hub, "default", f"{name}_{part}")]
        sets[name] = samples_from(_lume_samples(found, variant), name)
    return Task(f"lume/{variant}" if variant else "lume", sets)


def _lume_samples(found: Rows, variant: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in found:
        identity, asked, answer, name = _columns(row, where, "id", "input", "output", "task")
        kind = re.search(r"(sc|qa)\d+$", identity)
        if kind is None:
            raise UserError(f"{where}: 'id' must end in sc or qa and a number, found '{identity}'")
        if name not in LUME_TASKS:
            raise UserError(f"{where}: 'task' must be one of {', '.join(LUME_TASKS)}, found '{name}'")
        if variant in ("", LUME_TASKS[name]):
            yield where, {"id": identity, "question": asked, "answer": answer, "continues": kind[1] == "sc"}


def pieces(texts: Iterable[tuple[str, dict[str, Any]]], prefix: str) -> list[Sample]:
    """Plain text samples of rows with a `text`; one of over `PIECE_WORDS` words is cut into pieces of like length.

    Cuts are between words, and lose the white space there. A blank text gives no sample.
    """
    made = []
    for n, (where, row) in enumerate(texts):
        if not isinstance(row.get("text"), str):
            raise UserError(f"{where}: needs 'text', a string; found {', '.join(sorted(row)) or 'nothing'}")
        words = [word.span() for word in re.finditer(r"\S+", row["text"])]
        count = -(-len(words) // PIECE_WORDS)
        for part in range(count):
            first, last = part * len(words) // count, (part + 1) * len(words) // count - 1
            text = row["text"][words[first][0] : words[last][1]]
            made.append((where, {"id": f"{prefix}-{n:04d}-{part:03d}", "text": text}))
    return samples_from(made, prefix)


def _columns(row: dict[str, Any], where: str, *names: str) -> list[str]:
    """The texts in some columns of a row; there must be one in each."""
    if any(name not in row for name in names):
        expected = ", ".join(f"'{name}'" for name in names)
        raise UserError(f"{where}: needs {expected}; found {', '.join(sorted(row)) or 'nothing'}")
    return [text_in(row, name, where, required=True) or "" for name in names]


def _hub(name: str, config: str, split: str) -> Rows:
    """Rows of a data set of the hub, each with where it stands."""
    where = f"{name} {config}/{split}"
    try:
        from datasets import load_dataset

        return [(f"{where} row {n}", dict(row)) for n, row in enumerate(load_dataset(name, config, split=split))]
    except Exception as error:
        raise UserError(
            f"{where} cannot be fetched from the hub ({type(error).__name__}); "
            "give the directory of the official files with --data-dir"
        ) from error


def _listed(path: Path) -> Rows:
    """Rows of a JSON file with one list, each with its file, line and place in the list; a string is a row's `text`.

    Where there is no such file, the rows are those of a JSON Lines file of that name, or the whole of a `.txt` file.
    """
    plain = path.with_suffix(".txt")
    if plain.exists() and not path.exists():
        return [(f"{plain}:1", {"text": text_of(plain, "text")})]
    text = text_of(path, "JSON")
    if not text.lstrip().startswith("["):
        return list(rows(path))
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    return list(_entries(path, text))


def _entries(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a well-formed JSON list."""
    decoder, gap = json.JSONDecoder(), re.compile(r"[\s,]*")
    end, line, n = text.index("[") + 1, 1, 0
    line += text.count("\n", 0, end)
    while True:
        start = end + len(gap.match(text, end)[0])  # type: ignore[index]
        if text[start] == "]":
            return
        line += text.count("\n", end, start)
        where = f"{path}:{line} entry {n}"
        entry, end = decoder.raw_decode(text, start)
        if not isinstance(entry, str | dict):
            raise UserError(f"{where}: expected an object or a string, found {type(entry).__name__}")
        yield where, {"text": entry} if isinstance(entry, str) else entry
        line, n = line + text.count("\n", start, end), n + 1
