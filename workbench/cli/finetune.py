"""The command that plants a task's facts into a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.console import Progress, number, say
from workbench.cli.options import ModelOptions, TaskOptions, command, count, flag, option, settings
from workbench.errors import NOT_FINITE, Missing, UserError, is_missing, missing
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    import pandas as pd


@command
def finetune(
    task: TaskOptions,
    model: ModelOptions,
    out: Annotated[Path, option("DIR", "where the model is saved")],
    epochs: Annotated[int, count("passes over the samples")] = 8,
    retain_only: Annotated[
        bool, flag("--retain-only", "leave the forget set out, for a model to compare with")
    ] = False,
    pairs: Annotated[list[str], settings("e.g. lr=1e-4 batch_size=16")] = [],  # noqa: B006
) -> dict[str, Any]:
    """Fine-tune a model on a task's facts."""
    with uninterrupted():
        from workbench.files import writable, writing
        from workbench.models import has_adapter, save_adapter
        from workbench.runs import settings_from
        from workbench.scorers import score_samples
        from workbench.unlearning import epochs as steps_of
        from workbench.unlearning import finetune as plant
    loaded = task.spec().load()
    names = ("retain", "train_extra") if retain_only else ("forget", "retain", "train_extra")
    samples = [s for name in names for s in loaded.sets.get(name, [])]
    defaults: dict[str, Any] = {"batch_size": 16, "lr": 1e-4, "warmup": 10}
    chosen = settings_from(pairs, {}, **defaults)
    if not any(pair.startswith("steps=") for pair in pairs):
        steps = steps_of(epochs, len(samples), chosen.batch_size)
        chosen = settings_from([*pairs, f"steps={steps}"], {}, **defaults)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; choose another --out")
    writable(out, folder=True)
    lm = model.load()
    run = plant(lm, samples, settings=chosen, on_step=Progress().of_steps(chosen.steps))
    with writing(out) as aside:
        save_adapter(lm, aside) if has_adapter(lm) else lm.save(aside)
    sets, bar = {name: loaded.sets[name] for name in ("forget", "retain")}, Progress()
    tables = {name: score_samples(lm, samples, ["surprisal"], progress=bar) for name, samples in sets.items()}
    means = {name: mean_nll(table) for name, table in tables.items()}
    say(f"saved {out}; mean answer NLL: forget {number(means['forget'])}, retain {number(means['retain'])}")
    for reason in {value["reason"] for value in means.values() if is_missing(value)}:
        say(f"not available: {reason}")
    return {"out": str(out), "steps": chosen.steps, "nll": means, "cost": run.ledger.as_dict()}


def mean_nll(surprisal: pd.DataFrame) -> float | Missing:
    """The mean of a score table, of the tokens that the model predicts: all but a text's first, in some tokenizers."""
    lost = surprisal["score"].isna() & (surprisal["position"] > 0)
    return missing(NOT_FINITE) if lost.any() else float(surprisal["score"].mean())
