"""The whole story in one call: which tokens carry the facts, a run that uses them, the model before and after."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.cli.console import Progress, say
from workbench.errors import missing
from workbench.evals import alignment
from workbench.files import write_table, writing
from workbench.models import SMOLLM2, get_smollm2, load
from workbench.runs import Config, new_path, start
from workbench.scorers import scorer
from workbench.tasks import Task, TaskSpec
from workbench.unlearning import Settings, epochs, finetune, score_task
from workbench.view import run_report


@dataclass(frozen=True)
class Story:
    """What one demo runs: a run, the reference model of its scorers, and the metric that is shown first."""

    config: Config
    reference: str
    judged_by: str


EMBEDDED = Story(
    Config(
        task=TaskSpec(name="biographies"),
        model="bio-full",
        objective="wga",
        weights="surprisal",
        settings=Settings(steps=80, batch_size=32, lr=3e-4, alpha=2.0, record_every=10),
        probe_limit=96,
    ),
    reference="bio-retain",
    judged_by="fact_accuracy",
)
REAL = Story(
    Config(
        task=TaskSpec(name="tofu/forget01", retain_rows=160),
        model="planted",
        objective="wga",
        weights="surprisal",
        settings=Settings(steps=30, batch_size=8, lr=1e-4, record_every=10),
        probe_limit=40,
    ),
    reference=SMOLLM2,
    judged_by="probability",
)
SHOWN = ("specificity", "surprisal", "entropy", "gap", "wga", "satimp", "atwu", "uniform", "random", "spans")
PLANT_EPOCHS = 5


def tell(out: Path, *, real: bool = False, data_dir: str | None = None, spans: str | None = None) -> dict[str, Any]:
    """Score, unlearn, probe and report.

    Args:
        out: directory for the report, the score table, and the run below `runs/`.
        real: TOFU forget01 and SmolLM2-135M instead of the embedded data.
        data_dir: the official TOFU files, instead of the hub.
        spans: span labels of the TOFU forget rows; without them there is no alignment.
    """
    started = time.perf_counter()
    story = REAL if real else EMBEDDED
    config = story.config
    if real:
        config = config.model_copy(update={"task": replace(config.task, data_dir=data_dir, spans=spans)})
    task = config.task.load()
    if real:
        config = config.model_copy(update={"model": plant(out, task)})
    lm = load(config.model)
    reference = load(story.reference, **lm.like())
    labelled = all(s.spans is not None for s in task.forget)
    names = [n for n in SHOWN if labelled or "spans" not in scorer[n].needs]
    scores = score_task(lm, task, names, reference=reference, seed=config.settings.seed, progress=Progress())
    write_table(out / "scores.parquet", scores)
    aligned = alignment(scores) if labelled else missing("needs span labels: name their file with --spans")
    progress = Progress()
    on_step = progress.of_steps(config.settings.steps)
    directory = start(config, new_path(config, out / "runs"), on_step=on_step, progress=progress)
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
        "model": config.model,
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
    settings = Settings(steps=epochs(PLANT_EPOCHS, len(samples), 16), batch_size=16, lr=2e-4, warmup=10)
    made_of = hashlib.sha256(repr((settings, [(s.question, s.answer) for s in samples])).encode()).hexdigest()
    folder = out / f"{SMOLLM2}-planted-{made_of[:8]}"
    if (folder / "workbench.json").exists():
        return str(folder)
    get_smollm2(log=lambda line: say(line, error=True))
    lm = load(SMOLLM2, prompt="plain")
    finetune(lm, samples, settings=settings, on_step=Progress().of_steps(settings.steps))
    with writing(folder) as aside:
        lm.save(aside)
    return str(folder)
