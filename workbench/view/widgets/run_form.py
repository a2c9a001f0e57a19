"""The form of a run: task, model, objective, weights, and the options of these."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from workbench.errors import UserError
from workbench.models import available
from workbench.objectives import objective, retain_loss
from workbench.registry import Spec
from workbench.runs import Config, presets_of, settings_for
from workbench.scorers import check_needs, scorer
from workbench.tasks import TaskSpec
from workbench.tasks import task as tasks
from workbench.unlearning import Settings
from workbench.view.html.render import render
from workbench.view.widgets.risk_box import RiskBox

MAIN = ("steps", "batch_size", "lr", "alpha", "gamma", "train", "seed")
DESCRIPTIONS = {n: f.description or "" for m in (Config, Settings) for n, f in m.model_fields.items()}
OTHER = tuple(name for name in Settings.model_fields if name not in (*MAIN, "options"))
OTHERS = ("prompt", "system", "date", "device", "precision", "track")  # have no field
PROBES = {"probe_every": "10", "probe_limit": "24", "stop_at": ""}
FEW = 6  # options of the weights that are shown at once; more are folded away
VARIANTS = {"tofu": ("forget01", "forget05", "forget10"), "muse": ("news", "books")}
OWN, PLAIN = "own files", "none"
KINDS = {"objective": "objective", "weights": "scorer"}  # an objective and a scorer may have the same name


def helps(text: str | None, heading: str = "Attributes") -> dict[str, str]:
    """The description of each name in a section of a docstring."""
    section = (inspect.cleandoc(text or "") + "\n").partition(f"\n{heading}:\n")[2]
    entries = re.findall(r"^ {4}(\w+): ((?:.+\n)(?: {8}.+\n)*)", section, flags=re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def about(entry: Spec) -> str:
    """The first paragraph of an entry's docstring."""
    return " ".join((inspect.getdoc(entry.function) or "").split("\n\n")[0].split())


