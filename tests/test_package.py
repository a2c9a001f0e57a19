"""The house rules: import order, public names, a quick and silent import, entries that explain themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tables import random_table

import workbench
from workbench.cli.app import COMMANDS
from workbench.errors import UserError
from workbench.evals.attacks import recovery
from workbench.evals.metrics import metric
from workbench.evals.mia import attack
from workbench.evals.suites import summary
from workbench.objectives import objective
from workbench.registry import Registry, Spec
from workbench.scorers.base import scorer


def test_public_names_are_real() -> None:
    assert workbench.__all__ == sorted(workbench.__all__)
    assert all(getattr(workbench, name) is not None for name in workbench.__all__)
    assert set(workbench.__all__) <= set(dir(workbench))  # what Tab offers
    assert "unlearn" in workbench.__all__
    with pytest.raises(AttributeError):
        workbench.no_such_name  # noqa: B018


def test_import_is_silent_and_light() -> None:
    code = "import workbench, sys; print(sorted({'torch', 'transformers', 'pandas', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([command, "--help"] for command in COMMANDS.commands),
        ["models", "list"],
        ["runs", "list"],
        ["align", "scores.parquet"],
    ],
    ids=" ".join,
)
def test_commands_that_need_no_model_load_no_torch(words: list[str], tmp_path: Path) -> None:
    random_table().to_parquet(tmp_path / "scores.parquet")
    heavy = {"torch", "transformers"} | ({"pandas", "sklearn", "scipy"} if words[0] == "align" else set())
    code = (
        "import sys; from workbench.cli.app import main\n"
        f"status = main({words})\n"
        f"print(status, sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0 []", "")


@pytest.mark.parametrize("registry", [scorer, objective, metric, attack, recovery, summary], ids=lambda r: r.kind)
def test_every_entry_explains_itself(registry: Registry) -> None:
    for name in registry:
        assert registry[name].function.__doc__
        assert registry[name].source
        assert registry[name].certainty
        assert all(default is not None for default in registry[name].options.values())


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="unknown scorer 'suprisal': did you mean surprisal"):
        scorer["suprisal"]
    with pytest.raises(ValueError, match="twice"):
        scorer("uniform")(lambda: None)


def test_a_cell_that_is_run_again_registers_its_function_again() -> None:
    """But it takes the place of nothing that the package has."""
    mine = Registry("thing", Spec)

    def made(module: str) -> Callable[[], None]:
        def function() -> None:
            """Do nothing."""

        function.__module__ = module
        return function

    for module in ("__main__", "__main__"):
        mine("a", source="ours", certainty="ours")(newest := made(module))
    assert mine["a"].function is newest
    mine("b", source="ours", certainty="ours")(made("workbench.scorers"))
    for name, module in (("b", "__main__"), ("a", "elsewhere")):
        with pytest.raises(ValueError, match="twice"):
            mine(name, source="ours", certainty="ours")(made(module))
