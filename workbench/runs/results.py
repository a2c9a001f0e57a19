"""What a run writes beside its events: inputs, probes, checkpoints, costs, and last of all the model and `run.json`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.evals import Probed
from workbench.files import remove
from workbench.models import ADAPTER, LanguageModel, has_adapter, processes, save_adapter, whole_weights
from workbench.runs.checkpoints import FOLDER, newest_intact, save_checkpoint
from workbench.runs.config import made_by
from workbench.runs.directory import METRICS, RunDirectory
from workbench.runs.records import Damaged, entries, record
from workbench.scorers import save_scorer
from workbench.tasks import Task
from workbench.unlearning import Checkpoint, Run


def record_inputs(directory: RunDirectory, task: Task, lm: LanguageModel) -> None:
    """Add to `config.json` what the machine chose; raise if model or data have changed since the run began."""
    hashes = {"model_sha256": lm.fingerprint(), "data_sha256": task.fingerprint}
    for name, value in hashes.items():
        if directory.config.get(name, value) != value:
            what, by = name.split("_")[0], made_by(directory.config)
            raise UserError(f"{directory.path}: the {what} has changed since the run began{by}; cannot resume")
    record = directory.config | hashes
    record |= {"precision": lm.precision, "device": str(lm.device)} | lm.style()
    record |= {"threads": torch.get_num_threads(), "processes": processes().world}
    if processes().main and record != directory.config:
        directory.write_json("config.json", record)


def restore(directory: RunDirectory, ledger: Ledger, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest intact checkpoint. Adds to the ledger what the run cost up to there, and the steps to be done again.

    What is damaged or missing and can be made again is said: newer checkpoints, costs, events.
    """
    saved = newest_intact(directory.path)
    state = saved.state
    step = state.step if state else 0
    for folder, why in saved.damaged.items():
        say(f"{folder.name} is damaged ({why}); the run goes on from {f'step {step}' if state else 'its beginning'}")
    processes().wait()  # all have looked
    if processes().main:  # the earlier costs are the main process's
        for folder in saved.damaged:
            remove(folder)
        try:
            earlier = directory.json("cost.json")
        except Damaged as error:
            earlier = None
            if not state:
                say(f"cost.json is damaged ({error.what}); what the run cost before is not counted")
        if state or earlier:
            ledger.add(state.ledger if state else Ledger.from_dict(earlier))
        if gap := directory.log.gap(step, saved.events):
            say(f"events.jsonl has a gap: {gap}")
        for event in directory.log.keep(step):
            tokens, flops, seconds = (event.get(name, 0) for name in ("tokens", "flops", "seconds"))
            ledger.add(Ledger({"lost": Phase(1, tokens, flops, seconds)}))
    return replace(state, ledger=ledger) if state else None


def checkpoint(directory: RunDirectory, state: Checkpoint, keep: int) -> None:
    """Write a checkpoint, with the costs of all processes."""
    state = replace(state, ledger=total_cost(state.ledger))
    if processes().main:
        save_checkpoint(directory.path, state, keep, directory.log.synced())
    processes().wait()


def read_before(directory: RunDirectory, say: Callable[[str], None]) -> Probed | None:
    """The probes before the run, if an earlier process made them and they are as it wrote them."""
    try:
        rows, tokens = directory.table("probes.parquet"), directory.table("tokens.parquet")
        metrics = directory.json(METRICS)
        if not metrics or rows is None or tokens is None:
            return None
        rows, tokens = (table[table["phase"] == "before"].reset_index(drop=True) for table in (rows, tokens))
        return Probed(rows, tokens, metrics["before"])
    except Damaged as error:
        say(f"{error.path.name} is damaged ({error.what}); the probes before the run are made again")
        return None


def write_before(directory: RunDirectory, before: Probed, ledger: Ledger) -> None:
    """Write the probes before the run, and what they cost."""
    if processes().main:
        _write_probes(directory, {"before": before})
        directory.write_json("cost.json", ledger.as_dict())


def write_results(directory: RunDirectory, run: Run, before: Probed, after: Probed, reason: str | None) -> None:
    """Write what a run that has ended leaves: the model last but one, `run.json` last."""
    weights = None if has_adapter(run.lm) else whole_weights(run.lm)
    if processes().main:
        with run.ledger.phase("saving"):
            _write_probes(directory, {"before": before, "after": after})
            directory.write_table("scores.parquet", run.scores)
            if run.scorer is not None:
                with directory.writing("scorer.safetensors") as aside:
                    save_scorer(run.scorer, aside)
            model = ADAPTER if has_adapter(run.lm) else "model"
            shutil.rmtree(directory.path / model, ignore_errors=True)  # of a run killed here
            with directory.writing(model) as aside:
                save_adapter(run.lm, aside) if has_adapter(run.lm) else run.lm.save(aside, weights)
    cost = total_cost(run.ledger)
    if processes().main:
        directory.write_json("cost.json", cost.as_dict())
        directory.log.synced()
        record(directory.path, entries(directory.path / "events.jsonl", "events.jsonl"))
        status = {"status": "finished", "steps": run.steps} | ({"reason": reason} if reason else {})
        directory.write_json("run.json", status)
        shutil.rmtree(directory.path / FOLDER, ignore_errors=True)
    processes().wait()


def _write_probes(directory: RunDirectory, phases: dict[str, Probed]) -> None:
    for name in ("rows", "tokens"):
        table = pd.concat([getattr(probed, name) for probed in phases.values()], ignore_index=True)
        directory.write_table(f"{'probes' if name == 'rows' else name}.parquet", table)
    directory.write_json(METRICS, {phase: probed.metrics for phase, probed in phases.items()})


def total_cost(ledger: Ledger) -> Ledger:
    """The costs of all processes: tokens and FLOPs of each, seconds and calls of the main one."""
    if processes().world == 1:
        return ledger
    total = Ledger.from_dict(ledger.as_dict())
    for other in processes().gather(ledger.as_dict())[1:]:
        for name, phase in Ledger.from_dict(other).phases.items():
            total.add(Ledger({name: replace(phase, seconds=0.0, calls=0)}))
    return total
