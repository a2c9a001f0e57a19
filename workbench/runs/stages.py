"""The stages of a run: probe, unlearn, probe, write."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.cost import Ledger
from workbench.errors import NOT_FINITE, is_missing, note
from workbench.evals import Probed, probe
from workbench.models import LanguageModel, load, processes
from workbench.progress import Progress
from workbench.runs.config import Config
from workbench.runs.ctrl_c import interruptible
from workbench.runs.directory import RunDirectory
from workbench.runs.results import checkpoint, read_before, record_inputs, restore, write_before, write_results
from workbench.runs.stopping import STOP, Stopped, all_reached, levels
from workbench.runs.trackers import Trackers
from workbench.scorers import read_scores
from workbench.tasks import Task
from workbench.unlearning import Checkpoint, Diverged, Run, unlearn

TRAINED = ("forget", "retain")  # sets whose answers a step computes
PROBED_DURING = 32  # samples a set, of probes during a run
Event = dict[str, Any]


@dataclass
class Stages:
    """A run with its inputs loaded, new or resumed; several processes run it side by side, and the main one writes."""

    config: Config
    task: Task
    lm: LanguageModel
    directory: RunDirectory
    ledger: Ledger
    on_step: Callable[[Event], None] | None
    progress: Progress
    stop: Callable[[], bool] | None
    latest: Event = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # for the next event

    def __post_init__(self) -> None:
        self.levels = levels(self.config.stop_at)

    def run(self) -> RunDirectory:
        """Probe, unlearn, probe, write."""
        with self.ledger.phase("loading"):
            record_inputs(self.directory, self.task, self.lm)
        with interruptible() as self.interrupted, Trackers(self.config, self.directory) as self.trackers:
            state = restore(self.directory, self.ledger, self._say)
            before = self._before()
            run = self._unlearn(state)
            if not run.finished:
                raise Stopped(self.directory.path, self.directory.status()["step"])
            self._finish(run, before)
        return self.directory

    def _before(self) -> Probed:
        """The probes before the run: made now, or by the process that began it."""
        before = read_before(self.directory, self._say)
        if before is None:
            before = self._probe(limit=self.config.probe_limit, progress=self._probing)
            write_before(self.directory, before, self.ledger)
        for level in self.levels:
            level.check(before.metrics)
        return before

    def _unlearn(self, state: Checkpoint | None) -> Run:
        config, weights = self.config, self.directory.weights
        self.latest = processes().gather(next(reversed(self.directory.events()), {}))[0]
        return unlearn(
            self.lm,
            self.task,
            config.objective,
            read_scores(Path(weights)) if weights.endswith(".parquet") else weights,
            settings=config.settings,
            reference=load(config.reference, **self.lm.like()) if config.reference else None,
            scorer=Path(config.scorer) if config.scorer else None,
            in_place=True,
            on_step=self._stepped,
            on_checkpoint=lambda state: checkpoint(self.directory, state, config.settings.keep_checkpoints),
            stop=lambda: processes().any(self._stop_requested() or (self.stop is not None and self.stop())),
            reached=lambda: all_reached(self.levels, self.latest.get("probe", {})),
            resume=state,
            ledger=self.ledger,
            say=self._say,
        )

    def _finish(self, run: Run, before: Probed) -> None:
        """Probe again, and write the results."""
        after = self._probe(step=run.steps, phase="after", limit=self.config.probe_limit, progress=self._probing)
        self._check_finite(before, after, run.steps)
        reached = run.steps < self.config.settings.steps or all_reached(self.levels, after.metrics)
        reason = f"{'reached' if reached else 'never reached'} {self.config.stop_at}" if self.levels else None
        write_results(self.directory, run, before, after, reason)

    def _check_finite(self, before: Probed, after: Probed, step: int) -> None:
        """Raise where the last step broke the model, as the next step would for the steps before it."""
        for name in TRAINED:
            old, new = (probed.metrics.get(name, {}).get("probability") for probed in (before, after))
            if is_missing(new) and new["reason"].startswith(NOT_FINITE) and not is_missing(old):
                rows = after.rows[(after.rows["probe_set"] == name) & after.rows["probability"].isna()]
                raise Diverged("likelihood of an answer", math.nan, step, list(rows["sample_id"]))

    def _stepped(self, event: Event) -> None:
        """Complete a step's event by a probe where one is due, write it, and pass it on."""
        step, every = event["step"], self.config.probe_every
        if every and step % every == 0 and step < self.config.settings.steps:
            probed = self._probe(step=step, limit=min(self.config.probe_limit or PROBED_DURING, PROBED_DURING))
            event["probe"] = processes().gather(probed.metrics)[0]  # of one process, so that all end together
        if self.notes:
            event["notes"], self.notes = self.notes, []
        self.latest = event
        with self.ledger.phase("tracking"):
            total = self.ledger.total
            event |= {"time": time.time(), "total_flops": total.flops, "total_seconds": total.seconds}
            if processes().main:
                self.directory.append(event)
            self.trackers.log(event)
            if self.on_step is not None:
                self.on_step(event)

    def _say(self, text: str) -> None:
        """Say what a reader of the run must know, at once and in the next event."""
        self.notes.append(text)
        if processes().main:
            note(f"workbench: {self.directory.path}: {text}")

    def _probe(self, **options: Any) -> Probed:
        return probe(self.lm, self.task, run=self.directory.name, ledger=self.ledger, **options)

    def _probing(self, what: str, done: int, total: int, note: str = "") -> None:
        self.progress(what, done, total, note)
        if self._stop_requested():
            raise KeyboardInterrupt

    def _stop_requested(self) -> bool:
        return self.interrupted() or (self.directory.path / STOP).exists()
