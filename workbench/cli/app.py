"""The command line. Every command takes `--json`: one object on the last line; errors are one line and exit 2."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import warnings
from typing import NoReturn

from workbench.errors import UserError, unknown
from workbench.runs import remembered, uninterrupted


def fail(message: str) -> NoReturn:
    """One line on standard error, exit 2."""
    print("workbench: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, and "did you mean" for commands and options."""

    words: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        """Print one line, exit 2. A misspelt option is named before what is missing because of it."""
        commands = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        if commands and "invalid choice" in message:
            fail(str(unknown("command", message.split("'")[1], list(commands[0].choices))))
        owner = self
        if commands:
            owner = next((commands[0].choices[w] for w in self.words if w in commands[0].choices), self)
        options = [o for a in owner._actions for o in a.option_strings if o.startswith("--")]
        for word in self.words:
            name = word.split("=")[0]
            if name.startswith("--") and name not in options:
                close = difflib.get_close_matches(name, options, n=1)
                fail(
                    f"unknown option '{name}': "
                    + (f"did you mean {close[0]}?" if close else f"see {owner.prog} --help")
                )
        fail(f"{message}; see {owner.prog} --help")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parser() -> Parser:
    """All commands with their options."""
    top = Parser(prog="workbench", description="See what a model must forget, make it forget, measure what changed.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, help: str) -> Parser:
        found = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        found.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
        return found

    command = add("demo", "the whole story on embedded data; --real: TOFU and SmolLM2-135M")
    command.add_argument("--real", action="store_true", help="TOFU forget01 and SmolLM2-135M (fetched once)")
    command.add_argument("--out", default="demo", metavar="DIR")
    command.add_argument("--data-dir", metavar="DIR", help="with --real: the official TOFU files, instead of the hub")
    command.add_argument("--spans", metavar="FILE", help="with --real: span labels of the forget rows (JSONL)")

    command = add("models", "what can be loaded here; fetch and convert")
    command.add_argument("action", nargs="?", choices=["list", "get"], default="list")
    command.add_argument("name", nargs="?")

    command = add("finetune", "plant a task's facts into a model")
    task_options(command)
    model_options(command)
    command.add_argument("--out", required=True, metavar="DIR")
    command.add_argument("--epochs", type=positive, default=8)
    command.add_argument("--retain-only", action="store_true", help="leave the forget set out: a model to compare with")
    settings_option(command, "e.g. lr=1e-4 batch_size=16")

    command = add("score", "score the answer tokens of the forget set")
    task_options(command)
    model_options(command)
    command.add_argument("--scorer", required=True, metavar="A,B,C", help="names, 'all', or a saved FILE.safetensors")
    command.add_argument("--reference", metavar="MODEL", help="for scorers that compare with a second model")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", required=True, metavar="FILE.parquet")
    command.add_argument("--html", metavar="FILE.html", help="the same as highlighted text")
    command.add_argument(
        "--save",
        metavar="FILE.safetensors",
        help="keep the learned scorer (amortised, atwu), to be applied to other text",
    )
    command.add_argument("--resume", action="store_true", help="keep the scorers that --out holds already")
    settings_option(command, "options of the scorers, e.g. signal=entropy preset=published")

    command = add("align", "scores against span labels: AUROC, average precision, precision of the highest fifth")
    command.add_argument("file", metavar="FILE.parquet")
    command.add_argument("--spans", metavar="FILE.jsonl", help="labels, where the table has none")

    command = add("agree", "scores against each other: which scorers rank the tokens alike")
    command.add_argument("file", metavar="FILE.parquet")
    command.add_argument("--measure", choices=["spearman", "kendall", "top_k_overlap"], default="spearman")
    command.add_argument("--per-sample", action="store_true", help="the mean over answers, not all tokens at once")
    command.add_argument("--top", type=float, default=0.2, metavar="SHARE", help="of the tokens, for top_k_overlap")
    command.add_argument("--html", metavar="FILE.html", help="the matrix, and the answers of most disagreement")

    command = add("faithfulness", "do the scores do what they say? by masking the highest tokens, and by forgetting")
    command.add_argument("file", metavar="FILE.parquet")
    task_options(command)
    model_options(command)
    command.add_argument("--top", type=float, default=0.2, metavar="SHARE", help="of an answer's tokens")
    command.add_argument("--baseline", default="eos", help="what masks a token: eos, pad, mean or zero")
    command.add_argument("--unlearn", action="store_true", help="also a short run with each scorer as weights")
    command.add_argument("--objective", default="wga", metavar="X", help="with --unlearn")
    command.add_argument("--seeds", default="0,1,2", metavar="A,B", help="with --unlearn: a run each")
    settings_option(command, "of the runs, e.g. steps=60 lr=3e-4")

    command = add("unlearn", "make a model forget; writes a run directory")
    task_options(command)
    model_options(command)
    command.add_argument("--objective", required=True, metavar="X")
    command.add_argument(
        "--weights", required=True, metavar="Y", help="a scorer's name, a score table, or a saved scorer"
    )
    command.add_argument("--reference", metavar="MODEL")
    settings_option(command, "e.g. steps=60 lr=3e-4")
    command.add_argument("--probe-limit", type=positive, metavar="N", help="probe at most N samples a set")
    command.add_argument(
        "--probe-every", type=positive, default=0, metavar="N", help="also every N steps, a few samples"
    )
    command.add_argument(
        "--stop-at", default="", metavar="SET.METRIC<=X,...", help="end the run where a probe finds all of it (or >=)"
    )
    command.add_argument("--track", default="", metavar="A,B", help="tensorboard, trackio, wandb, mlflow")
    command.add_argument("--out", metavar="RUN")
    background_options(command)

    command = add("probe", "probe a model or the model of a run")
    command.add_argument("model", metavar="RUN_OR_MODEL")
    task_options(command)
    command.add_argument("--prompt", choices=["chat", "plain"])
    command.add_argument("--probe-limit", type=positive, metavar="N", help="at most N samples a set")
    command.add_argument("--out", metavar="FILE.parquet", help="every answer with its metrics")
    command.add_argument("--suite", default="basic", metavar="S", help="basic, tofu, muse or rwku: set-level metrics")
    command.add_argument(
        "--reference",
        metavar="RUN_OR_MODEL",
        help="a retain-only model to compare with, or an earlier suite's results (RUN/suites/tofu.json)",
    )
    command.add_argument("--relearn", type=positive, metavar="STEPS", help="fine-tune a copy on part of the forget set")
    command.add_argument("--relearn-share", type=float, default=0.5, metavar="SHARE", help="of the forget rows")
    command.add_argument("--convention", default="ours", metavar="C", help="ours, or open-unlearning where it differs")
    command.add_argument("--general", metavar="TASK,...", help="tasks of lm-eval, by name or FILE.yaml")

    command = add("runs", "list runs, show, follow, stop, resume or remove one")
    command.add_argument("action", nargs="?", choices=["list", "show", "stop", "resume", "remove"], default="list")
    command.add_argument("run", nargs="?", metavar="RUN")
    command.add_argument("--root", default="runs", metavar="DIR")
    command.add_argument("--follow", action="store_true", help="with show: until it ends; Ctrl-C leaves it running")
    command.add_argument("--reach", metavar="SET.METRIC<=X", help="with show: what it cost to get there (or >=)")
    background_options(command)

    command = add("sweep", "many runs: a grid of objectives, token weights and seeds, in one table")
    task_options(command)
    model_options(command)
    command.add_argument("--objective", required=True, metavar="A,B")
    command.add_argument("--weights", required=True, metavar="C,D", help="names of scorers, or files")
    command.add_argument("--seeds", default="0", metavar="0,1,2")
    command.add_argument("--reference", metavar="MODEL")
    settings_option(command, "of all runs, or options of those that take them")
    command.add_argument("--probe-limit", type=positive, metavar="N", help="probe at most N samples a set")
    command.add_argument("--engine", default="local", metavar="E", help="local (a pool of processes), or ray")
    command.add_argument("--workers", type=positive, default=1, metavar="N", help="runs at once, with --engine local")
    command.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster")
    command.add_argument("--out", default="sweep", metavar="DIR")

    command = add("report", "one self-contained HTML page of a run")
    command.add_argument("run", metavar="RUN")
    command.add_argument("--out", default="report.html", metavar="FILE.html")

    add("lab", "JupyterLab on the notebooks")
    return top


def settings_option(command: Parser, help: str) -> None:
    """`--set k=v ...`, which may also be given again."""
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="K=V", help=help)


