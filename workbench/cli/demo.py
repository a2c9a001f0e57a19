"""The whole story in one call: which tokens carry the facts, a run that uses them, the model before and after."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.cli.console import Progress
from workbench.errors import missing
from workbench.evals import alignment
from workbench.files import write_table, writing
from workbench.models import SMOLLM2, get_smollm2, load
from workbench.runs import execution
from workbench.scorers import scorer
from workbench.tasks import Task, TaskSpec
from workbench.unlearning import Settings, epochs, finetune, score_task
from workbench.view import run_report


@dataclass(frozen=True)
class Story:
    """What one demo runs.

    Attributes:
        task: what to forget.
        model: the model that knows it.
        reference: model for the scorers that need one.
        objective: forget loss of the run.
        weights: its token weights.
        settings: its numbers.
        probe_limit: samples probed a set.
        judged_by: the metric shown first.
    """

    task: TaskSpec
    model: str
    reference: str
    objective: str
    weights: str
    settings: Settings
    probe_limit: int
    judged_by: str


EMBEDDED = Story(
    TaskSpec("biographies"),
    model="bio-full",
    reference="bio-retain",
    objective="wga",
    weights="surprisal",
    settings=Settings(steps=80, batch_size=32, lr=3e-4, alpha=2.0, record_every=10),
    probe_limit=96,
    judged_by="fact_accuracy",
)
REAL = Story(
    TaskSpec("tofu/forget01", retain_rows=160),
    model="planted",
    reference=SMOLLM2,
    objective="wga",
    weights="surprisal",
    settings=Settings(steps=30, batch_size=8, lr=1e-4, record_every=10),
    probe_limit=40,
    judged_by="probability",
)
SHOWN = ("specificity", "surprisal", "entropy", "gap", "wga", "satimp", "atwu", "uniform", "random", "spans")
PLANT = Settings(steps=1, batch_size=16, lr=2e-4, warmup=10)
PLANT_EPOCHS = 5


def demo(out: Path, *, real: bool = False, data_dir: str | None = None, spans: str | None = None) -> dict[str, Any]:
    """Score, unlearn, probe and report.

    Args:
        out: directory for the report, the score table, and the run below `runs/`.
        real: TOFU forget01 and SmolLM2-135M instead of the embedded data.
        data_dir: the official TOFU files, instead of the hub.
        spans: span labels of the TOFU forget rows; without them there is no alignment.
    """
    started = time.perf_counter()
    story = REAL if real else EMBEDDED
    if real:
        story = replace(story, task=replace(story.task, data_dir=data_dir, spans=spans))
    task = story.task.load()
    if real:
        story = replace(story, model=plant(out, task))
    lm = load(story.model)
    reference = load(story.reference, **lm.like())
    labelled = all(s.spans is not None for s in task.forget)
    names = [n for n in SHOWN if labelled or "spans" not in scorer[n].needs]
    scores = score_task(lm, task, names, reference=reference, seed=story.settings.seed, progress=Progress().tell)
    write_table(out / "scores.parquet", scores)
    aligned = alignment(scores) if labelled else missing("needs span labels: give them with --spans")
    config = runs.Config(
        task=story.task,
        model=story.model,
        objective=story.objective,
        weights=story.weights,
        settings=story.settings,
        probe_limit=story.probe_limit,
    )
    hooks = Progress().hooks(story.settings.steps)
    directory = execution.start(config, runs.new_path(config, out / "runs"), **hooks)
    run_report(
        directory.path,
        scores=scores,
        alignment=aligned if labelled else None,
        out=out / "report.html",
        samples={s.id: (s.question, s.answer) for s in task.forget},
    )
    metrics = directory.json("metrics.json")
    return {
        "seconds": time.perf_counter() - started,
        "task": task.name,
        "model": story.model,
        "alignment": aligned,
        "before": metrics["before"],
        "after": metrics["after"],
        "headline": [[name, story.judged_by] for name in ("forget", "retain", "neighbours")]
        + [["general", "perplexity"]],
        "cost": directory.json("cost.json"),
        "run": str(directory.path),
        "report": str((out / "report.html").resolve()),
    }


def plant(out: Path, task: Task) -> str:
    """SmolLM2 with the task's facts, planted once into a directory below `out`."""
    samples = [*task.forget, *task.retain]
    settings = PLANT.replace(steps=epochs(PLANT_EPOCHS, len(samples), PLANT.batch_size))
    made_of = hashlib.sha256(repr((settings, [(s.question, s.answer) for s in samples])).encode()).hexdigest()
    folder = out / f"{SMOLLM2}-planted-{made_of[:8]}"
    if (folder / "workbench.json").exists():
        return str(folder)
    get_smollm2(log=lambda line: print(line, file=sys.stderr))
    lm = load(SMOLLM2, prompt="plain")
    finetune(lm, samples, settings=settings, on_step=Progress().hooks(settings.steps)["on_step"])
    with writing(folder) as aside:
        lm.save(aside)
    return str(folder)
