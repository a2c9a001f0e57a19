"""The command that probes a model: per-set metrics, a benchmark's suite, relearning and general abilities."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import Progress, finite
from workbench.cli.options import Precision, PromptOptions, TaskOptions, command, count, option
from workbench.errors import UserError
from workbench.files import parse_json, writable, write_json, write_table
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.models import LanguageModel


@dataclass(frozen=True, kw_only=True)
class ProbedTask(TaskOptions):
    """The options that name a task, where what stands first is the model."""

    task: Annotated[str | None, option("TASK", "biographies, tofu/forget01, ...")] = None


@command
def probe(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL")],
    task: ProbedTask,
    style: PromptOptions,
    precision: Annotated[Precision | None, typer.Option(help="default: as recorded, or as the hardware allows")] = None,
    probe_limit: Annotated[int | None, count("at most N samples from each set")] = None,
    out: Annotated[Path | None, option("FILE.parquet", "every answer with its metrics")] = None,
    suite: Annotated[str, option("S", "basic, tofu, muse or rwku: set-level metrics")] = "basic",
    reference: Annotated[
        str | None, option("RUN_OR_MODEL", "a retain-only model, or RUN/suites/tofu.json, to compare with")
    ] = None,
    relearn: Annotated[int | None, count("fine-tune a copy on part of the forget set", "STEPS")] = None,
    relearn_share: Annotated[float, option("SHARE", "of the forget rows")] = 0.5,
    convention: Annotated[str, option("C", "ours, or open-unlearning where it differs")] = "ours",
    general: Annotated[str, option("TASK,...", "tasks of lm-eval, by name or FILE.yaml")] = "",
) -> dict[str, Any]:
    """Probe a model or the model of a run."""
    with uninterrupted():
        from workbench import evals
        from workbench.cli import tables
        from workbench.runs import is_run
    benchmark = evals.suite_names(suite)
    evals.convention_options(convention, "")
    harness = general.split(",") if general else []
    if harness:
        evals.check_tasks(harness)
    if out:
        writable(out)
    keep = Path(model) / "suites" / f"{suite}.json" if is_run(Path(model)) else None
    if keep:
        writable(keep)
    loaded = task.spec().load()
    if relearn:
        evals.taught(loaded, relearn_share, 0)  # refuses a share that leaves nothing
    lm = load_any(model, precision=precision, **asdict(style))
    compared = compared_with(reference, lm) if reference else None
    shared: dict[str, Any] = {"limit": probe_limit, "convention": convention, "progress": Progress()}
    probed = evals.probe(lm, loaded, **shared)
    if out:
        write_table(out, probed.rows)
    tables.metric_table({"value": probed.metrics})
    measured = evals.run_suite(lm, loaded, suite, compared, probed=probed, **shared)
    if benchmark:
        print()
        tables.summary_table(measured["summary"], measured["parts"])
    result = {"metrics": probed.metrics, **measured, "curve": [], "convention": convention}
    if relearn:
        curve = evals.relearn(lm, loaded, steps=relearn, share=relearn_share, **shared)
        result["curve"] = finite(curve.to_dict("records"))
        print()
        tables.curve_table(curve)
    if harness:
        result["general"] = evals.general(lm, harness, limit=probe_limit)
        print()
        tables.general_table(result["general"])
    if keep:
        write_json(keep, result)
    return result


def load_any(name: str, *, precision: Precision | None = None, **options: Any) -> LanguageModel:
    """A model, or the model that a run left, in the run's number format unless one is given; options as in `load`."""
    from workbench.runs import loaded_model

    lm = loaded_model(name, precision=precision, **options)
    return replace(lm, precision=precision) if precision else lm


def compared_with(name: str, lm: LanguageModel) -> LanguageModel | dict[str, Any]:
    """What a suite compares with: a model, a run's model, or the results of an earlier suite (its JSON file)."""
    from workbench.runs import wrong

    if not name.endswith(".json"):
        return load_any(name, **lm.like())
    try:
        results = parse_json(Path(name).read_bytes())
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"--reference {name}: {why}") from None
    except ValueError:
        raise UserError(f"--reference {name}: not JSON") from None
    if wrong("suite", results) or not isinstance(results.get("parts"), dict):
        raise UserError(f"--reference {name}: not the results of a suite (RUN/suites/<suite>.json)")
    return results
