"""A task of long passages for `compute_to_forget`: what is known of a person, among sentences about nobody.

    python benchmarks/passages.py --out DIR
    workbench finetune --forget DIR/forget.jsonl --retain DIR/retain.jsonl --model bio-full ... --out DIR/planted
    workbench finetune ... --model bio-retain --retain-only --out DIR/never
    python benchmarks/compute_to_forget.py --forget DIR/forget.jsonl --retain DIR/retain.jsonl --model DIR/planted
        --retain-only DIR/never --by probability --unrehearsed 24 --keep retain,unrehearsed

People and facts are those of the embedded biographies: one sentence for each fact of a person, in the wording that the
seed draws, among sentences of its plain text. As MUSE's, a passage is forgotten as a whole. The last line counts the
tokens of a passage, and those of them that are a labelled fact's.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any


def people_of(samples: Sequence[Any]) -> dict[str, dict[str, list[Any]]]:
    """Person -> fact -> its samples, by ids such as celia-nash-town-0."""
    people: dict[str, dict[str, list[Any]]] = {}
    for sample in samples:
        person, fact, _ = sample.id.rsplit("-", 2)
        people.setdefault(person, {}).setdefault(fact, []).append(sample)
    return people


def passage(person: str, facts: dict[str, list[Any]], plain: Sequence[Any], words: int, draw: random.Random) -> Any:
    """A row: the facts in some order, and plain sentences between them until there are so many words."""
    sentences = [draw.choice(samples) for samples in facts.values()]
    while sum(len(s.answer.split()) for s in sentences) < words:
        sentences.append(draw.choice(plain))
    draw.shuffle(sentences)
    name = " ".join(part.capitalize() for part in person.split("-"))
    text, spans = "", []
    for sentence in sentences:
        start = len(text) + bool(text)
        text = f"{text} {sentence.answer}".strip()
        spans += [[start + a, start + b] for a, b in sentence.spans or ()]
    return {"id": person, "question": f"What do the papers say about {name}?", "answer": text, "spans": spans}


def main() -> None:
    """Write both files; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--forget", type=int, default=16, help="people to forget")
    options.add_argument("--retain", type=int, default=72)
    options.add_argument("--words", type=int, default=190, help="of a passage, at least")
    args = options.parse_args()

    from workbench.models import load
    from workbench.tasks import TaskSpec

    task, draw, lm = TaskSpec("biographies").load(), random.Random(0), load("bio-full")
    args.out.mkdir(parents=True, exist_ok=True)
    counts: list[tuple[int, int]] = []
    for name, few in (("forget", args.forget), ("retain", args.retain)):
        people = list(people_of(task.sets[name]).items())[:few]
        rows = [passage(who, facts, task.sets["train_extra"], args.words, draw) for who, facts in people]
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            places = lm.tokenizer(row["answer"], return_offsets_mapping=True).offset_mapping
            counts.append((len(places), sum(any(a < e and s < b for s, e in row["spans"]) for a, b in places)))
    lengths, facts = zip(*counts, strict=True)
    print(json.dumps({"passages": len(counts), "tokens": mean(lengths), "longest": max(lengths), "facts": mean(facts)}))


if __name__ == "__main__":
    main()
