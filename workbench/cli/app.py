"""The command line: all commands together, and what becomes of errors. A mistake is one line and exit 2."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import warnings
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from workbench import runs
from workbench.cli.agree import agree
from workbench.cli.align import align
from workbench.cli.attack import attack
from workbench.cli.compare import compare
from workbench.cli.console import Plain, Progress, any_text
from workbench.cli.course import course
from workbench.cli.demo import demo
from workbench.cli.diff import diff
from workbench.cli.faithfulness import faithfulness
from workbench.cli.figure import figure
from workbench.cli.finetune import finetune
from workbench.cli.interference import at_risk, interference
from workbench.cli.lab import lab
from workbench.cli.models import models
from workbench.cli.probe import probe
from workbench.cli.report import report
from workbench.cli.runs import manage_runs
from workbench.cli.score import score
from workbench.cli.see import see
from workbench.cli.sequence import sequence
from workbench.cli.sweep import sweep
from workbench.cli.unlearn import unlearn
from workbench.cli.where import where
from workbench.errors import UserError, printable, unknown


class Group(TyperGroup):
    """Commands, with "did you mean" for a misspelt one."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        if cmd_name not in self.commands:
            raise unknown("command", cmd_name, list(self.commands))
        return self.commands[cmd_name]


class Command(TyperCommand):
    """A command whose `--set` takes several values: `--set a=1 b=2` is read as `--set a=1 --set b=2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name."""
        words: list[str] = []
        of_set = False
        for before, word in zip(["", *args], args, strict=False):
            if word.startswith("-"):
                of_set = word == "--set"
            elif of_set and before != "--set":
                words.append("--set")
            words.append(word)
        return super().parse_args(ctx, words)


app = typer.Typer(
    cls=Group,
    help="See what a model must forget, make it forget, and measure what changed.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for each in (demo, see, diff, models, finetune, score, align, agree, faithfulness, unlearn, probe, attack, where):
    app.command(cls=Command)(each)
app.command(cls=Command)(interference)
app.command("at-risk", cls=Command)(at_risk)
app.command("runs", cls=Command)(manage_runs)
for each in (sweep, sequence, report, compare, figure):
    app.command(cls=Command)(each)
for each in (lab, course):  # what they do not know is for JupyterLab
    app.command(cls=Command, context_settings={"ignore_unknown_options": True})(each)
COMMANDS = typer.main.get_command(app)


def fail(message: str) -> NoReturn:
    """One line on standard error, exit 2."""
    print("workbench: " + " ".join(message.split()), file=Plain(sys.stderr))
    raise SystemExit(2)


def explain(error: TyperException) -> str:
    """What is wrong with the words of a command."""
    context = getattr(error, "ctx", None)
    see = f"see {context.command_path if context else 'workbench'} --help"
    if name := getattr(error, "option_name", "") if hasattr(error, "possibilities") else "":
        options = [o for p in context.command.params for o in p.opts if o.startswith("--")] if context else []
        close = difflib.get_close_matches(name, options, n=1)
        return f"unknown option '{name}': " + (f"did you mean {close[0]}?" if close else see)
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message[0].lower()}{message[1:]}; {see}"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    any_text()
    warnings.formatwarning = lambda message, *_, **__: f"workbench: {printable(str(message))}\n"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a hub that cannot be reached is one line, not one a retry
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with runs.remembered(), contextlib.redirect_stdout(Plain(sys.stdout)):
            try:
                with COMMANDS.make_context("workbench", list(words)) as context:
                    COMMANDS.invoke(context)
            finally:
                Progress.end_line()
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130
    except typer.Exit as end:
        return end.exit_code
    except TyperException as error:
        fail(explain(error))
    except UserError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except runs.Stopped as stopped:
        print(f"workbench: {stopped}; {stopped.hint}", file=Plain(sys.stderr))
        return 130
    return 0
