"""Commands that change models, probe them and show what came of it."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench import execution, models, runs
from workbench.adapters import has_adapter, save_adapter
from workbench.commands.given import load_model, spec
from workbench.commands.tables import metric_table
from workbench.console import number, progress_hooks, table_line
from workbench.files import writable, writing
from workbench.objectives import objective
from workbench.options import presets_of, settings_from
from workbench.registry import UserError, unknown
from workbench.report import run_report
from workbench.scorers import score_samples, scorer
from workbench.settings import epochs
from workbench.unlearn import finetune as plant


def demo(given: Namespace) -> dict[str, Any]:
    """The whole story."""
    from workbench.demo import demo as tell

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
        path = models.get_smollm2(say=lambda line: print(line, file=sys.stderr))
        print(path)
        return {"name": given.name, "path": str(path)}
    found = models.available()
    table_line([[row["name"], "here" if row["here"] else "not here", row["path"]] for row in found])
    print("also: a directory, FILE.gguf, or a hub name (owner/name)")
    return {"models": found}


def finetune(given: Namespace) -> dict[str, Any]:
    """Plant a task."""
    task = spec(given).load()
    samples = [s for name in ("forget", "retain", "train_extra") for s in task.sets.get(name, [])]
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


def unlearn(given: Namespace) -> dict[str, Any]:
    """A run."""
    a_file = given.weights.endswith((".parquet", ".safetensors"))
    if given.weights not in scorer and Path(given.weights).exists() and not a_file:
        raise UserError(f"--weights takes a scorer's name, FILE.parquet or FILE.safetensors, not {given.weights}")
    learned = {} if a_file else scorer[given.weights].options
    settings = settings_from(
        given.set,
        {"objective": objective[given.objective].options, "weights": learned},
        presets={} if a_file else presets_of(given.weights),
        **objective[given.objective].facts.get("settings", {}),
    )
    config = runs.Config(
        task=spec(given),
        model=given.model,
        objective=given.objective,
        weights=given.weights,
        settings=settings,
        reference=given.reference,
        prompt=given.prompt,
        device=given.device,
        precision=given.precision,
        probe_limit=given.probe_limit,
    )
    directory = execution.start(config, Path(given.out) if given.out else None, **progress_hooks(settings.steps))
    return show_run(directory)


def show_run(directory: runs.RunDirectory) -> dict[str, Any]:
    """Print a run's status and its metrics before and after."""
    status, metrics = directory.status(), directory.json("metrics.json") or {}
    print(f"{status['run']}: {status['status']}, step {status['step']} of {status['steps']}")
    if metrics.get("before"):
        metric_table({phase: metrics.get(phase, {}) for phase in ("before", "after")})
        if directory.config.get("probe_limit"):
            print(f"probed: at most {directory.config['probe_limit']} answers a set")
    return status | {"metrics": metrics, "cost": directory.json("cost.json")}


def manage_runs(given: Namespace) -> Any:
    """List, show or resume runs."""
    if given.action == "list":
        if given.run:
            raise UserError(f"`workbench runs list` lists a directory's runs: --root {given.run}")
        if given.root != "runs" and not Path(given.root).is_dir():
            raise UserError(f"--root {given.root}: no such directory")
        found = [directory.status() for directory in runs.list_runs(Path(given.root))]
        table_line([["run", "status", "step"]] + [[r["run"], r["status"], f"{r['step']}/{r['steps']}"] for r in found])
        return {"runs": found}
    if not given.run:
        raise UserError(f"`workbench runs {given.action}` needs a run; see `workbench runs list`")
    directory = runs.RunDirectory(Path(given.run))
    if given.action == "resume":
        directory = execution.resume(directory.path, **progress_hooks(directory.status()["steps"]))
    return show_run(directory)


def report(given: Namespace) -> dict[str, Any]:
    """The page of a run."""
    out = writable(Path(given.out))
    run_report(runs.RunDirectory(Path(given.run)).path, out=out)
    print(out)
    return {"report": str(out)}


def lab(given: Namespace) -> dict[str, Any]:
    """JupyterLab on the notebooks."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    done = subprocess.run([sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return {"exit": 0}
