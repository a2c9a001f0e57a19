"""The house rules: import order, public names, a quick and silent import, entries that explain themselves."""

from __future__ import annotations

import json
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


LIGHT = """
import json, sys
from workbench.cli.app import main
loaded = {}
for words in json.loads(sys.argv[1]):
    heavy = {"torch", "transformers"} | ({"pandas", "sklearn", "scipy"} if words[0] == "align" else set())
    loaded[" ".join(words)] = [main(words), *sorted(heavy & set(sys.modules))]
print(json.dumps(loaded))
"""


def test_commands_that_need_no_model_load_no_torch(tmp_path: Path) -> None:
    """One process for all: what none of them has loaded at the end, each did without."""
    random_table().to_parquet(tmp_path / "scores.parquet")
    helps = [["--help"], *([command, "--help"] for command in COMMANDS.commands)]
    words = json.dumps([["align", "scores.parquet"], *helps, ["models", "list"], ["runs", "list"]])
    command = [sys.executable, "-c", LIGHT, words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {name: each for name, each in loaded.items() if each != [0]} == {}
    assert len(loaded) == len(helps) + 3
    assert done.stderr == ""


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
