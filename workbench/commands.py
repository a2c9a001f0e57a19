"""What each command does: read the options, call the package, print for people; returns the `--json` object."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from workbench import compare, models, runs
from workbench.console import Progress
from workbench.files import write_table, write_text, writing
from workbench.objectives import objective
from workbench.options import presets_of, scorer_options, settings_from
from workbench.probes import probe as probe_task
from workbench.registry import UserError, unknown
from workbench.report import comparison_page, run_report, scores_page
from workbench.score_file import ScoreFile
from workbench.scorers import apply_scorer, load_scorer, read_scores, save_scorer, score_samples, scorer
from workbench.scorers.saved import KINDS
from workbench.scoring import check_needs, score_parts
from workbench.tasks import Task, TaskSpec
from workbench.unlearn import epochs
from workbench.unlearn import finetune as plant


def spec(given: Namespace) -> TaskSpec:
    """The task that the options name."""
    names = [f.name for f in fields(TaskSpec) if f.name != "name"]
    return TaskSpec(name=given.task, **{n: getattr(given, n) for n in names})


def load_model(given: Namespace) -> models.LanguageModel:
    """The model that the options name."""
    return models.load(given.model, device=given.device, precision=given.precision, prompt=given.prompt)


def writable(path: Path, *, folder: bool = False) -> Path:
    """`path`, after making sure that a file (or folder) can be written there, before hours are spent on its content.

    Nothing is left: what is tried is the nearest folder that exists.
    """
    if path.exists() and path.is_dir() != folder:
        raise UserError(f"{path} is {'no' if folder else 'a'} directory; choose another name")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is neither a file nor a directory; choose another place")
    where = next(p for p in path.absolute().parents if p.exists())
    if not where.is_dir():
        raise UserError(f"{where}: not a directory; choose another place")
    trial = where / f".{path.name}.try"
    with writing(trial) as aside:
        aside.write_text(" " * 4096)
    trial.unlink()
    return path


def table_line(rows: list[list[str]]) -> None:
    """Rows as aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def number(value: Any) -> str:
    """A metric's value, or that it has none."""
    return f"{value:.3f}" if isinstance(value, int | float) else "not available"


def reasons(metrics: dict[str, dict[str, Any]]) -> None:
    """Print why metrics have no value, a line a reason."""
    found: dict[str, list[str]] = {}
    for name, values in metrics.items():
        for key, value in values.items():
            if isinstance(value, dict):
                found.setdefault(value["reason"], []).append(f"{name} {key}")
    for reason, places in found.items():
        print(f"not available: {', '.join(places)}: {reason}")


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
        lm.save(aside)
    means = {name: mean_nll(lm, task.sets[name]) for name in ("forget", "retain")}
    print(f"saved {out}; mean answer NLL: forget {means['forget']:.3f}, retain {means['retain']:.3f}")
    return {"out": str(out), "steps": settings.steps, "nll": means, "cost": run.ledger.as_dict()}


def mean_nll(lm: models.LanguageModel, samples: list[Any]) -> float:
    """Mean l_t over all answer tokens, in nats."""
    table = score_samples(lm, samples, ["surprisal"])
    return float(table["score"].mean())


def progress_hooks(steps: int, *names: str) -> dict[str, Any]:
    """Hooks that show progress on standard error."""
    hooks = Progress().hooks(steps)
    return {name: hooks[name] for name in names} if names else hooks