class Form(widgets.VBox):
    """The configuration of a run. Fields are text, read as `--set` on the command line reads it.

    A field that was not edited follows the defaults of the chosen objective's authors.

    Args:
        task: the first task; its directories and spans are kept while its name is.
        model: the first model.

    Attributes:
        fields: the settings by name.
        options: the options of the objective and the weights: "objective.beta", "weights.rows", ...
    """

    def __init__(self, task: TaskSpec, model: str) -> None:
        self.task_spec = task
        self.others: dict[str, Any] = {}  # what a configuration that was shown has and the form has no field for
        known = [each["name"] for each in available() if each["here"]]
        names = [f"{name}/{v}" if v else name for name in tasks for v in VARIANTS.get(name, ("",))]
        self.task = widgets.Combobox(value=task.name or OWN, options=names, description="task")
        self.model = widgets.Combobox(value=model, options=known, description="model")
        self.objective = widgets.Dropdown(options=list(objective), value="npo", description="objective")
        self.weights = widgets.Dropdown(options=list(scorer), value="atwu", description="weights by scorer")
        self.reference = widgets.Combobox(options=known, description="reference", placeholder="a second model")
        self.preset = widgets.Dropdown(options=[PLAIN], description="weights preset")
        self.fields = {name: self._field(name) for name in (*MAIN, *PROBES, *OTHER)}
        for name in ("task", "model", "objective", "weights", "reference"):
            getattr(self, name).tooltip = DESCRIPTIONS[name]
        self.options: dict[str, Any] = {}
        self._made: dict[str, Any] = {}  # every option's field so far: an edit is kept when its option is shown again
        self._defaults: dict[Any, str] = {}
        self.about, self.meaning = widgets.HTML(), widgets.HTML()
        self._main = widgets.GridBox().add_class("wb-fields")
        self._many = widgets.GridBox().add_class("wb-fields")
        rare = widgets.GridBox([self.fields[name] for name in OTHER]).add_class("wb-fields")
        # Buttons, as an Accordion's headings cannot be reached by keyboard.
        self.folds = [_fold("Options of the weights", self._many), _fold("All other settings", rare)]
        self.folds.append(_fold("What the settings mean", self.meaning))
        self.risk = RiskBox(self._spec, self._keep)
        self.folds.append(_fold("Rows at risk", self.risk))
        self.folds[-1].observe(lambda change: self.risk.show() if change["new"] else None, "value")
        for chooser in (self.objective, self.weights, self.preset, self.reference):
            chooser.observe(lambda _: self.refresh(), "value")
        self.refresh()
        names = [self.task, self.model, self.objective, self.weights, self.reference]
        boxes = [widgets.GridBox(names).add_class("wb-fields").add_class("wb-names"), self.about, self._main]
        folds = widgets.HBox(self.folds).add_class("wb-folds")
        super().__init__([*boxes, folds, self._many, rare, self.meaning, self.risk])

    def _field(self, name: str) -> Any:
        common = {"description": name.replace("_", " "), "tooltip": DESCRIPTIONS[name]}
        if name == "retain_loss":
            return widgets.Dropdown(options=list(retain_loss), **common)
        if name == "train":
            return widgets.Combobox(options=["all", "lora", "layers:4-6"], **common)
        if name == "stop_at":
            return widgets.Text(placeholder="forget.fact_accuracy<=0.2", **common)
        return widgets.Text(**common)

    def refresh(self) -> None:
        """Bring the fields in line with the chosen objective and weights; edits stay."""
        chosen, weights = objective[self.objective.value], scorer[self.weights.value]
        authors = Settings(**chosen.settings)
        for name, field in self.fields.items():
            self._default(field, PROBES[name] if name in PROBES else str(getattr(authors, name)))
        presets = presets_of(weights.name)
        if self.preset.options != (PLAIN, *presets):
            self.preset.options = (PLAIN, *presets)
        self.options = {}
        for part, entry in (("objective", chosen), ("weights", weights)):
            help_texts = helps(entry.function.__doc__) | helps(entry.function.__doc__, "Args")
            preset = presets.get(self.preset.value, {}) if part == "weights" else {}
            for name, value in entry.options.items():
                text = f"of {KINDS[part]} {entry.name}: {help_texts.get(name) or about(entry)}"
                field = self._made.setdefault(
                    f"{part}.{entry.name}.{name}", widgets.Text(description=f"{part} {name}", tooltip=text)
                )
                self.options[f"{part}.{name}"] = field
                self._default(field, str(preset.get(name, value)))
        self._arrange([self.preset] if presets else [])

    def _arrange(self, first: list[Any]) -> None:
        """Show the fields of the choices; many options of the weights are folded away."""
        shown = [self.fields[name] for name in (*MAIN, *PROBES)]
        shown += [field for key, field in self.options.items() if key.startswith("objective.")]
        own = first + [field for key, field in self.options.items() if key.startswith("weights.")]
        many = len(own) > FEW
        self._main.children = shown if many else shown + own
        self._many.children = own if many else []
        _show(self.folds[0], many)
        _show(self._many, many and self.folds[0].value)
        _show(self.reference, "reference" in scorer[self.weights.value].needs or bool(self.reference.value))
        self._explain()

    def _explain(self) -> None:
        """Describe the choices, say why they do not go together, and what the settings mean."""
        chosen = {"objective": objective[self.objective.value], "scorer": scorer[self.weights.value]}
        choices = [(kind, entry, about(entry)) for kind, entry in chosen.items()]
        others = {name: value for name, value in self.others.items() if value}
        self.about.value = render("run.about", choices=choices, clash=self.clash(), others=others)
        every = (*self.fields.values(), *self.options.values())
        self.meaning.value = render("run.meaning", texts={field.description: field.tooltip for field in every})

    def show(self, config: Config) -> None:
        """Fill the form with a configuration, so that `config` gives it again.

        Raises:
            UserError: its weights come from a file, which the form cannot hold; the rest is filled in. Or this version
                does not know its objective.
        """
        known, _ = config.weights in scorer, objective[config.objective]
        self.task_spec, self.task.value = config.task, config.task.name or OWN
        self.model.value, self.reference.value = config.model, config.reference or ""
        self.objective.value, self.preset.value = config.objective, PLAIN
        if known:
            self.weights.value = config.weights
        self.others = {name: getattr(config, name) for name in OTHERS}
        self.refresh()
        for name, field in self.fields.items():
            value = getattr(config if name in PROBES else config.settings, name)
            field.value = "0" if value is None else str(value)
        for name, field in self.options.items():
            part, _, option = name.partition(".")
            field.value = str(config.settings.options.get(part, {}).get(option, self._defaults[field]))
        self._explain()
        if not known:
            raise UserError(
                f"its weights come from {config.weights}, which the form cannot hold; choose a scorer there"
            )

    def _spec(self) -> TaskSpec:
        """The task in the form: the one that was given, while its name is; rows and labels are of that one alone."""
        name, spec = self.task.value.strip(), self.task_spec
        return spec if name == (spec.name or OWN) else replace(spec, name=name, spans=None, only=None, keep=())

    def _keep(self, spec: TaskSpec) -> None:
        self.task_spec = spec

    def clash(self) -> str:
        """Why the choices do not go together; empty where they do."""
        try:
            check_needs([self.weights.value], bool(self.reference.value.strip()))
        except UserError as error:
            return str(error)
        return ""

    def _default(self, field: Any, text: str) -> None:
        if field.value in ("", self._defaults.get(field, field.value)):
            field.value = text
        self._defaults[field] = text

    def pairs(self) -> list[str]:
        """The edits, as `key=value`."""
        every = {name: f for name, f in self.fields.items() if name not in PROBES} | self.options
        changed = [f"{name}={f.value.strip()}" for name, f in every.items() if f.value != self._defaults[f]]
        return changed if self.preset.value == PLAIN else [f"preset={self.preset.value}", *changed]

    def config(self) -> Config:
        """The configuration in the form.

        Raises:
            UserError: a field holds what cannot be read, a name does not exist, or the choices do not go together.
        """
        if self.clash():
            raise UserError(self.clash())
        config = Config(
            task=self._spec(),
            model=self.model.value.strip(),
            objective=self.objective.value,
            weights=self.weights.value,
            settings=settings_for(self.pairs(), [self.objective.value], [self.weights.value]),
            reference=self.reference.value.strip() or None,
            probe_every=whole(self.fields["probe_every"]),
            probe_limit=whole(self.fields["probe_limit"]) or None,
            stop_at=self.fields["stop_at"].value.strip(),
            **self.others,
        )
        config.check()
        return config


def _fold(name: str, box: Any) -> Any:
    """A button that shows and hides a box, at first hidden."""
    button = widgets.ToggleButton(description=name, tooltip="show or hide")
    button.observe(lambda change: _show(box, change["new"]), "value")
    _show(box, False)
    return button


def _show(box: Any, shown: bool) -> None:
    box.layout.display = None if shown else "none"


def whole(field: Any) -> int:
    """A field's whole number, 0 where it is empty; UserError where it holds something else."""
    try:
        return int(field.value.strip() or 0)
    except ValueError:
        raise UserError(f"{field.description}: '{field.value}' is not a whole number") from None
