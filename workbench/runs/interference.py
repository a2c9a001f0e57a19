"""Which domain hurts which: one run a domain and seed, and what each did to the others, beside what was predicted."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.evals import Domain, Interference, domains, interference_from, row_damage, row_values
from workbench.files import parse_json, read_parquet, writable, write_json, write_table
from workbench.progress import Progress, silent
from workbench.runs.config import Config
from workbench.runs.directory import RunDirectory, is_run
from workbench.runs.options import settings_for
from workbench.runs.places import place_of
from workbench.runs.records import Damaged
from workbench.tasks import Sample, Task, TaskSpec, spread

if TYPE_CHECKING:
    from workbench.models import LanguageModel

RESULT, TOKENS, PAIRS, LOST = "interference.json", "tokens.parquet", "pairs.parquet", "lost.parquet"
LEVEL = "forget.fact_accuracy<=0.2"  # at which the domains are compared
STEPS, PROBE_EVERY, PROBED = 240, 4, 20  # of a run at most; between two looks at the level; answers a set then
KEPT = ["sample_id", "position", "logp", "rank", "span"]  # of a token table, in a run's `lost.parquet`


def interfere(
    task: str | TaskSpec | Config,
    by: str,
    model: str = "",
    *,
    objective: str = "wga",
    weights: str = "uniform",
    pairs: Sequence[str] = (),
    level: str = LEVEL,
    seeds: Sequence[int] = (0,),
    sets: Sequence[str] = ("forget", "neighbours"),
    most: int | None = None,
    answers: int = 3,
    out: Path | str = "interference",
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
) -> Interference:
    """Forget each domain of a task alone, down to the same level, and measure what that did to the other domains.

    Each forgetting is a run in a directory of its own under `out`, with the task's retain set, in whose loss the other
    domains are not. Called again with the same arguments, it does what is missing.

    Args:
        task: by name, as a `TaskSpec`, or a `Config` that says everything about the runs but their seed.
        by: the field of the rows that makes the domains, such as person, attribute or kind.
        model: by name; one of a `Config` comes before it.
        objective: the forget loss.
        weights: the token weights.
        pairs: settings as key=value, as in `workbench unlearn --set`.
        level: each run ends at the first probe that reaches it.
        seeds: of the runs.
        sets: whose domains are measured, "forget" among them; sets without the field are left out.
        most: forget at most so many domains, evenly spread; all are measured.
        answers: so many answers of each domain have their tokens in the result; 0 for none.
        out: the directory of the runs and of the result.
        progress: called with "forget", runs done, all runs, and what is forgotten; and with "predict" and "tokens".
        stop: called before each step; the run stops there if it returns true.

    Raises:
        UserError: a name or a level is wrong, or there are not two domains; nothing is loaded then.
        Stopped: by Ctrl-C or `stop`.
    """
    config = task if isinstance(task, Config) else configured(task, model, objective, weights, list(pairs), level)
    config.check()
    out, ledger = Path(out), Ledger()
    if "forget" not in sets or len(set(sets)) < len(sets):
        raise UserError("sets must have forget among them, and none of them twice")
    sets = sorted(sets, key=lambda name: name != "forget")  # the field has a forget domain's own name
    if not len(seeds) or min(len(set(seeds)), answers + 1) < 1 or len(set(seeds)) < len(seeds):
        raise UserError("seeds must be one or more different whole numbers, and answers at least 0")
    if most is not None and most < 1:
        raise UserError("most must be at least 1")
    loaded = config.task.load()
    there = [name for name in sets if name == "forget" or any(s.get(by) is not None for s in loaded.sets.get(name, []))]
    measured = domains(loaded, by, there if set(sets) <= set(loaded.sets) else sets)
    forgotten = spread([domain for domain in measured if domain.probe_set == "forget"], most)
    writable(out / RESULT)
    runs, lost = [], []
    for n, seed in enumerate(seeds):
        for i, domain in enumerate(forgotten):
            progress("forget", n * len(forgotten) + i, len(seeds) * len(forgotten), domain.name)
            alone = replace(config.task, only=(by, domain.value), sets=("forget", "retain"))  # no others are probed
            one = config.replace(task=alone)
            one = one.replace(settings=one.settings.replace(seed=seed))
            path = directory_of(one, domain.name, out)
            runs.append(run_one(one, path, stop))
            with ledger.phase("measuring") as cost:
                lost.append(tokens_after(runs[-1], [s for each in measured for s in each.samples], cost=cost))
    progress("forget", len(runs), len(runs))
    result = _assembled(config, loaded, by, list(seeds), forgotten, measured, runs, lost, answers, ledger, progress)
    save(result, out)
    return result


def configured(task: str | TaskSpec, model: str, objective: str, weights: str, pairs: list[str], level: str) -> Config:
    """The runs' configuration, with at least as many steps as the level needs."""
    if not model:
        raise UserError("name the model: model='bio-full'")
    named = {pair.partition("=")[0].strip() for pair in pairs}
    settings = settings_for([*([] if "steps" in named else [f"steps={STEPS}"]), *pairs], [objective], [weights])
    never = {"record_every": settings.steps, "checkpoint_every": max(settings.steps // 4, 20)}
    settings = settings.replace(**{name: value for name, value in never.items() if name not in named})
    spec = task if isinstance(task, TaskSpec) else TaskSpec(task)
    common = {"objective": objective, "weights": weights, "settings": settings, "stop_at": level}
    return Config(task=spec, model=model, probe_every=PROBE_EVERY if level else 0, probe_limit=PROBED, **common)


def directory_of(config: Config, domain: str, root: Path) -> Path:
    """The directory of a run: `<domain>-s<seed>-<hash of the whole configuration>`."""
    name = re.sub(r"[^\w-]+", "-", domain.casefold())[:40].strip("-") or "domain"
    return place_of(config.absolute(), f"{name}-s{config.settings.seed}", root)


def run_one(config: Config, path: Path, stop: Callable[[], bool] | None) -> RunDirectory:
    """The run, which is started, resumed or only read."""
    from workbench.runs.execution import carried_out
    from workbench.runs.loading import check_rows, check_weights

    if is_run(path):
        run = RunDirectory(path)
        check_weights(run, config)
        if run.finished:
            check_rows(run, config.task.load(lambda _: None))
    return carried_out(config, path, stop=stop)


def tokens_after(
    run: RunDirectory, samples: Sequence[Sample], file: Path | None = None, cost: Phase | None = None
) -> pd.DataFrame:
    """How probable the tokens of samples are after a run; kept in a file of its directory, and read from there."""
    file = file or run.path / LOST
    with contextlib.suppress(Exception):  # none yet, or bytes that mean nothing: it is made again
        table = read_parquet(file)
        if set(KEPT) <= set(table) and {s.id for s in samples} == set(table["sample_id"]):
            return table
    from workbench.evals import token_table
    from workbench.runs.loading import load_result

    table = token_table(load_result(run), list(samples), cost=cost)[KEPT]
    write_table(file, table)
    return table


def _assembled(
    config: Config,
    task: Task,
    by: str,
    seeds: list[int],
    forgotten: list[Domain],
    measured: list[Domain],
    runs: list[RunDirectory],
    lost: list[pd.DataFrame],
    answers: int,
    ledger: Ledger,
    progress: Progress,
) -> Interference:
    """The result: damage by pair, predictions, tokens."""
    from workbench.evals import predictions, token_table
    from workbench.runs.loading import load_for

    with ledger.phase("loading"):
        lm = load_for(config)
    with ledger.phase("measuring") as cost:
        before = token_table(lm, [s for domain in measured for s in domain.samples], cost=cost)
    damage = damage_by_domain(before, lost, measured)
    shape = (len(seeds), len(forgotten), len(measured))
    groups, others = [domain.samples for domain in forgotten], [domain.samples for domain in measured]
    rows = [s for name in ("forget", "retain", "neighbours") for s in task.sets.get(name, [])]
    with ledger.phase("predicting") as cost:
        predicted = predictions(lm, groups, others, rows, settings=config.settings, cost=cost, progress=progress)
        shown = {d.name: spread(d.samples, answers) if answers else [] for d in measured}
        tokens = _carriers(lm, task.name, forgotten, shown, before, lost, cost, progress) if answers else pd.DataFrame()
    ended = [run.events() for run in runs]
    # A run says that a probe found the level, the last one included; without a level it need not.
    reached = [not config.stop_at or str(run.status()["reason"]).startswith("reached ") for run in runs]
    for run in runs:
        ledger.add(Ledger.from_dict(run.json("cost.json") or {"phases": {}}))
    about: dict[str, Any] = {"objective": config.objective, "weights": config.weights, "level": config.stop_at}
    about |= {"runs": [run.path.name for run in runs], "cost": ledger.as_dict()}
    return Interference(
        task.name, config.model, by, [d.name for d in forgotten], [d.name for d in measured],
        [d.probe_set for d in measured], seeds,
        {name: values.reshape(shape) for name, values in damage.items()}, predicted,
        np.array(reached).reshape(shape[:2]),
        np.array([events[-1]["step"] if events else 0 for events in ended]).reshape(shape[:2]), about, tokens,
        {s.id: (s.question, s.answer, name) for name, samples in shown.items() for s in samples},
    )  # fmt: skip


def damage_by_domain(
    before: pd.DataFrame, lost: Sequence[pd.DataFrame], measured: Sequence[Domain]
) -> dict[str, np.ndarray]:
    """Metric -> (runs, J) mean over a domain's rows of what each run took from them."""
    start = row_values(before)
    place = {s.id: j for j, domain in enumerate(measured) for s in domain.samples}
    of_row = [row_damage(start, row_values(table)) for table in lost]
    means = [rows.groupby(rows.index.map(place)).mean().reindex(range(len(measured))) for rows in of_row]
    return {name: np.stack([mean[name].to_numpy(dtype=float) for mean in means]) for name in start}


def _carriers(
    lm: LanguageModel,
    task: str,
    forgotten: Sequence[Domain],
    shown: dict[str, list[Sample]],
    before: pd.DataFrame,
    lost: Sequence[pd.DataFrame],
    cost: Any,
    progress: Progress,
) -> pd.DataFrame:
    """For each domain that is forgotten, the score table of the shown answers: `conflict`, and what was `lost`."""
    from workbench.evals import conflicts
    from workbench.models import encode
    from workbench.scorers import score_table

    samples = [s for each in shown.values() for s in each]
    encodings = [encode(lm, s) for s in samples]
    start = before.set_index(["sample_id", "position"])["logp"]
    after = [table.set_index(["sample_id", "position"])["logp"] for table in lost]
    parts = []
    for i, domain in enumerate(forgotten):
        progress("tokens", i, len(forgotten), domain.name)
        rates = conflicts(lm, domain.samples, samples, cost=cost)
        seeds = [table for n, table in enumerate(after) if n % len(forgotten) == i]
        drops = start - sum(seeds) / len(seeds)
        values = {"conflict": rates, "lost": [drops.loc[s.id].sort_index().to_numpy() for s in samples]}
        tables = [score_table(encodings, scores, task=task, scorer=name, step=0) for name, scores in values.items()]
        parts += [table.assign(forgotten=domain.name) for table in tables]
    progress("tokens", len(forgotten), len(forgotten))
    return pd.concat(parts, ignore_index=True)


def save(result: Interference, out: Path) -> None:
    """Write a result: `interference.json`, `pairs.parquet` and, where there are tokens, `tokens.parquet`."""
    write_table(out / PAIRS, result.to_frame())
    write_table(out / TOKENS, result.tokens)
    write_json(out / RESULT, result.as_dict() | {"texts": {key: list(texts) for key, texts in result.texts.items()}})


def read_interference(out: Path | str) -> Interference:
    """The result that `interfere` left in a directory; UserError where there is none, or a file is damaged."""
    file = Path(out) / RESULT
    if not file.is_file():
        raise UserError(f"{out} has no {RESULT}; workbench interference TASK --by FIELD --model M makes one")
    try:
        record = parse_json(file.read_text(encoding="utf-8"))
        tokens = read_parquet(file.with_name(TOKENS))
        return interference_from(record, tokens, record["texts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(file, f"it does not fit together ({type(error).__name__})", "run the command again") from None
