"""Fills the site's reference pages from the registries: a hook of mkdocs, run by `make docs`.

A page says where with `<!-- generated: NAME -->`, NAME being a key of `BLOCKS`; the text around it is written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import typer

from workbench.evals.attacks import recovery
from workbench.evals.metrics import metric
from workbench.evals.mia import attack
from workbench.evals.suites import SUITES, summary
from workbench.objectives import objective, retain_loss
from workbench.registry import Registry, Spec
from workbench.scorers import scorer
from workbench.tasks import task
from workbench.unlearning import Settings

MARK = re.compile(r"<!-- generated: ([\w-]+) -->")
LABELS = {
    "source": "Source",
    "certainty": "Certainty",
    "better": "Better",
    "range": "Range",
    "unit": "Unit",
    "split": "Sets",
    "needs": "Needs",
    "over": "Mean over",
    "kind": "Computed from",
    "settings": "Sets, unless you do",
    "differs": "Differs from open-unlearning",
    "trust": "As a measure of forgetting",
}
KINDS = {
    "batch": "one forward pass over a batch",
    "task": "the whole task: retain text, a fit or gradients",
    "input": "the whole task; scores the question's tokens too",
    "live": "the run: it learns along with the model",
}
SHARED = {
    "target": "what is explained: `answer`, `mean`, `token:K`, or `contrast` with a wrong answer.",
    "baseline": "what stands for a token that is not there: `eos`, `pad`, `mean` or `zero`.",
    "units": "`token` or `word`.",
}


def escape(text: str) -> str:
    """Plain text as Markdown, code between backticks left alone; safe in a table's cell."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_\[\]])", r"\\\1", parts[i]).replace("<", "&lt;").replace("|", "&#124;")
    text = "`".join(parts)
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def docstring(function: Callable[..., Any]) -> tuple[str, str, dict[str, str]]:
    """A docstring's first line, its other paragraphs, and what it says of each parameter."""
    first, *blocks = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    rest: list[str] = []
    parameters: dict[str, str] = {}
    for block in blocks:
        inline = re.findall(r"^`(\w+)`: (.*)$", block, re.M)
        if block.startswith(("Args:", "Attributes:")) or len(inline) == len(block.splitlines()):
            listed = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", block, re.M)
            parameters |= {name: " ".join(text.split()) for name, text in listed or inline}
        elif not block.startswith(("Returns:", "Raises:")):
            rest.append(block)
    return " ".join(first.split()), "\n\n".join(rest), parameters


def shown(name: str, value: Any) -> str:
    """A spec's field as text; empty where there is nothing to say."""
    if name == "range":
        if value == (None, None):
            return "unbounded"
        low, high = ("-∞" if value[0] is None else f"{value[0]:g}"), ("∞" if value[1] is None else f"{value[1]:g}")
        return f"{low} to {high}"
    if name == "kind":
        return KINDS[value]
    if name == "settings":
        return ", ".join(f"`{key}={setting}`" for key, setting in value.items())
    return ", ".join(value) if isinstance(value, tuple) else escape(str(value or ""))


def entry(spec: Spec) -> str:
    """One registered function: its docstring, its facts, its options."""
    first, rest, parameters = docstring(spec.function)
    facts = [(label, shown(name, getattr(spec, name))) for name, label in LABELS.items() if hasattr(spec, name)]
    blocks = [f"### `{spec.name}`", escape(first), escape(rest)]
    blocks.append(" · ".join(f"**{label}:** {text}" for label, text in facts if text))
    if getattr(spec, "slow", False):
        blocks.append("Slow: many passes a sample, so `--scorer all` leaves it out.")
    if spec.options:
        rows = [
            (f"`{n}`", f"`{default}`", escape(parameters.get(n) or SHARED.get(n, "")))
            for n, default in spec.options.items()
        ]
        blocks.append(table(("option", "default", ""), rows))
    for name, options in getattr(spec, "presets", {}).items():
        blocks.append(f"`preset={name}`: " + ", ".join(f"`{key}={value}`" for key, value in options.items()))
    return "\n\n".join(block for block in blocks if block)


def entries(registry: Registry[Any]) -> str:
    """Everything in a registry: a table of one line each, then a section each."""
    specs = [registry[name] for name in registry]
    rows = [(f"[`{s.name}`](#{s.name})", escape(docstring(s.function)[0]), escape(s.source)) for s in specs]
    return "\n\n".join([table((registry.kind, "what it is", "source"), rows), *map(entry, specs)])


def suites() -> str:
    """Which summaries each suite computes."""
    rows = [(f"`{name}`", ", ".join(f"[`{n}`](#{n})" for n in names) or "none") for name, names in SUITES.items()]
    return table(("suite", "summaries"), rows)


def settings() -> str:
    """Every setting of a run, with its default and what it does."""
    rows = [
        (f"`{name}`", f"`{field.get_default(call_default_factory=True)!r}`", escape(field.description or ""))
        for name, field in Settings.model_fields.items()
    ]
    return table(("setting", "default", ""), rows)


def help_texts() -> dict[str, str]:
    """Every command's help, by its name."""
    from workbench.cli.app import COMMANDS

    return {
        name: each.get_help(typer.Context(each, info_name=f"workbench {name}", terminal_width=100))
        for name, each in vars(COMMANDS)["commands"].items()
    }


def commands() -> str:
    """The help of every command, as the shell prints it."""
    return "\n\n".join(f"## `workbench {name}`\n\n```text\n{text}\n```" for name, text in help_texts().items())


BLOCKS: dict[str, Callable[[], str]] = {
    "scorers": lambda: entries(scorer),
    "objectives": lambda: entries(objective),
    "retain-losses": lambda: entries(retain_loss),
    "metrics": lambda: entries(metric),
    "attacks": lambda: entries(attack),
    "recovery": lambda: entries(recovery),
    "summaries": lambda: entries(summary),
    "suites": suites,
    "tasks": lambda: entries(task),
    "settings": settings,
    "commands": commands,
}


def fill(markdown: str) -> str:
    """A page's text with every mark replaced."""
    return MARK.sub(lambda mark: BLOCKS[mark[1]](), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls with each page's text."""
    return fill(markdown)
