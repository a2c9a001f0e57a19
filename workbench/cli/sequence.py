"""The command that carries out many deletion requests, one after the other, and shows what each left of every set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.cli.attack import attack_options
from workbench.cli.console import Progress, finite, number, say, table_line
from workbench.cli.options import ModelOptions, ProbeLimit, command, count, flag, option, settings
from workbench.cli.sweep import seeds_of
from workbench.errors import is_missing, unknown
from workbench.files import writable, write_text
from workbench.runs import uninterrupted

if TYPE_CHECKING:
    from workbench.evals import Retention
    from workbench.tasks import TaskSpec


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The options that name the requests."""

    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK TASK ...", help="biographies/person:0, ..., or files with --retain")
    ]
    data_dir: Annotated[str | None, option("DIR", "directory with the official files")] = None
    retain: Annotated[str | None, option("FILE", "your own rows to keep: each TASK is then a file to forget")] = None
    spans: Annotated[str | None, option("FILE", "span labels of the forget rows")] = None
    retain_rows: Annotated[int | None, count("use only N retain rows")] = None
    columns: Annotated[str | None, option("KEY=COLUMN,...", "columns of your own files, if they have other names")] = (
        None
    )

    def specs(self) -> list[TaskSpec]:
        """The requests that the options name."""
        from workbench.cli.options import TaskOptions

        own: dict[str, Any] = {name: value for name, value in asdict(self).items() if name != "tasks"}
        key = "forget" if self.retain else "task"
        return [TaskOptions(**own | {key: task}).spec() for task in self.tasks]


@command
def sequence(
    requests: RequestOptions,
    model: ModelOptions,
    objective: Annotated[str, option("X", "the forget loss")],
    weights: Annotated[str, option("Y", "a scorer's name, a score table, or a saved scorer")],
    reference: Annotated[str | None, option("MODEL", "a retain-only model, for scorers and attacks")] = None,
    pairs: Annotated[list[str], settings("e.g. steps=60 lr=3e-4")] = [],  # noqa: B006
    seeds: Annotated[str, option("A,B,C", "seeds: a whole sequence for each")] = "0",
    rehearse: Annotated[bool, flag("--rehearse", "each request also forgets the rows of earlier ones again")] = False,
    scorer: Annotated[
        Literal["new", "carried"], typer.Option(help="weights that learn: new for each request, or carried on")
    ] = "new",
    adapters: Annotated[
        Literal["stacked", "merged"], typer.Option(help="with train=lora: stacked on each other, or merged on disk")
    ] = "stacked",
    attacks: Annotated[str, option("A,...", "attack the last model: names of attacks, or all")] = "",
    attack_set: Annotated[list[str], typer.Option(metavar="A.K=V ...", help="options of attacks")] = [],  # noqa: B006
    probe_limit: ProbeLimit = None,
    metric: Annotated[str | None, option("METRIC", "shown in the matrix; default: fact accuracy")] = None,
    html: Annotated[Path | None, option("FILE.html", "also write a page, with the answers")] = None,
    out: Annotated[Path | None, option("DIR", "default: a directory in runs/ named after these options")] = None,
) -> dict[str, Any]:
    """Forget one request after the other, and measure what each does to all others.

    The same command goes on where it was stopped.
    """
    if html:
        writable(html)
    with uninterrupted():
        from workbench.runs import sequence as carry_out
        from workbench.runs import settings_for
    if metric and metric not in (names := higher()):
        raise unknown("metric of the sequence", metric, names)
    progress, chosen = Progress(), settings_for(pairs, [objective], [weights])
    directory = carry_out(
        requests.specs(), objective=objective, weights=weights, settings=chosen, seeds=seeds_of(seeds),
        reference=reference, probe_limit=probe_limit, rehearse=rehearse, scorer=scorer, adapters=adapters,
        attacks=attacks, attack_options=attack_options(attack_set), out=out,
        progress=progress, on_step=progress.of_steps(chosen.steps), **asdict(model),
    )  # fmt: skip
    retention = directory.retention(metric)
    show(retention)
    results = directory.results()
    spent = results["cost"]["total"]
    say(f"spent: {spent['seconds']:.0f} s, {spent['flops']:.3g} FLOPs")
    say(directory.path)
    if html:
        from workbench.view import sequence_page

        write_text(html, sequence_page(directory, metric=metric))
        say(html)
    shown = {"metric": retention.metric, "values": retention.values.tolist()}
    return {"sequence": str(directory.path)} | results | {"retention": finite(shown)}


def higher() -> list[str]:
    """The metrics of which higher means that more is known: of these a sequence has matrices."""
    from workbench.evals import metric

    return [name for name in metric if metric[name].better == "higher"]


def show(retention: Retention) -> None:
    """Print the matrix and its numbers."""
    from workbench.evals import NUMBERS

    mean = retention.mean()
    say(f"{retention.metric} after each request, mean of {len(retention.seeds)} seed(s)")
    columns = [f"after {n}" for n in range(1, len(retention.requests) + 1)]
    rows = [["set", "before", *columns]]
    for j, name in enumerate(retention.sets):
        cells = [number(float(x)) if x == x else "" for x in mean[:, j]]
        if j < len(retention.requests):
            cells[j + 1] += " *"
        rows.append([name, *cells])
    table_line(rows)
    say("* just after its own request; to the left it is not requested yet, to the right it was forgotten before")
    for name, value in retention.numbers().items():
        label, meaning = NUMBERS[name]
        if is_missing(value):
            say(f"{label}: not available: {value['reason']}")
            continue
        span = f" ({value['low']:+.3f} to {value['high']:+.3f})" if len(value["seeds"]) > 1 else ""
        say(f"{label}: {value['value']:+.3f}{span}; {meaning}")
