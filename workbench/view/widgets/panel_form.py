"""The form of a run: task, model, objective, weights, and the parameters that these bring along."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace

import ipywidgets as widgets

from workbench.models import available
from workbench.objectives import objective, retain_loss
from workbench.options import settings_for
from workbench.registry import Entry, UserError
from workbench.runs import Config
from workbench.scorers import scorer
from workbench.settings import Settings
from workbench.tasks import TaskSpec
from workbench.view.text import plain

MAIN = ("steps", "batch_size", "lr", "alpha", "gamma", "train", "seed")
OTHER = tuple(f.name for f in fields(Settings) if f.name not in (*MAIN, "options"))
PROBES = {"probe_every": "10", "probe_limit": "24"}
ATTACHED = {"description_width": "104px"}


def helps(text: str | None, heading: str = "Attributes") -> dict[str, str]:
    """What a docstring's section says of each name."""
    section = (inspect.cleandoc(text or "") + "\n").partition(f"\n{heading}:\n")[2]
    found = re.findall(r"^ {4}(\w+): ((?:.+\n)(?: {8}.+\n)*)", section, flags=re.M)
    return {name: " ".join(said.split()) for name, said in found}


def told(entry: Entry) -> str:
    """An entry in a sentence, with its source."""
    first = (inspect.getdoc(entry.function) or "").split("\n\n")[0].replace("\n", " ")
    source = entry.facts.get("source", "")
    return plain(first) + (f' <span class="wb-source">{plain(source)}</span>' if source else "")


class Form(widgets.VBox):
    """What a run is to be. Fields are text, read as `--set` on the command line reads it.

    A field that nobody touched follows what the chosen objective's authors set.

    Args:
        task: the task at first; its other facts (directories, spans) stay while the name stays.
        model: the model at first.
    """

    def __init__(self, task: TaskSpec, model: str) -> None:
        self.task_spec = task
        self.task = widgets.Combobox(
            value=task.name or "own files",
            options=("biographies", "tofu/forget01", "tofu/forget05", "tofu/forget10"),
            description="task", ensure_option=False, style=ATTACHED,
        )  # fmt: skip
        known = [each["name"] for each in available() if each["here"]]
        self.model = widgets.Combobox(value=model, options=known, description="model", style=ATTACHED)
        self.objective = widgets.Dropdown(options=list(objective), value="npo", description="objective", style=ATTACHED)
        self.weights = widgets.Dropdown(options=list(scorer), value="atwu", description="weights", style=ATTACHED)
        self.about = widgets.HTML()
        docs = helps(Settings.__doc__) | helps(Config.__doc__)
        self.fields = {name: self._field(name, docs.get(name, "")) for name in (*MAIN, *PROBES, *OTHER)}
        self.options: dict[str, widgets.Text] = {}
        self.defaults: dict[str, str] = {}
        self.own = widgets.GridBox().add_class("wb-grid-fields")
        main = widgets.GridBox([self.fields[n] for n in (*MAIN, *PROBES)]).add_class("wb-grid-fields")
        rare = widgets.GridBox([self.fields[n] for n in OTHER]).add_class("wb-grid-fields")
        self.more = widgets.Accordion(
            [self.own, rare], titles=("options of objective and weights", "all other settings")
        )
        rows = [f"<dt>{name}</dt><dd>{plain(docs[name])}</dd>" for name in self.fields if name in docs]
        self.meaning = widgets.HTML(
            f"<details class=wb-help><summary>What the settings mean</summary><dl>{''.join(rows)}</dl></details>"
        )
        for chooser in (self.objective, self.weights):
            chooser.observe(lambda _: self.refresh(), "value")
        self.refresh()
        names = widgets.GridBox([self.task, self.model, self.objective, self.weights]).add_class("wb-grid-names")
        super().__init__([names, self.about, main, self.more, self.meaning])

    def _field(self, name: str, said: str) -> widgets.Text:
        return widgets.Text(description=name.replace("_", " "), tooltip=said, style=ATTACHED)

    def refresh(self) -> None:
        """Bring the fields in line with the chosen objective and weights; what was typed stays."""
        chosen, weights = objective[self.objective.value], scorer[self.weights.value]
        authors = Settings(**chosen.facts.get("settings", {}))
        for name, field in self.fields.items():
            self._default(name, field, PROBES.get(name) or str(getattr(authors, name)))
        options = {}
        for part, entry in (("objective", chosen), ("weights", weights)):
            said = helps(entry.function.__doc__) | helps(entry.function.__doc__, "Args")
            for name, value in entry.options.items():
                key = f"{part}.{name}"
                options[key] = self.options.get(key) or self._field(name, said.get(name, ""))
                options[key].description = f"{entry.name} {name}"
                self._default(key, options[key], str(value))
        self.options = options
        self.own.children = list(options.values())
        lines = [f"<b>{name}</b> {told(entry)}" for name, entry in (("objective", chosen), ("weights", weights))]
        retain = f"retain losses: {', '.join(retain_loss)}"
        self.about.value = f'<div class="wb-about">{"<br>".join(lines)}<br><small>{plain(retain)}</small></div>'

    def _default(self, name: str, field: widgets.Text, text: str) -> None:
        if field.value in ("", self.defaults.get(name)):
            field.value = text
        self.defaults[name] = text

    def pairs(self) -> list[str]:
        """What was changed, as `key=value`."""
        every = {name: f for name, f in self.fields.items() if name not in PROBES} | self.options
        return [f"{name}={f.value.strip()}" for name, f in every.items() if f.value != self.defaults[name]]

    def config(self) -> Config:
        """The configuration as the form stands.

        Raises:
            UserError: a field holds what cannot be read, or a name does not exist.
        """
        same = self.task.value == (self.task_spec.name or "own files")
        given = Config(
            task=self.task_spec if same else replace(self.task_spec, name=self.task.value, spans=None),
            model=self.model.value,
            objective=self.objective.value,
            weights=self.weights.value,
            settings=settings_for(self.pairs(), [self.objective.value], [self.weights.value]),
            probe_every=whole(self.fields["probe_every"]),
            probe_limit=whole(self.fields["probe_limit"]) or None,
        )
        given.check()
        return given


def whole(field: widgets.Text) -> int:
    """A field's whole number; nothing is 0.

    Raises:
        UserError: it is none.
    """
    try:
        return int(field.value.strip() or 0)
    except ValueError:
        raise UserError(f"{field.description}: '{field.value}' is not a whole number") from None