def score(given: Namespace) -> dict[str, Any]:
    """Score a task's forget answers."""
    task = spec(given).load()
    wanted = list(dict.fromkeys(given.scorer.split(",")))
    everything = wanted == ["all"]
    if everything:
        wanted = all_scorers(task, bool(given.reference))
    saved = [name for name in wanted if name.endswith(".safetensors")]
    named = [name for name in wanted if name not in saved]
    check_needs(named, bool(given.reference))
    options = scorer_options(given.set, named)
    keeper = check_save(given.save, named, options) if given.save else None
    out = writable(Path(given.out))
    for path in (given.html, given.save):
        if path:
            writable(Path(path))
    learners = [load_scorer(Path(name)) for name in saved]
    twice = {learner.name for learner in learners} & set(named)
    if twice or len({learner.name for learner in learners}) < len(learners):
        raise UserError("two scorers of one name cannot share a table; score them into tables of their own")
    lm = load_model(given)
    reference = models.load(given.reference, **lm.like()) if given.reference else None
    file = ScoreFile(out, made_from(given, task, lm, reference), [*(x.name for x in learners), *named], options)
    if given.resume:
        file.reopen()
        if keeper:  # what it learned is not in the table
            file.tables.pop(keeper, None)
    for learner in learners:
        file.add(apply_scorer(learner.to(lm.device), lm, task.forget, task=task.name))
    learned: dict[str, Any] = {}
    parts = score_parts(
        lm,
        task,
        file.missing,
        reference=reference,
        seed=given.seed,
        options=options,
        learned=learned,
        notes=file.notes,
        progress=Progress().tell,
        failed=leave_out if everything else None,
    )
    try:
        for part in parts:
            file.add(part)
    except KeyboardInterrupt:
        Progress.end_line()
        done = ", ".join(file.tables) or "none"
        print(f"workbench: finished scorers, kept in {out}: {done}; --resume goes on from there", file=sys.stderr)
        raise
    table = file.table
    answers = table[table["segment"] == "answer"].drop_duplicates(["sample_id", "position"])
    print(f"{answers['sample_id'].nunique()} answers, {len(answers)} tokens, {len(file.tables)} scorers: {out}")
    say_notes(file.notes)
    if keeper:
        with writing(Path(given.save)) as aside:
            save_scorer(learned[keeper], aside)
        print(given.save)
    if given.html:
        texts = {s.id: (s.question, s.answer) for s in task.forget}
        write_text(Path(given.html), scores_page(table, texts))
        print(given.html)
    return {"out": str(out), "scorers": list(file.tables), "tokens": len(answers), "notes": table.attrs["notes"]}


def leave_out(name: str, error: UserError) -> None:
    """Say why a scorer is left out."""
    Progress.end_line()
    print(f"left out: {error}", file=sys.stderr)


def all_scorers(task: Task, reference: bool) -> list[str]:
    """Scorers that have what they need and are not slow; says which are left out for their time."""
    have = {"reference": reference, "spans": all(s.spans is not None for s in task.forget)}
    able = [n for n in scorer if all(have[need] for need in scorer[n].facts.get("needs", ()))]
    quick = [n for n in able if not scorer[n].facts.get("slow")]
    print(f"left out for their time: {', '.join(n for n in able if n not in quick)}", file=sys.stderr)
    return quick


def check_save(path: str, named: list[str], options: dict[str, dict[str, Any]]) -> str:
    """The one learned scorer that --save keeps."""
    keepers = [name for name in named if name in KINDS]
    if len(keepers) != 1:
        raise UserError(f"--save keeps one learned scorer ({' or '.join(KINDS)}); --scorer names {len(keepers)}")
    if not path.endswith(".safetensors"):
        raise UserError(f"--save takes FILE.safetensors, not {path}")
    if options[keepers[0]].get("text") == "forget":
        raise UserError("cross-fitted scores come from several maps, so there is none to --save; leave text=forget out")
    return keepers[0]


def made_from(given: Namespace, task: Task, lm: models.LanguageModel, reference: Any) -> dict[str, Any]:
    """What scores depend on, beside the scorers' options."""
    return {
        "task": asdict(spec(given)),
        "data_sha256": task.fingerprint,
        "model_sha256": lm.fingerprint(),
        "reference_sha256": reference.fingerprint() if reference else None,
        "prompt": lm.prompt,
        "precision": lm.precision,
        "seed": given.seed,
    }


def say_notes(notes: dict[str, dict[str, Any]]) -> None:
    """Print what is to be said of scores: what was attributed to what, and which samples have none and why."""
    for name, note in notes.items():
        said = [f"{key} {note[key]}" for key in ("target", "units", "baseline") if key in note]
        if delta := note.get("completeness_delta"):
            said.append(f"completeness delta {delta['median']:.2%}, at most {delta['largest']:.2%}")
        if said:
            print(f"{name}: {', '.join(said)}")
        for sample, reason in note.get("not_available", {}).items():
            print(f"{name}: not available for '{sample}': {reason}")


def align(given: Namespace) -> dict[str, Any]:
    """Alignment of a score table with span labels."""
    table = read_scores(Path(given.file))
    found = compare.alignment(compare.label(table, Path(given.spans)) if given.spans else table)
    rows = [["scorer", "auroc", "per sample", "ap", "precision"]]
    for name, value in found.items():
        keys = ("auroc", "auroc_per_sample", "ap", "precision_at_budget")
        rows.append([name, *(number(value[key]) for key in keys)])
    table_line(rows)
    for name, value in found.items():
        if isinstance(value["auroc"], dict):
            print(f"{name}: not available: {value['auroc']['reason']}")
        if "left_out" in value:
            print(f"{name}: {value['left_out']} tokens without a score left out")
    return found


