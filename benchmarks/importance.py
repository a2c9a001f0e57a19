"""Which signal, which penalty, which combination finds the facts: the amortised map and `specificity` taken apart.

    .venv/bin/python benchmarks/importance.py biographies --model bio-full [--reference bio-retain]
    .venv/bin/python benchmarks/importance.py tofu/forget01 --data-dir DIR --spans FILE --retain-rows 160 --model DIR

One pass over the forget answers and over (at most) the largest of `--rows` other samples; then, for every number of
rows, mean AUROC / average precision over `--seeds` random choices of them. Labels serve for measuring alone. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from workbench.cli.console import table_line
from workbench.models import Encoding, batches, encode, load, token_stats
from workbench.scorers import GRID, draw_folds, novelty, rarity, ridge_by_sample
from workbench.tasks import Sample, TaskSpec

SIGNALS = {
    "surprisal": lambda nll, entropy: nll,
    "entropy": lambda nll, entropy: entropy,
    "entropy squared": lambda nll, entropy: entropy**2,
    "alternatives": lambda nll, entropy: entropy.exp(),
}
FORMS = {
    "q": lambda q, r, c: q,
    "q c": lambda q, r, c: q * c,
    "q r": lambda q, r, c: q * r,
    "q r c": lambda q, r, c: q * r * c,
    "q sqrt(r)": lambda q, r, c: q * r**0.5,
    "q sqrt(r c)": lambda q, r, c: q * (r * c) ** 0.5,
    "q + r": lambda q, r, c: q + r,
    "2 q + r": lambda q, r, c: 2 * q + r,
    "r": lambda q, r, c: r,
    "r c": lambda q, r, c: r * c,
}


@torch.no_grad()
def read(lm: Any, samples: list[Sample], layer: int) -> list[dict[str, torch.Tensor]]:
    """Per sample: states at the token and at the one that predicts it, l_t and the entropy, of the answer tokens."""
    found: list[dict[str, torch.Tensor]] = [{}] * len(samples)
    for indices, batch in batches(lm, [encode(lm, s) for s in samples], 16):
        at = token_stats(lm, batch, hidden="token", layer=layer)
        before = token_stats(lm, batch, extras=False, hidden="predicting", layer=layer)
        for row, index in enumerate(indices):
            mine = at.rows == row
            parts = {"token": at.hidden, "predicting": before.hidden, "nll": at.nll, "entropy": at.entropy}
            found[index] = {name: value[mine] for name, value in parts.items() if value is not None}
    return found


def quantile_scores(
    text: list[dict[str, torch.Tensor]], forget: list[dict[str, torch.Tensor]], folds: list[int], signal: str,
    hidden: str, grid: list[float],
) -> tuple[np.ndarray, float]:  # fmt: skip
    """What the map says of the forget tokens, as quantiles, and the penalty."""
    values = torch.cat([SIGNALS[signal](part["nll"], part["entropy"]) for part in text])
    states = torch.cat([part[hidden] for part in text])
    groups = torch.cat([torch.full((len(part["nll"]),), fold) for part, fold in zip(text, folds, strict=True)])
    started = time.perf_counter()
    tensors, penalty, _ = ridge_by_sample(states, values, groups, grid)
    if len(grid) > 1:
        print(f"fit on {len(states)} tokens: {time.perf_counter() - started:.2f} s", file=sys.stderr)
    asked = torch.cat([part[hidden] for part in forget])
    fitted = ((asked - tensors["shift"]) / tensors["scale"]) @ tensors["w"] + tensors["b"]
    return (torch.searchsorted(tensors["quantiles"], fitted) / len(tensors["quantiles"])).numpy(), penalty


def over_words(encodings: list[Encoding], scores: np.ndarray) -> np.ndarray:
    """Each token's score replaced by the mean over its word; a word begins where the text before it is a space."""
    words, number = [], 0
    for encoding in encodings:
        for position in encoding.answer_positions:
            start, end = encoding.ranges[position]
            text = encoding.sample.answer
            number += start == end or text[start] == " " or start == 0 or text[start - 1] == " "
            words.append(number)
    groups = np.array(words)
    return (np.bincount(groups, scores) / np.maximum(1, np.bincount(groups)))[groups]