def background_options(command: Parser) -> None:
    """Options that give a run a process of its own."""
    command.add_argument("--background", action="store_true", help="in a process of its own; returns at once")
    command.add_argument(
        "--at-once", type=positive, metavar="N", help="with --background: wait while N runs go on in the same directory"
    )


def task_options(command: Parser) -> None:
    """Options that name a task."""
    positional = command.prog.split()[-1] != "probe"
    if positional:
        command.add_argument("task", nargs="?", metavar="TASK", help="biographies, tofu/forget01, ...")
    else:
        command.add_argument("--task", metavar="TASK", help="biographies, tofu/forget01, ...")
    command.add_argument("--data-dir", metavar="DIR", help="directory with the official files")
    command.add_argument("--forget", metavar="F.jsonl", help="rows of one's own to forget")
    command.add_argument("--retain", metavar="R.jsonl", help="rows of one's own to keep")
    command.add_argument("--spans", metavar="FILE.jsonl", help="span labels of the forget rows")
    command.add_argument("--retain-rows", type=positive, metavar="N", help="only the last N retain rows")
    command.add_argument("--unlabelled", metavar="U.jsonl", help="text of the same kind that the model has not seen")


def model_options(command: Parser) -> None:
    """Options that name a model and how to use it."""
    command.add_argument("--model", required=True, metavar="M", help="built-in or hub name, directory, .gguf file")
    command.add_argument("--prompt", choices=["chat", "plain"], help="default: as recorded, else chat if it can")
    command.add_argument("--device", metavar="DEVICE")
    command.add_argument("--precision", choices=["float32", "bfloat16"])


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        with remembered():
            return _run(arguments)
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str] | None) -> int:
    warnings.formatwarning = lambda message, *_, **__: f"workbench: {message}\n"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a hub that cannot be reached is one line, not one a retry
    Parser.words = tuple(sys.argv[1:] if arguments is None else arguments)
    given = parser().parse_args(arguments)
    with uninterrupted():
        from workbench.cli.console import Progress
        from workbench.cli.models import demo, finetune, list_models
        from workbench.cli.probe import probe
        from workbench.cli.report import lab, report
        from workbench.cli.runs import manage_runs, unlearn
        from workbench.cli.scores import agree, align, faithfulness, score
        from workbench.cli.sweep import sweep
        from workbench.runs import Stopped

    commands = {
        "demo": demo,
        "models": list_models,
        "finetune": finetune,
        "score": score,
        "align": align,
        "agree": agree,
        "faithfulness": faithfulness,
        "unlearn": unlearn,
        "probe": probe,
        "runs": manage_runs,
        "sweep": sweep,
        "report": report,
        "lab": lab,
    }
    try:
        try:
            result = commands[given.command](given)
        finally:
            Progress.end_line()
    except UserError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except Stopped as stopped:
        print(f"workbench: {stopped}; go on with: workbench runs resume {stopped.path}", file=sys.stderr)
        return 130
    if given.json:
        print(json.dumps(result, allow_nan=False))
    return 0
