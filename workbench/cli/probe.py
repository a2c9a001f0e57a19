"""The command that probes a model: per-set metrics, a benchmark's suite, relearning and general abilities."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import models, runs
from workbench.cli.console import progress_hooks
from workbench.cli.options import spec
from workbench.cli.tables import curve_table, general_table, metric_table, summary_table
from workbench.errors import UserError
from workbench.evals import check_tasks, convention_options, general, relearn, run_suite, suite_names, taught
from workbench.evals import probe as probe_task
from workbench.files import writable, write_json, write_table


def probe(given: Namespace) -> dict[str, Any]:
    """Probe a model."""
    names = suite_names(given.suite)
    convention_options(given.convention, "")
    harness = given.general.split(",") if given.general else []
    if harness:
        check_tasks(harness)
    folder = Path(given.model)
    if given.out:
        writable(Path(given.out))
    keep = folder / "suites" / f"{given.suite}.json" if runs.is_run(folder) else None
    if keep:
        writable(keep)
    task = spec(given).load()
    if given.relearn:
        taught(task, given.relearn_share, 0)  # refuses a share that leaves nothing
    lm = load_any(given.model, given.prompt)
    reference = compared_with(given.reference, lm) if given.reference else None
    shared = {
        "limit": given.probe_limit,
        "convention": given.convention,
        "progress": progress_hooks(0)["progress"],
    }
    probed = probe_task(lm, task, **shared)
    if given.out:
        write_table(Path(given.out), probed.rows)
    metric_table({"value": probed.metrics})
    found = run_suite(lm, task, given.suite, reference, probed=probed, **shared)
    if names:
        print()
        summary_table(found["summary"], found["parts"])
    result = {"metrics": probed.metrics, **found, "curve": [], "convention": given.convention}
    if given.relearn:
        curve = relearn(lm, task, steps=given.relearn, share=given.relearn_share, **shared)
        result["curve"] = records(curve)
        print()
        curve_table(curve)
    if harness:
        result["general"] = general(lm, harness, limit=given.probe_limit)
        print()
        general_table(result["general"])
    if keep:
        write_json(keep, result)
    return result


def load_any(name: str, prompt: models.Prompt | None, **like: Any) -> models.LanguageModel:
    """A model, or the model that a run left; `like`: further arguments of `models.load`."""
    if runs.is_run(Path(name)):
        return runs.load_result(runs.RunDirectory(Path(name)), prompt)
    return models.load(name, prompt=prompt, **like)


def compared_with(name: str, lm: models.LanguageModel) -> models.LanguageModel | dict[str, Any]:
    """What a suite compares with: a model, a run's model, or the results of an earlier suite (its JSON file)."""
    if not name.endswith(".json"):
        return load_any(name, **lm.like())
    try:
        found = json.loads(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--reference {name}: no such file") from None
    except ValueError:
        raise UserError(f"--reference {name}: not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("parts"), dict):
        raise UserError(f"--reference {name}: not the results of a suite (RUN/suites/<suite>.json)")
    return found


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as JSON: a number that is none is null."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