def main() -> None:
    """Measure every part; print the tables, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("task", nargs="?", default="biographies")
    for name in ("data-dir", "forget", "retain", "spans", "unlabelled", "model", "prompt", "device", "precision"):
        options.add_argument(f"--{name}", default="bio-full" if name == "model" else None)
    options.add_argument("--retain-rows", type=int)
    options.add_argument("--reference", metavar="MODEL")
    options.add_argument("--rows", default="100,250,500,900")
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--layer", type=int, default=-1)
    args = options.parse_args()
    files = {
        name: getattr(args, name) for name in ("data_dir", "forget", "retain", "spans", "retain_rows", "unlabelled")
    }
    task = TaskSpec(name=None if args.forget else args.task, **files).load()
    lm = load(args.model, device=args.device, precision=args.precision, prompt=args.prompt)
    known = task.sets.get("unlabelled") or task.retain
    most = min(len(known), max(map(int, args.rows.split(","))))
    chosen = [known[i] for i in np.random.default_rng(0).choice(len(known), most, replace=False)]
    encodings = [encode(lm, s) for s in task.forget]
    stands = np.concatenate([[a < b for a, b in (e.ranges[p] for p in e.answer_positions)] for e in encodings])
    labels = np.concatenate([np.array(e.span_labels(), dtype=bool) for e in encodings])[stands]
    models = {"self": lm} | ({"reference": load(args.reference, **lm.like())} if args.reference else {})
    text = {name: read(model, chosen, args.layer) for name, model in models.items()}
    forget = {name: read(model, task.forget, args.layer) for name, model in models.items()}
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    others = [encode(lm, s) for s in (*task.retain, *task.sets.get("unlabelled", []))]
    r, c = (np.concatenate(factor(lm, encodings, others)) for factor in (rarity, novelty))
    print(f"rarity: {time.perf_counter() - started:.1f} s", file=sys.stderr)

    def note(count: int, seed: int, part: str, scores: np.ndarray, penalty: float = 0.0) -> None:
        found = (roc_auc_score(labels, scores[stands]), average_precision_score(labels, scores[stands]))
        rows.append({"rows": count, "seed": seed, "part": part, "auroc": found[0], "ap": found[1], "ridge": penalty})

    for count in sorted({min(most, int(n)) for n in args.rows.split(",")}):
        for seed in map(int, args.seeds.split(",")):
            places = np.random.default_rng(seed).choice(most, count, replace=False)
            samples = [chosen[i] for i in places]
            fold_of = draw_folds(samples, seed)
            folds = [fold_of[s.id] for s in samples]
            q: dict[str, np.ndarray] = {}
            for name in models:
                some = [text[name][i] for i in places]
                for signal in SIGNALS:
                    q[name], penalty = quantile_scores(some, forget[name], folds, signal, "token", GRID)
                    note(count, seed, f"{name}: q of {signal}", q[name], penalty)
                seen, penalty = quantile_scores(some, forget[name], folds, "alternatives", "predicting", GRID)
                note(count, seed, f"{name}: q of alternatives, predicting state", seen, penalty)
                for penalty in (0.01, 0.1, 1.0, 10.0, 100.0):
                    fixed, _ = quantile_scores(some, forget[name], folds, "alternatives", "token", [penalty])
                    note(count, seed, f"{name}: q of alternatives, ridge {penalty:g}", fixed, penalty)
            both = {"self": q["self"]} | (
                {"self and reference": (q["self"] + q["reference"]) / 2} if "reference" in q else {}
            )
            for name, value in both.items():
                for form, made in FORMS.items():
                    note(count, seed, f"{name}: {form}", made(value, r, c))
                best = FORMS["q sqrt(r c)"](value, r, c)
                note(count, seed, f"{name}: q sqrt(r c), mean over words", over_words(encodings, best))
    show(rows)
    print(json.dumps({"task": task.name, "model": args.model, "layer": args.layer, "rows": rows}))


def show(rows: list[dict[str, Any]]) -> None:
    """Parts x numbers of rows: mean AUROC / average precision over the seeds."""
    counts = sorted({row["rows"] for row in rows})
    table = [["", *(f"{count} rows" for count in counts)]]
    for part in dict.fromkeys(row["part"] for row in rows):
        cells = []
        for count in counts:
            mine = [row for row in rows if row["part"] == part and row["rows"] == count]
            mean = {key: np.mean([row[key] for row in mine]) for key in ("auroc", "ap", "ridge")}
            cells.append(
                f"{mean['auroc']:.3f} / {mean['ap']:.3f}" + f" ({mean['ridge']:.2g})" * bool(mean["ridge"] > 0)
            )
        table.append([part, *cells])
    table_line(table)


if __name__ == "__main__":
    main()