def agree(given: Namespace) -> dict[str, Any]:
    """Agreement of the scorers of a score table, and the samples where they disagree."""
    table = read_scores(Path(given.file))
    if given.html:
        writable(Path(given.html))
    level = "per_sample" if given.per_sample else "pooled"
    found = compare.agreement(table, top=given.top)
    disputed = compare.disagreement(table)
    matrix = found[given.measure][level]
    rows = [[given.measure, *matrix]]
    for name, values in matrix.items():
        rows.append([name, *("-" if isinstance(value, dict) else f"{value:.3f}" for value in values.values())])
    table_line(rows)
    print(f"{level.replace('_', ' ')}: {found['samples']} answers, {found['tokens']} tokens")
    undefined = [value["reason"] for values in matrix.values() for value in values.values() if isinstance(value, dict)]
    for reason in dict.fromkeys(undefined):
        print(f"-: not available: {reason}")
    if disputed["pairs"].any():
        first = disputed.iloc[0]
        print(f"most disputed answer: {first['sample_id']}, most apart: {first['most_apart']}")
    if given.html:
        page = comparison_page(table, samples={}, agreement=found, measure=given.measure, level=level)
        write_text(Path(given.html), page)
        print(given.html)
    none = {"value": None, "reason": "no two scorers can be compared in this answer"}
    columns = (disputed[key].tolist() for key in ("sample_id", "disagreement", "most_apart"))
    return found | {
        "disagreement": [
            {"sample_id": sample, "disagreement": value if pair else none, "most_apart": pair}
            for sample, value, pair in zip(*columns, strict=True)
        ]
    }


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
    directory = runs.start(config, Path(given.out) if given.out else None, **progress_hooks(settings.steps))
    return show_run(directory)


def show_run(directory: runs.RunDirectory) -> dict[str, Any]:
    """Print a run's status and its metrics before and after."""
    status, metrics = directory.status(), directory.json("metrics.json") or {}
    print(f"{status['run']}: {status['status']}, step {status['step']} of {status['steps']}")
    before, after = metrics.get("before", {}), metrics.get("after", {})
    rows = [["set", "metric", "before", "after"]]
    for name, values in before.items():
        for key, value in values.items():
            rows.append([name, key, number(value), number(after[name][key]) if after else ""])
    if before:
        table_line(rows)
        reasons(before)
        if directory.config.get("probe_limit"):
            print(f"probed: at most {directory.config['probe_limit']} answers a set")
    return status | {"metrics": metrics, "cost": directory.json("cost.json")}


def load_result(run: runs.RunDirectory, prompt: models.Prompt | None) -> models.LanguageModel:
    """The model that a run left, in the number format of the run."""
    if run.json("run.json") is None:
        raise UserError(f"{run.path} is not finished, so it has no model yet; resume it first")
    return models.load(str(run.path / "model"), precision=run.config["precision"], prompt=prompt)


def probe(given: Namespace) -> dict[str, Any]:
    """Probe a model."""
    task = spec(given).load()
    if given.out:
        writable(Path(given.out))
    folder = Path(given.model)
    if runs.is_run(folder):
        lm = load_result(runs.RunDirectory(folder), given.prompt)
    else:
        lm = models.load(given.model, prompt=given.prompt)
    found = probe_task(lm, task, limit=given.probe_limit, progress=progress_hooks(0)["on_probe"])
    if given.out:
        write_table(Path(given.out), found.rows)
    rows = [["set", "metric", "value"]]
    rows += [[name, key, number(value)] for name, values in found.metrics.items() for key, value in values.items()]
    table_line(rows)
    reasons(found.metrics)
    return {"metrics": found.metrics}


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
        directory = runs.resume(directory.path, **progress_hooks(directory.status()["steps"]))
    return show_run(directory)


def report(given: Namespace) -> dict[str, Any]:
    """The page of a run."""
    out = writable(Path(given.out))
    run_report(runs.RunDirectory(Path(given.run)).path, out=out)
    print(out)
    return {"report": str(out)}


def lab(given: Namespace) -> dict[str, Any]:
    """JupyterLab on the notebooks."""
    folder = Path(__file__).resolve().parents[1] / "notebooks"
    done = subprocess.run([sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return {"exit": 0}


COMMANDS = {
    "demo": demo,
    "models": list_models,
    "finetune": finetune,
    "score": score,
    "align": align,
    "agree": agree,
    "unlearn": unlearn,
    "probe": probe,
    "runs": manage_runs,
    "report": report,
    "lab": lab,
}
