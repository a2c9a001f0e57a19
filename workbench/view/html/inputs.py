"""What a notebook hands to a view: tables, runs and probes, and samples in any form; see also `run_source`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pandas as pd

from workbench.errors import UserError
from workbench.runs import Job, RunDirectory
from workbench.scorers import checked_scores, read_scores
from workbench.tasks import Sample, Task, TaskSpec
from workbench.view.run_source import RunSource, run_directory, run_of

if TYPE_CHECKING:
    from workbench.evals import Probed

Samples: TypeAlias = Mapping[Any, Any] | Iterable[Any] | Task | TaskSpec | pd.DataFrame | RunSource | None
Scores: TypeAlias = pd.DataFrame | RunSource | Any  # Any: what `unlearn` returns
Probes: TypeAlias = pd.DataFrame | RunSource | Sequence[Any] | Any  # Any: what `probe` returns, which loads torch
COLUMNS = ("sample_id", "position", "token", "start", "end", "scorer", "score")
KEYS = {"id": ("sample_id", "id"), "question": ("question", "prompt"), "answer": ("answer", "text")}


def as_texts(samples: Samples) -> dict[Any, tuple[str, str]]:
    """Sample id -> (question, answer).

    Args:
        samples: such a mapping, one of id -> `Sample`, samples or dictionaries, a table with columns `sample_id` (or
            `id`), `question` and `answer` (or `text`), a task, whose forget set it then is, or a run, whose forget
            answers these are; None for none.

    Raises:
        UserError: it is something else.
    """
    if (run := run_of(samples)) is not None:
        return texts_of_run(run)
    if isinstance(samples, TaskSpec):
        samples = samples.load()
    if isinstance(samples, Task):
        samples = samples.forget
    if isinstance(samples, pd.DataFrame):
        samples = samples.to_dict("records")
    if isinstance(samples, Mapping):
        texts = {name: _pair(value) for name, value in samples.items()}
    else:
        each: list[Any] = list(samples) if isinstance(samples, Iterable) else [samples] * (samples is not None)
        texts = {_name(sample): _pair(sample) for sample in each}
    if None in texts.values() or None in texts:
        raise UserError("samples must be a task, its samples, or a mapping of sample id -> (question, answer)")
    return {name: pair for name, pair in texts.items() if pair}


def _name(sample: Any) -> Any:
    """The id of a sample or of a row."""
    return sample.id if isinstance(sample, Sample) else _value(sample, "id") if isinstance(sample, Mapping) else None


def _value(row: Mapping[Any, Any], key: str) -> Any:
    return next((row[name] for name in KEYS[key] if row.get(name) is not None and row[name] == row[name]), None)


def _pair(value: Any) -> tuple[str, str] | None:
    """Question and answer, or None where it is neither a sample nor such a pair."""
    if isinstance(value, Sample):
        return value.question, value.answer
    if isinstance(value, Mapping):
        value = (_value(value, "question") or "", _value(value, "answer"))
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(text, str) for text in value):
        return value[0], value[1]
    return None


def texts_of(probes: pd.DataFrame, probe_set: str) -> dict[Any, tuple[str, str]]:
    """Question and answer by sample id, of one set of a probe table; ids are unique within a set only."""
    rows = probes[probes["probe_set"] == probe_set].drop_duplicates("sample_id")
    questions = [prompt if isinstance(prompt, str) else "" for prompt in rows["prompt"]]
    return dict(zip(rows["sample_id"], zip(questions, rows["answer"], strict=True), strict=True))


def texts_of_run(run: RunDirectory) -> dict[Any, tuple[str, str]]:
    """Question and answer of a run's forget samples; of those it probed, where its task is gone or another by now."""
    try:
        task = run.read_config().task.load(lambda line: None)
        if run.config.get("data_sha256", task.fingerprint) != task.fingerprint:
            raise UserError("the task has changed since the run")
        return {s.id: (s.question, s.answer) for s in task.forget}
    except (UserError, OSError):
        probes = run.table("probes.parquet")
        return {} if probes is None else texts_of(probes, "forget")


def as_scores(scores: Scores) -> pd.DataFrame:
    """A score table: read where its file is named, or those that a run recorded.

    Raises:
        UserError: it is none of these, lacks a column that views need, or one is of another kind.
    """
    if (run := run_of(scores)) is not None:
        table = run.table("scores.parquet")
        if table is None:
            raise UserError(f"{run.path} has recorded no scores yet; runs do so at the first checkpoint and at the end")
        return table
    if isinstance(scores, Path | str):
        return read_scores(Path(scores))
    if isinstance(made := getattr(scores, "scores", None), pd.DataFrame):  # what `unlearn` returns
        scores = made
    if not isinstance(scores, pd.DataFrame):
        raise UserError(f"scores must be a score table or its file, or a run, not {type(scores).__name__}")
    return checked_scores(scores, COLUMNS)


def as_probes(probes: Probes, file: str = "probes.parquet", columns: Collection[str] | None = None) -> pd.DataFrame:
    """A probe table, or with `file` "tokens.parquet" a token table: of a run, or of what `probe` returned.

    Raises:
        UserError: it is none of these, a table of other columns, or the run has not been probed yet.
    """
    if isinstance(probes, pd.DataFrame):
        from workbench.runs import wrong_table  # loads torch, which the other inputs do without

        if wrong := wrong_table(file, probes, columns):
            raise UserError(f"this is no {file.removesuffix('s.parquet')} table: {wrong}; probe and runs make one")
        return probes
    if parts := _probed(probes):
        return pd.concat([each.tokens if file == "tokens.parquet" else each.rows for each in parts])
    run = run_directory(cast(RunSource, probes))
    table = run.table(file)
    if table is None:
        raise UserError(f"{run.path} has not been probed yet; a run is probed at its beginning and at its end")
    return table


def as_metrics(metrics: Any) -> Mapping[str, Any]:
    """Phase -> probe set -> metric -> value: as such, of a run, or of what `probe` returned.

    Raises:
        UserError: it is none of these, or the run has no metrics yet.
    """
    if isinstance(metrics, Mapping):
        return metrics
    if parts := _probed(metrics):
        return {str(each.rows["phase"].iloc[0]): each.metrics for each in parts if len(each.rows)}
    return _record(metrics, "metrics.json")


def as_cost(cost: Any) -> Mapping[str, Any]:
    """The costs of a run: as `cost.json` holds them, of a run's directory, or of what `unlearn` returned."""
    if isinstance(cost, Mapping):
        return cost
    ledger = getattr(cost, "ledger", cost)
    return ledger.as_dict() if hasattr(ledger, "as_dict") else _record(cost, "cost.json")


def _record(source: RunSource, file: str) -> Mapping[str, Any]:
    run = run_directory(source)
    record = run.json(file)
    if record is None:
        raise UserError(f"{run.path} has no {file} yet; a run writes it when it is probed")
    return dict(record)


def _probed(source: Any) -> list[Probed]:
    """What `probe` returned, once or several times; none where this is something else."""
    from workbench.evals import Probed  # loads torch, which tables do without

    if isinstance(source, Path | str | RunDirectory | Job):
        return []
    parts = [source] if isinstance(source, Probed) else list(source) if isinstance(source, list | tuple) else []
    return parts if all(isinstance(each, Probed) for each in parts) else []
