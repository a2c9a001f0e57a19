"""What a command's options name: the task, the model."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields

from workbench import models
from workbench.tasks import TaskSpec


def spec(given: Namespace) -> TaskSpec:
    """The task that the options name."""
    names = [f.name for f in fields(TaskSpec) if f.name != "name"]
    return TaskSpec(name=given.task, **{n: getattr(given, n) for n in names})


def load_model(given: Namespace) -> models.LanguageModel:
    """The model that the options name."""
    return models.load(given.model, device=given.device, precision=given.precision, prompt=given.prompt)
