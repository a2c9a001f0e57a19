"""What names a sequence of requests: its tasks in order, the configuration that they share, and how they follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from workbench.errors import UserError, check_known
from workbench.runs.config import Config
from workbench.runs.places import place_by_hash
from workbench.runs.sequence_files import SequenceDirectory
from workbench.tasks import Task, TaskSpec, joined, rehearsing

SCORERS = ("new", "carried")
ADAPTERS = ("stacked", "merged")
ADAPTER, MERGED, SCORER = "adapter", "merged", "scorer.safetensors"
MOST = 1000  # requests


@dataclass(frozen=True)
class Plan:
    """Everything that a sequence's numbers depend on.

    Attributes:
        tasks: the requests, in order; each retains its own task's retain set.
        base: the configuration of every run, but for task, model and seed; its model is the one before any request.
        seeds: of the sequences, one after the other.
        rehearse: each request also forgets the forget rows of those before it again; it still retains its own rows.
        scorer: "new" for every request, or "carried": a live one goes on learning where the request before left it.
        adapters: of LoRA: "stacked", each on the model with those before it, or "merged" into a whole model on disk.
        attacks: by name, on the model after the last request; empty for none.
        attack_options: attack -> its keyword options.
    """

    tasks: tuple[TaskSpec, ...]
    base: Config
    seeds: tuple[int, ...] = (0,)
    rehearse: bool = False
    scorer: str = "new"
    adapters: str = "stacked"
    attacks: tuple[str, ...] = ()
    attack_options: dict[str, dict[str, Any]] | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any], source: Path) -> Plan:
        """The plan that a `sequence.json` (`source`) holds, an older version's too; UserError for what is not known."""
        made = {"versions": record.get("versions")}
        configs = [Config.from_dict(record["config"] | {"task": task} | made, source) for task in record["tasks"]]
        values = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        values |= {name: tuple(values.get(name, ())) for name in ("seeds", "attacks")}
        return cls(**values | {"tasks": tuple(config.task for config in configs), "base": configs[0]})

    @property
    def requests(self) -> tuple[str, ...]:
        """A name a request: its task's label, numbered where two share it."""
        labels = [spec.label for spec in self.tasks]
        return tuple(f"{n} {label}" if labels.count(label) > 1 else label for n, label in enumerate(labels, 1))

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        rest = {name: getattr(self, name) for name in ("rehearse", "scorer", "adapters")}
        options = self.attack_options or {}
        return rest | {
            "requests": list(self.requests),
            "tasks": [json.loads(json.dumps(asdict(spec))) for spec in self.tasks],
            "config": self.base.as_dict(),
            "seeds": list(self.seeds),
            "attacks": list(self.attacks),
            "attack_options": options,
        }

    def default_path(self, root: Path = Path("runs")) -> Path:
        """`runs/sequence-<objective>-<weights>-<hash of the plan>`, so that the same command finds it again."""

        def read(record: dict[str, Any]) -> dict[str, Any]:
            return Plan.from_dict(record, root).as_dict()

        prefix = f"sequence-{self.base.objective}-{Path(self.base.weights).stem}"
        return place_by_hash(self.as_dict(), prefix, root, lambda path: SequenceDirectory(path).plan, read)

    def config(self, request: int, seed: int, folder: Path) -> Config:
        """The configuration of a request (from 1) of a seed, whose runs are in `folder`."""
        spec = self.tasks[request - 1]
        if self.rehearse:
            spec = replace(spec, rehearsed=self.tasks[: request - 1])
        changes: dict[str, Any] = {"task": spec, "settings": self.base.settings.replace(seed=seed)}
        if request > 1:
            before = folder / f"request-{request - 1}"
            lora = self.base.settings.train == "lora"
            model = (ADAPTER if self.adapters == "stacked" else MERGED) if lora else "model"
            changes["model"] = str((before / model).absolute())
            if self.scorer == "carried":
                changes["scorer"] = str((before / SCORER).absolute())
        return self.base.replace(**changes)

    def trained_on(self, tasks: Sequence[Task], request: int) -> Task:
        """The task of a request's run: its own (`tasks` are those of `load`), with the earlier ones if it rehearses."""
        own = tasks[request - 1]
        return rehearsing(own, tasks[: request - 1]) if self.rehearse and request > 1 else own

    def load(self) -> tuple[list[Task], Task]:
        """The task of each request, and all as one; UserError where one cannot be read, or two do not fit."""
        tasks = [spec.load(lambda line: None) for spec in self.tasks]  # each run says how files were read
        return tasks, joined(tasks, "all requests")


def planned(
    tasks: Sequence[str | TaskSpec] | str,
    base: Config,
    *,
    seeds: Sequence[int] = (0,),
    rehearse: bool = False,
    scorer: str = "new",
    adapters: str = "stacked",
    attacks: str | Sequence[str] = (),
    attack_options: dict[str, dict[str, Any]] | None = None,
) -> Plan:
    """The plan of a sequence, checked as far as names go; arguments are `Plan`'s.

    Raises:
        UserError: there is no request or seed, one stands twice, or an option is unknown or does nothing here.
    """
    from workbench.evals.attacks import chosen_attacks
    from workbench.unlearning import is_live

    listed: Sequence[str | TaskSpec] = [tasks] if isinstance(tasks, str) else tasks
    specs = tuple(spec if isinstance(spec, TaskSpec) else TaskSpec(spec) for spec in listed)
    if not 1 <= len(specs) <= MOST:
        raise UserError(f"a sequence has 1 to {MOST} requests, not {len(specs)}: name a task for each")
    for n, spec in enumerate(specs, 1):
        if spec in specs[: n - 1]:
            raise UserError(f"request {n} is request {specs.index(spec) + 1} again: {spec.label}; name each once")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError("seeds are whole numbers, at least one and none of them twice")
    check_known("choice of scorer", str(scorer), SCORERS)
    check_known("choice of adapters", str(adapters), ADAPTERS)
    if scorer == "carried" and not is_live(base.weights):
        raise UserError(f"a scorer is carried on only if it learns during a run, as atwu does; {base.weights} does not")
    if adapters == "merged" and base.settings.train != "lora":
        raise UserError("adapters are merged where there are some: set train=lora too")
    names = tuple(chosen_attacks(attacks, attack_options)) if attacks else ()
    base = base.absolute()
    specs = tuple(base.replace(task=spec).absolute().task for spec in specs)
    return Plan(
        specs, base.replace(task=specs[0]), tuple(map(int, seeds)), rehearse, scorer, adapters, names, attack_options
    )
