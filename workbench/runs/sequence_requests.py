"""The requests of one seed of a sequence: each a run, all sets probed after it, and the attacks after the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cost import Ledger, Phase
from workbench.errors import Missing, is_missing
from workbench.evals import Probed, probe, probe_sets
from workbench.progress import Progress
from workbench.runs.attacking import attack
from workbench.runs.directory import RunDirectory
from workbench.runs.execution import carried_out
from workbench.runs.loading import load_for, load_result
from workbench.runs.records import METRICS, record_json, record_table
from workbench.runs.sequence_files import ATTACKED, PROBES, STATE, TOKENS, SequenceDirectory, request_key
from workbench.runs.sequence_plan import MERGED, Plan
from workbench.runs.stages import Event
from workbench.runs.stopping import Stopped
from workbench.tasks import Sample, Task


@dataclass
class Following:
    """The requests of one seed, one after the other."""

    plan: Plan
    tasks: list[Task]
    union: Task
    directory: SequenceDirectory
    seed: int
    progress: Progress
    on_step: Callable[[Event], None] | None

    def __post_init__(self) -> None:
        self.folder = self.directory.seed_folder(self.seed)
        self.kept = kept_sets(self.tasks)

    def run(self) -> None:
        """Each request, the probes of all sets after it, and the attacks after the last."""
        for after in range(len(self.tasks) + 1):
            run = self._request(max(after, 1))
            if self.directory.state(self.seed, after) is None:
                self._probe(after, run)
        if self.plan.attacks:
            self._attack(run)

    def _request(self, number: int) -> RunDirectory:
        """The finished run of a request: done now, gone on with, or done before."""
        path, config = self.folder / request_key(number), self.plan.config(number, self.seed, self.folder)
        hooks: dict[str, Any] = {"on_step": self.on_step, "progress": self._showing(f"request {number}")}
        try:
            run = carried_out(config, path, **hooks)
        except Stopped as stopped:
            raise Interrupted(self.directory.path, f"request {number}, {stopped}") from None
        if self.plan.adapters == MERGED and not (path / MERGED).exists():
            with run.writing(MERGED) as aside:
                load_result(run).save(aside)
        return run

    def _probe(self, after: int, run: RunDirectory) -> None:
        """Probe every set after so many requests, and write; what the run itself probed is taken from there."""
        ledger, lm, phase = Ledger(), None, "after" if after else "before"
        rows, tokens, metrics = [], [], {}
        shown = self._showing(f"after {after}")
        for key, task, name in self._columns():
            probed = None if name == "forget" else self._of_run(run, phase, name, task)
            if probed is None:
                if lm is None:
                    with ledger.phase("loading"):
                        lm = load_result(run) if after else load_for(self.plan.base)
                alone = Task(task.name, {"forget": task.forget[:1], name: task.sets[name]})
                probed = probe(lm, alone, limit=self.plan.base.probe_limit, ledger=ledger, progress=shown)
            about = {"run": request_key(after) if after else "", "phase": "after", "probe_set": key}
            metrics[key] = probed.metrics[name]
            rows.append(probed.rows[probed.rows["probe_set"] == name].assign(**about, step=after))
            tokens.append(probed.tokens[probed.tokens["probe_set"] == name].assign(**about))
        folder = self.directory.state_folder(self.seed, after)
        for file, tables in ((PROBES, rows), (TOKENS, tokens)):
            record_table(folder, file, pd.concat(tables, ignore_index=True))
        content = {"after": after, "kept": list(self.kept), "metrics": metrics, "cost": ledger.as_dict()}
        record_json(folder, STATE, content)

    def _columns(self) -> list[tuple[str, Task, str]]:
        """Key, task and set of every column of the matrix."""
        own = [(request_key(n), task, "forget") for n, task in enumerate(self.tasks, 1)]
        return own + [(key, self.tasks[n], name) for key, (n, name) in self.kept.items()]

    def _of_run(self, run: RunDirectory, phase: str, name: str, task: Task) -> Probed | None:
        """What a run probed of a set in its own way, if that is the same set; else None."""
        own = self.plan.trained_on(self.tasks, int(run.name.rpartition("-")[2]))
        if own.sets.get(name) != task.sets[name]:
            return None
        tables = [run.table(file) for file in (PROBES, TOKENS)]
        rows, tokens = (None if t is None else t[(t["phase"] == phase) & (t["probe_set"] == name)] for t in tables)
        metrics = (run.json(METRICS) or {}).get(phase, {}).get(name)
        return None if rows is None or tokens is None or metrics is None else Probed(rows, tokens, {name: metrics})

    def _attack(self, run: RunDirectory) -> None:
        """Attack, and write what it cost: the operations are estimated from shapes, since attacks do not count them."""
        plan, flops = self.plan, dict[str, float | Missing]()
        found = attack(
            run, self.union, reference=plan.base.reference, before=load_for(plan.base), attacks=list(plan.attacks),
            options=plan.attack_options, limit=plan.base.probe_limit, seed=self.seed,
            out=self.folder / "attacks", progress=self._showing("attack"), say=flops.update,
        )["attacks"]  # fmt: skip
        seconds = [value for entry in found.values() for value in entry["seconds"].values()]
        counted = sum(value for value in flops.values() if not is_missing(value))
        ledger = Ledger({"attacks": Phase(calls=len(seconds), flops=counted, seconds=sum(seconds))})
        record_json(self.folder, ATTACKED, ledger.as_dict())

    def _showing(self, where: str) -> Progress:
        """Progress with the place in the sequence in front."""
        seed = f"seed {self.seed}, " if len(self.plan.seeds) > 1 else ""

        def progress(what: str, done: int, total: int, note: str = "") -> None:
            self.progress(f"{seed}{where}: {what}", done, total, note)

        return progress


class Interrupted(Stopped):
    """A sequence was stopped; the same command goes on."""

    def __init__(self, path: Path, where: str) -> None:
        Exception.__init__(self, f"{path}: {where}")
        self.path, self.step = path, 0

    @property
    def hint(self) -> str:
        """How to go on."""
        return "run the same command again to go on"


def kept_sets(tasks: Sequence[Task]) -> dict[str, tuple[int, str]]:
    """The sets that nobody asks to forget, by key: the place of a task that has it, and its name there.

    A set that all tasks share stands once under its own name; of others each has its request's number.
    """
    kept: dict[str, tuple[int, str]] = {}
    contents: dict[str, list[Sample]] = {}
    names = dict.fromkeys(name for task in tasks for name in probe_sets(task) if name != "forget")
    for name in names:
        several = any(task.sets.get(name) != tasks[0].sets.get(name) for task in tasks)
        for n, task in enumerate(tasks):
            samples = task.sets.get(name)
            if not samples or any(samples == known for key, known in contents.items() if kept[key][1] == name):
                continue
            key = f"{name} of request {n + 1}" if several else name
            kept[key], contents[key] = (n, name), samples
    return kept
