"""Rows of LUME with span labels that are made by construction: every name, number and address of the part to complete.

    python benchmarks/lume_rows.py --data-dir DIR --out OUT
    workbench finetune --forget OUT/forget.jsonl --retain OUT/retain.jsonl --unlabelled OUT/unlabelled.jsonl
        --model smollm2 --prompt plain --epochs 7 --set seed=0 --out PLANTED
    workbench score --forget OUT/forget.jsonl --retain OUT/retain.jsonl --unlabelled OUT/unlabelled.jsonl
        --model PLANTED --prompt plain --scorer specificity,surprisal --out scores.parquet
    workbench align scores.parquet

Only LUME's texts to complete are used, the first so many of each task: to plant (`--rows`, as `forget`), to keep (as
`retain`) and, as text of the same kind that the model has not read, all other rows up to `--others`.

A name is a word that begins with a capital and does not begin a sentence, or begins one before another such word, or
is a name elsewhere in the row; "Social Security Number" is none. A number is a word with a digit, with the marks inside
it; an address has an @. So names that only begin sentences are missed, and titles count. The labels are for measuring.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from pathlib import Path
from typing import Any

MARKS = "'\u2019"  # within a word, and after a sentence
WORD = re.compile(rf"[^\W_][\w.@#/:+{MARKS}-]*[^\W_]|[^\W_]")
ADDRESS = re.compile(r"\S*@\S*[^\W_]")
BEGINS = re.compile(rf"(?:^|[.!?:][\"\u201d){MARKS}]*\s+|\n\s*)[\"\u201c\u2018(']*$")
FIELD = re.compile(r"Social Security (?:Number|number)")


def facts(before: str, text: str) -> list[list[int]]:
    """Character spans of the names, numbers and addresses in a text that goes on from another."""
    whole = before + " " + text
    start = len(before) + 1
    words = [(m.start(), m.end()) for m in WORD.finditer(whole)]
    fields = [m.span() for m in FIELD.finditer(whole)]
    words = [(a, b) for a, b in words if not any(c <= a < d for c, d in fields)]
    capitals = {a for a, b in words if whole[a].isupper() and whole[a:b] != "I"}
    following = {a: c for (a, b), (c, _) in itertools.pairwise(words) if whole[b:c] == " "}
    named = {
        whole[a:b].removesuffix("'s")
        for a, b in words
        if a in capitals and (not BEGINS.search(whole[:a]) or following.get(a) in capitals)
    }
    chosen = [
        [a, b]
        for a, b in words
        if a >= start and (whole[a:b].removesuffix("'s") in named or any(c.isdigit() for c in whole[a:b]))
    ]
    chosen += [[m.start(), m.end()] for m in ADDRESS.finditer(whole, start)]
    joined: list[list[int]] = []
    for a, b in sorted(chosen):  # overlapping ones as one
        if joined and a < joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], b)
        else:
            joined.append([a, b])
    return [[a - start, b - start] for a, b in joined]


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    """By task, the rows to complete of one of LUME's files."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if re.search(r"sc\d+$", row["id"]):
            made = {
                "id": row["id"].replace('"', ""),
                "question": row["input"],
                "answer": row["output"],
                "continues": True,
            }
            by_task.setdefault(row["task"], []).append(made | {"task": row["task"]})
    return by_task


def main() -> None:
    """Write the three files."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data-dir", required=True, help="with LUME's forget.jsonl and retain.jsonl")
    options.add_argument("--out", required=True)
    options.add_argument("--rows", type=int, default=25, help="of each task, to forget")
    options.add_argument("--kept", type=int, default=15, help="of each task, to retain")
    options.add_argument("--others", type=int, default=200, help="in all, that are not read")
    args = options.parse_args()
    forget, retain = (rows_of(Path(args.data_dir) / f"{name}.jsonl") for name in ("forget", "retain"))
    sets: dict[str, list[dict[str, Any]]] = {"forget": [], "retain": [], "unlabelled": []}
    for task in sorted(forget):
        sets["forget"] += [r | {"spans": facts(r["question"], r["answer"])} for r in forget[task][: args.rows]]
        sets["retain"] += retain[task][: args.kept]
        sets["unlabelled"] += retain[task][args.kept : args.kept + args.others // len(forget)]
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for name, rows in sets.items():
        (Path(args.out) / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{args.out}/{name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main()
