"""Which signal, which penalty, which combination finds the facts: the amortised map and `specificity` taken apart.

    .venv/bin/python benchmarks/importance.py biographies --model bio-full
    .venv/bin/python benchmarks/importance.py tofu/forget01 --data-dir DIR --spans FILE --retain-rows 160 --model DIR

One pass over the forget answers and over (at most) the largest of `--rows` other samples; then, for every number of
rows, mean AUROC / average precision, and AUROC per sample, over `--seeds` random choices of them. Labels serve for
measuring alone. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from workbench.cli.console import table_line
from workbench.models import Encoding, batches, encode, load, token_stats
from workbench.scorers import GRID, by_word, draw_folds, novelty, quantiles, rarity, ridge_by_sample
from workbench.tasks import Sample, TaskSpec

SIGNALS = ("nll", "entropy", "alternatives", "breadth", "alike")
IN_NATS = SIGNALS[:2]  # the others are numbers of tokens
PENALTIES = (1.0, 10.0, 30.0, 100.0)
FORMS = {
    "q": lambda q, r, c: q,
    "q r": lambda q, r, c: q * r,
    "q c": lambda q, r, c: q * c,
    "q r c": lambda q, r, c: q * r * c,
    "r c": lambda q, r, c: r * c,
}
Parts = dict[str, torch.Tensor]


def alike(lm: Any, ids: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    """exp(-sum p log Zp) over the most probable tokens, Z the cosine of centred input embeddings (Leinster)."""
    table = lm.module.get_input_embeddings().weight.detach().float()
    vectors = torch.nn.functional.normalize(table[ids] - table.mean(0), dim=-1)
    shares = logp.softmax(-1)
    typical = (vectors @ vectors.transpose(1, 2)).clamp(min=0) @ shares[..., None]
    return (-(shares * typical[..., 0].clamp(min=1e-9).log()).sum(-1)).exp()


@torch.no_grad()
def read(lm: Any, samples: list[Sample], layers: tuple[int, ...]) -> list[Parts]:
    """Per sample: the signals of its answer tokens, and the states of each layer at them."""
    out: list[Parts] = [{}] * len(samples)
    for indices, batch in batches(lm, [encode(lm, s) for s in samples], 16):
        at = token_stats(lm, batch, hidden="token", layer=layers, top_k=48)
        values = {"nll": at.nll, "entropy": at.entropy, "alternatives": at.entropy.exp(), "breadth": at.breadth}
        values |= {"alike": alike(lm, at.top_ids, at.top_logp), "states": at.hidden}
        for row, index in enumerate(indices):
            out[index] = {name: value[at.rows == row] for name, value in values.items()}
    return out


def predicted(text: list[Parts], forget: list[Parts], folds: list[int], signal: str, place: int, count: int,
              grid: list[float]) -> tuple[list[np.ndarray], float]:  # fmt: skip
    """What the map of layer `place` of `count` says of the text and of the forget set, in nats; the penalty."""
    values = torch.cat([part[signal] for part in text])
    states, own = (torch.cat([part["states"].chunk(count, 1)[place] for part in group]) for group in (text, forget))
    groups = torch.cat([torch.full((len(part["nll"]),), fold) for part, fold in zip(text, folds, strict=True)])
    tensors, penalty, _ = ridge_by_sample(states, values, groups if len(grid) > 1 else groups * 0, grid)
    fitted = [((s - tensors["shift"]) / tensors["scale"]) @ tensors["w"] + tensors["b"] for s in (states, own)]
    return [(f.clamp(min=0) if signal in IN_NATS else f.clamp(min=1).log()).numpy() for f in fitted], penalty


def views(encodings: list[list[Encoding]], logs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Quantiles of the forget tokens in the text's, the mean over layers: of tokens, and of words in both views."""
    words = []
    for group, values in zip(encodings, logs, strict=True):
        parts = np.split(values, np.cumsum([len(e.answer_positions) for e in group])[:-1])
        words.append(np.concatenate([by_word(e, part) for e, part in zip(group, parts, strict=True)]))
    tokens, both = quantiles(*logs[::-1]), quantiles(*words[::-1])
    out = {"tokens": tokens.mean(1), "words, mean": both[:, 0].mean(1), "words, sum": both[:, 1].mean(1)}
    return out | {"words, both": both.mean((1, 2))}


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs of a labelled and another token in which the labelled one is higher; ties count half."""
    above, count = rankdata(scores)[labels], labels.sum()
    return float((above.sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def main() -> None:
    """Measure every part; print the tables, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("task", nargs="?", default="biographies")
    for name in ("data-dir", "forget", "retain", "spans", "unlabelled", "model", "prompt", "device", "precision"):
        options.add_argument(f"--{name}", default="bio-full" if name == "model" else None)
    options.add_argument("--retain-rows", type=int)
    options.add_argument("--rows", default="20,100,500")
    options.add_argument("--seeds", default="0,1,2")
    args = options.parse_args()
    files = {
        name: getattr(args, name) for name in ("data_dir", "forget", "retain", "spans", "retain_rows", "unlabelled")
    }
    task = TaskSpec(name=None if args.forget else args.task, **files).load()
    lm = load(args.model, device=args.device, precision=args.precision, prompt=args.prompt)
    known = task.sets.get("unlabelled") or task.retain
    most = min(len(known), max(map(int, args.rows.split(","))))
    chosen = [known[i] for i in np.random.default_rng(0).choice(len(known), most, replace=False)]
    encodings, coded = ([encode(lm, s) for s in group] for group in (task.forget, chosen))
    stands = np.concatenate([[a < b for a, b in (e.ranges[p] for p in e.answer_positions)] for e in encodings])
    labels = np.concatenate([np.array(e.span_labels(), dtype=bool) for e in encodings])[stands]
    layers = (round(0.5 * lm.config.num_hidden_layers), round(0.75 * lm.config.num_hidden_layers), -1)
    text, forget = (read(lm, samples, layers) for samples in (chosen, task.forget))
    rows: list[dict[str, Any]] = []
    others = [encode(lm, s) for s in (*task.retain, *task.sets.get("unlabelled", []))]
    r, c = np.concatenate(rarity(lm, encodings, others)), np.concatenate(novelty(encodings, others))
    sample = np.repeat(np.arange(len(encodings)), [len(e.answer_positions) for e in encodings])[stands]
    mixed = [mark for mark in (sample == n for n in range(len(encodings))) if len(set(labels[mark])) > 1]

    def note(count: int, seed: int, part: str, scores: np.ndarray, penalty: float = 0.0) -> None:
        scores = scores[stands]
        each = np.mean([auroc(labels[mark], scores[mark]) for mark in mixed])
        values = {"auroc": auroc(labels, scores), "ap": average_precision_score(labels, scores)}
        rows.append({"rows": count, "seed": seed, "part": part, **values, "per_sample": each, "ridge": penalty})

    for count in sorted({min(most, int(n)) for n in args.rows.split(",")}):
        for seed in map(int, args.seeds.split(",")):
            places = np.random.default_rng(seed).choice(most, count, replace=False)
            fold_of = draw_folds([chosen[i] for i in places], seed)
            folds, some = [fold_of[chosen[i].id] for i in places], [text[i] for i in places]
            for signal in SIGNALS:
                for grid in (GRID, *([penalty] for penalty in PENALTIES)):
                    name = "chosen" if len(grid) > 1 else f"{grid[0]:g}"
                    each = [predicted(some, forget, folds, signal, n, 3, grid) for n in range(3)]
                    for layer, (logs, penalty) in zip(layers, each, strict=True):
                        note(count, seed, f"{signal}, ridge {name}, layer {layer}", logs[1], penalty)
                    both = [np.stack(layered, axis=1) for layered in zip(*(logs for logs, _ in each), strict=True)]
                    for view, q in views([[coded[i] for i in places], encodings], both).items():
                        for form, made in FORMS.items():
                            if form == "q r c" or view.endswith("both"):
                                note(count, seed, f"{signal}, ridge {name}, {view}: {form}", made(q, r, c))
    show(rows)
    print(json.dumps({"task": task.name, "model": args.model, "layers": layers, "rows": rows}))


def show(rows: list[dict[str, Any]]) -> None:
    """Parts x numbers of rows: means over the seeds of AUROC / average precision, AUROC per sample (penalty)."""
    counts = sorted({row["rows"] for row in rows})
    table = [["", *(f"{count} rows" for count in counts)]]
    for part in dict.fromkeys(row["part"] for row in rows):
        cells = []
        for count in counts:
            mine = [row for row in rows if row["part"] == part and row["rows"] == count]
            mean = {key: np.mean([row[key] for row in mine]) for key in ("auroc", "ap", "per_sample", "ridge")}
            figures = f"{mean['auroc']:.3f} / {mean['ap']:.3f}, {mean['per_sample']:.3f}"
            cells.append(figures + f" ({mean['ridge']:.2g})" * bool(mean["ridge"] > 0))
        table.append([part, *cells])
    table_line(table)


if __name__ == "__main__":
    main()
