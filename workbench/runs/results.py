"""What a run writes beside its events: inputs, probes, checkpoints, costs, and last of all the model and `run.json`."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.evals import Probed
from workbench.files import write_json, write_table, writing
from workbench.models import ADAPTER, LanguageModel, has_adapter, processes, save_adapter, whole_weights
from workbench.runs.checkpoints import FOLDER, latest_checkpoint, read_checkpoint, save_checkpoint
from workbench.runs.directory import METRICS, RunDirectory
from workbench.scorers import save_scorer
from workbench.tasks import Task
from workbench.unlearning import Checkpoint, Run


def record_inputs(directory: RunDirectory, task: Task, lm: LanguageModel) -> None:
    """Add to `config.json` what the machine chose; raise if model or data have changed since the run began."""
    hashes = {"model_sha256": lm.fingerprint(), "data_sha256": task.fingerprint}
    for name, value in hashes.items():
        if directory.config.get(name, value) != value:
            raise UserError(
                f"{directory.path}: the {name.split('_')[0]} has changed since the run began; cannot resume"
            )
    record = directory.config | hashes
    record |= {"precision": lm.precision, "device": str(lm.device)} | lm.style()
    record |= {"threads": torch.get_num_threads(), "processes": processes().world}
    if processes().main:
        write_json(directory.path / "config.json", record)


def restore(directory: RunDirectory, ledger: Ledger) -> Checkpoint | None:
    """The newest checkpoint. Adds to the ledger what the run cost up to there, and the steps that are done again."""
    checkpoint = latest_checkpoint(directory.path)
    state = read_checkpoint(checkpoint) if checkpoint else None
    earlier = directory.json("cost.json")
    if processes().main:  # the earlier costs are the main process's
        if state or earlier:
            ledger.add(state.ledger if state else Ledger.from_dict(earlier))
        for event in directory.keep_events(state.step if state else 0):
            ledger.add(Ledger({"lost": Phase(1, event["tokens"], event["flops"], event["seconds"])}))
    return replace(state, ledger=ledger) if state else None


def checkpoint(directory: RunDirectory, state: Checkpoint, keep: int) -> None:
    """Write a checkpoint, with the costs of all processes."""
    state = replace(state, ledger=total_cost(state.ledger))
    if processes().main:
        save_checkpoint(directory.path, state, keep)
    processes().wait()


def read_before(directory: RunDirectory) -> Probed | None:
    """The probes before the run, if an earlier process made them."""
    rows, tokens = directory.table("probes.parquet"), directory.table("tokens.parquet")
    metrics = directory.json(METRICS)
    if not metrics or rows is None or tokens is None:
        return None
    rows, tokens = (table[table["phase"] == "before"].reset_index(drop=True) for table in (rows, tokens))
    return Probed(rows, tokens, metrics["before"])


def write_before(directory: RunDirectory, before: Probed, ledger: Ledger) -> None:
    """Write the probes before the run, and what they cost."""
    if processes().main:
        _write_probes(directory, {"before": before})
        write_json(directory.path / "cost.json", ledger.as_dict())


def write_results(directory: RunDirectory, run: Run, before: Probed, after: Probed, reason: str | None) -> None:
    """Write what a run that has ended leaves: the model last but one, `run.json` last."""
    weights = None if has_adapter(run.lm) else whole_weights(run.lm)
    if processes().main:
        with run.ledger.phase("saving"):
            _write_probes(directory, {"before": before, "after": after})
            write_table(directory.path / "scores.parquet", run.scores)
            if run.scorer is not None:
                with writing(directory.path / "scorer.safetensors") as aside:
                    save_scorer(run.scorer, aside)
            model = directory.path / (ADAPTER if has_adapter(run.lm) else "model")
            shutil.rmtree(model, ignore_errors=True)  # of a run killed here
            with writing(model) as aside:
                save_adapter(run.lm, aside) if has_adapter(run.lm) else run.lm.save(aside, weights)
    cost = total_cost(run.ledger)
    if processes().main:
        write_json(directory.path / "cost.json", cost.as_dict())
        status = {"status": "finished", "steps": run.steps} | ({"reason": reason} if reason else {})
        write_json(directory.path / "run.json", status)
        shutil.rmtree(directory.path / FOLDER, ignore_errors=True)
    processes().wait()


def _write_probes(directory: RunDirectory, phases: dict[str, Probed]) -> None:
    for name in ("rows", "tokens"):
        table = pd.concat([getattr(probed, name) for probed in phases.values()], ignore_index=True)
        write_table(directory.path / f"{'probes' if name == 'rows' else name}.parquet", table)
    write_json(directory.path / METRICS, {phase: probed.metrics for phase, probed in phases.items()})


def total_cost(ledger: Ledger) -> Ledger:
    """The costs of all processes: tokens and FLOPs of each, seconds and calls of the main one."""
    if processes().world == 1:
        return ledger
    total = Ledger.from_dict(ledger.as_dict())
    for other in processes().gather(ledger.as_dict())[1:]:
        for name, phase in Ledger.from_dict(other).phases.items():
            total.add(Ledger({name: replace(phase, seconds=0.0, calls=0)}))
    return total
