"""Commands that bring models here and plant facts into them; the demo."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench import models
from workbench.cli.console import number, progress_hooks, table_line
from workbench.cli.options import load_model, spec
from workbench.errors import UserError, unknown
from workbench.files import writable, writing
from workbench.models import has_adapter, save_adapter
from workbench.runs import settings_from
from workbench.scorers import score_samples
from workbench.unlearning import epochs
from workbench.unlearning import finetune as plant


def demo(given: Namespace) -> dict[str, Any]:
    """The whole story."""
    from workbench.cli.demo import demo as tell

    if not given.real and (given.data_dir or given.spans):
        raise UserError("--data-dir and --spans go with --real; the embedded data need neither")
    out = Path(given.out)
    writable(out / "report.html")
    result = tell(out, real=given.real, data_dir=given.data_dir, spans=given.spans)
    table_line(
        [["", "before", "after"]]
        + [
            [f"{name} {key}", number(result["before"][name][key]), number(result["after"][name][key])]
            for name, key in result["headline"]
        ]
    )
    print(f"{result['seconds']:.0f} s; the report is at {result['report']}")
    return result


def list_models(given: Namespace) -> Any:
    """List the built-in models, or fetch one."""
    if given.action == "get":
        if not given.name:
            raise UserError(f"`workbench models get` needs a name: {models.SMOLLM2}")
        if given.name != models.SMOLLM2:
            raise unknown("model to fetch", given.name, [models.SMOLLM2])
        path = models.get_smollm2(log=lambda line: print(line, file=sys.stderr))
        print(path)
        return {"name": given.name, "path": str(path)}
    found = models.available()
    table_line([[row["name"], "here" if row["here"] else "not here", row["path"]] for row in found])
    print("also: a directory, FILE.gguf, or a hub name (owner/name)")
    return {"models": found}


def finetune(given: Namespace) -> dict[str, Any]:
    """Plant a task."""
    task = spec(given).load()
    names = ("retain", "train_extra") if given.retain_only else ("forget", "retain", "train_extra")
    samples = [s for name in names for s in task.sets.get(name, [])]
    settings = settings_from(given.set, {}, batch_size=16, lr=1e-4, warmup=10)
    if not any(pair.startswith("steps=") for pair in given.set):
        count = epochs(given.epochs, len(samples), settings.batch_size)
        settings = settings_from([*given.set, f"steps={count}"], {}, batch_size=16, lr=1e-4, warmup=10)
    out = Path(given.out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; choose another --out")
    writable(out, folder=True)
    lm = load_model(given)
    run = plant(lm, samples, settings=settings, **progress_hooks(settings.steps, "on_step"))
    with writing(out) as aside:
        save_adapter(lm, aside) if has_adapter(lm) else lm.save(aside)
    means = {name: mean_nll(lm, task.sets[name]) for name in ("forget", "retain")}
    print(f"saved {out}; mean answer NLL: forget {means['forget']:.3f}, retain {means['retain']:.3f}")
    return {"out": str(out), "steps": settings.steps, "nll": means, "cost": run.ledger.as_dict()}


def mean_nll(lm: models.LanguageModel, samples: list[Any]) -> float:
    """Mean l_t over all answer tokens, in nats."""
    table = score_samples(lm, samples, ["surprisal"])
    return float(table["score"].mean())
