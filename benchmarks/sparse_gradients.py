"""How near a sparse step's gradient is to the plain one, by what is chosen, and what old contexts cost.

    python benchmarks/sparse_gradients.py [--task T --data-dir DIR --model M --samples 24]

- `choices`: cosine of a sparse step's gradient with the plain one (of the same weights), the share of the positions
  that got a gradient, and of those that were read; tokens by weight and by chance, with and without the names.
- `ages`: a run trains on; contexts from before are used for a gradient some steps later. Its cosine with that of fresh
  contexts, and how far the trained weights have moved, as a share of their norm.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

import torch
from many_runs import hardware, task_options

AGES = (1, 2, 4, 8)


class Term:
    """The forget loss of the first answers, and its gradient."""

    def __init__(self, lm: Any, task: Any, objective: str, settings: Any, weights: Any) -> None:
        from workbench.cost import Ledger
        from workbench.unlearning import ForgetLoss

        self.lm, self.forget = lm, ForgetLoss(lm, task.forget, objective, weights, settings, Ledger())

    def gradient(self, step: int = 1) -> tuple[torch.Tensor, int, int]:
        """The gradient of a step, the positions that got one, and the positions read."""
        from workbench.models import token_stats

        parameters = [p for p in self.lm.module.parameters() if p.requires_grad]
        self.lm.module.zero_grad()
        computed, read = 0, 0
        for each in self.forget.micro_batches(step, lambda _: None):  # type: ignore[arg-type,return-value]
            loss, _, _ = self.forget(each, token_stats(self.lm, each.batch, extras=False))
            loss.backward()
            computed, read = computed + each.tokens, read + sum(len(e.ids) for e in each.encodings)
        gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        self.lm.module.zero_grad()
        return gradient, computed, read


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two gradients."""
    return float(torch.cosine_similarity(a, b, 0))


def choices(lm: Any, task: Any, weights: Any, settings: Any) -> list[dict[str, Any]]:
    """Each way to choose tokens against the plain gradient."""
    rows = []
    plain, whole, _ = Term(lm, task, "grad_diff", settings, weights).gradient()
    for share in (0.1, 0.2, 0.3, 0.5):
        for by in ("weights", "random"):
            for names in (True, False):
                some = settings.replace(share=share, share_by=by, names=names)
                gradient, computed, read = Term(lm, task, "grad_diff", some, weights).gradient()
                row = {"share": share, "by": by, "names": names, "cosine": cosine(gradient, plain)}
                rows.append(row | {"positions": computed / whole, "read": read / whole})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def ages(lm: Any, task: Any, weights: Any, settings: Any) -> list[dict[str, Any]]:
    """Gradients with contexts so many steps old, from two moments of a run on."""
    from workbench.cost import Ledger
    from workbench.unlearning import ForgetLoss, RetainLoss, Trainer

    ledger, rows = Ledger(), []
    plain = settings.replace(share=1.0, reuse=1)
    retain = RetainLoss(lm, task.retain, plain, ledger)
    trainer = Trainer(lm, plain, ledger, ForgetLoss(lm, task.forget, "wga", weights, plain, ledger), retain)
    parameters = [p for p in lm.module.parameters() if p.requires_grad]
    for begin in (1, 12):
        while trainer.steps_done < begin:
            trainer.step()
        then = torch.cat([p.detach().flatten() for p in parameters])
        old = {}
        for names in (True, False):
            some = settings.replace(names=names, reuse=99, drift=0.0)
            old[names] = Term(lm, task, "wga", some, weights)
            old[names].gradient()  # computes the contexts, which are kept
        for age in AGES:
            while trainer.steps_done < begin + age:
                trainer.step()
            moved = torch.cat([p.detach().flatten() for p in parameters]) - then
            row: dict[str, Any] = {"train": settings.train, "from": begin, "age": age}
            row["moved"] = float(moved.norm() / then.norm())
            for names, term in old.items():
                fresh, _, _ = Term(lm, task, "wga", settings.replace(names=names), weights).gradient()
                row["cosine, names" if names else "cosine, facts alone"] = cosine(term.gradient()[0], fresh)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Both tables; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    task_options(options)
    options.add_argument("--weights", default="surprisal")
    options.add_argument("--samples", type=int, default=24)
    options.add_argument("--lr", type=float, default=1e-3)
    args = options.parse_args()

    from workbench.cost import Phase
    from workbench.models import load
    from workbench.tasks import TaskSpec
    from workbench.unlearning import Settings, prepare, prepare_weights

    torch.set_num_threads(args.threads)
    task = TaskSpec(args.task, data_dir=args.data_dir, spans=args.spans, retain_rows=args.retain_rows).load()
    task = replace(task, sets=task.sets | {"forget": task.forget[: args.samples]})
    settings = Settings(batch_size=args.samples, retain_batch=32, lr=args.lr, warmup=1, gamma=0.3, share=0.2)
    made: dict[str, Any] = {"steps": 9, "seed": 0, "options": {}, "reference": None, "trained": None}
    result: dict[str, Any] = {"hardware": hardware(), "task": args.task, "ages": []}
    for train in ("all", "half"):
        lm = load(args.model)
        layers = lm.module.config.num_hidden_layers
        some = settings.replace(train=train if train == "all" else f"layers:{layers // 2}-{layers - 1}")
        weights = prepare_weights(lm, task, args.weights, cost=Phase(), **made)
        prepare(lm, some)
        if train == "all":
            result["choices"] = choices(lm, task, weights, some.replace(share=1.0))
        result["ages"] += ages(lm, task, weights, some)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
